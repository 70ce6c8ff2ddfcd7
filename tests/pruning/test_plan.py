"""Plans: each matrix gets what is said of it, as a run with that alone would make it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs
from pruning.config import PruneConfig
from pruning.data.calibration import Calibration
from pruning.plan import Plan
from pruning.run.choice_errors import choice_errors
from pruning.run.driver import prune, start
from pruning.run.error_table import error_table, probed
from pruning.run.make_recipe import make_recipe
from pruning.run.replace_one import divergences
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import load_whole, quiet, save, token_ids
from workloads.bundle_writer import BundleWriter
from workloads.choices import choices_of, parse_choice
from workloads.errors import UserError

PLAN = {"q_proj": "2:4", "k_proj": "unstructured-30", "o_proj": "bits:4", "down_proj": "unstructured-60+bits:4"}


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"), shard_size="30KB")


def named(checkpoint: Checkpoint) -> dict[str, str]:
    """PLAN for every block."""
    names = [ref.layer.name for block in all_refs(checkpoint) for ref in block]
    return {name: PLAN[end] for name in names if (end := name.rpartition(".")[2]) in PLAN}


def test_each_matrix_gets_its_own(llama: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint(llama)
    plan = named(checkpoint)
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    made = make_recipe(PruneConfig("magnitude", plan=tmp_path / "plan.json"))
    bundle = prune(checkpoint, made, tmp_path / "masks", quiet, quiet)
    half = prune(Checkpoint(llama), recipe("magnitude", pattern="2:4"), tmp_path / "half", quiet, quiet)
    for entry in bundle.layers:
        end = entry.name.rpartition(".")[2]
        choice = parse_choice(PLAN.get(end, "dense"))
        assert entry.weight_bits == choice.bits
        assert entry.pattern == (str(choice.pattern) if choice.pattern else "unstructured" if choice.zeros else "dense")
        if end == "q_proj":
            assert (bundle[entry.name].words == half[entry.name].words).all()
        if end not in PLAN or end == "o_proj":
            assert entry.nnz == entry.layer.n_weights
    for end in ("k_proj", "down_proj"):
        own = [entry for entry in bundle.layers if entry.name.endswith(end)]
        share = 1 - sum(entry.nnz for entry in own) / sum(entry.layer.n_weights for entry in own)
        assert share == pytest.approx(parse_choice(PLAN[end]).sparsity, abs=2 / own[0].layer.n_weights)
    assert bundle.header.parameters["plan"] == plan
    again = prune(Checkpoint(llama), made, tmp_path / "masks", quiet, quiet)
    assert again.sha256 == bundle.sha256


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ('{"a.b": "2:4"}', {}, "which this model has not"),
        ('["2:4"]', {}, "no object of names and choices"),
        ("{}", {}, "leaves every matrix as it is"),
        ('{"a.b": "half"}', {}, "unknown choice 'half'"),
        ('{"a.b": "2:4"}', {"sparsity": 0.5}, "leave `sparsity` out"),
        ('{"a.b": "2:4"}', {"bits": 4}, "leave `bits` out"),
        ('{"a.b": "2:4"}', {"rule": "global"}, "rule global"),
        ('{"a.b": "2:4"}', {"method": "flap"}, "a `plan` is of masks"),
    ],
)
def test_plans_that_cannot_be(content: str, settings: dict, message: str, llama: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(content)
    asked = PruneConfig(**{"method": "magnitude", "plan": tmp_path / "plan.json", **settings})
    with pytest.raises(UserError, match=message):
        prune(Checkpoint(llama), make_recipe(asked), tmp_path / "masks", quiet, quiet)


def test_errors_are_those_of_the_outputs(llama: Path, tmp_path: Path) -> None:
    """Against the inputs themselves, caught in the whole model, and masks of a row's lowest scores."""
    ids, choices = token_ids(3, 12), choices_of(["unstructured", "2:4"], levels=3)
    checkpoint = Checkpoint(llama)
    asked = recipe("wanda", 0.5, ids=ids)
    with_writer = BundleWriter(tmp_path, asked.header(checkpoint))
    run = start(checkpoint, asked, with_writer, all_refs(checkpoint), quiet, quiet)
    found = choice_errors(run, choices)
    model = load_whole(llama).float()
    inputs: dict[str, list[torch.Tensor]] = {}
    for name, module in model.named_modules():
        if name in found:
            module.register_forward_pre_hook(
                lambda module, args, name=name: inputs.setdefault(name, []).append(args[0].detach())
            )
    with torch.no_grad():
        for row in ids:
            model(row[None])
    for name in found:
        weight, x = model.get_submodule(name).weight.double(), torch.cat(inputs[name]).flatten(0, 1).double()
        scores = weight.abs() * x.square().sum(0).sqrt()
        runs = scores.reshape(len(weight), -1, 4)
        keep = (runs.argsort(2).argsort(2) >= 2).reshape(weight.shape)
        wanted = ((weight * ~keep) @ x.T).square().sum() / (weight @ x.T).square().sum()
        assert found[name][choices.index(parse_choice("2:4"))] == pytest.approx(float(wanted), rel=1e-4)
        assert found[name][0] == 0
        assert found[name][1] < found[name][2]  # 44 % and 88 %


def test_one_changed_matrix_in_the_predictions(llama: Path) -> None:
    checkpoint, ids = Checkpoint(llama), token_ids(2, 10)
    refs = [ref for block in all_refs(checkpoint) for ref in block]
    name = refs[-1].layer.name
    model = load_whole(llama).float()
    weight = model.get_submodule(name).weight.detach().clone()
    found = divergences(checkpoint, refs, {name: weight * 0.5, refs[0].layer.name: _weight(model, refs[0])},
                        ids, quiet)  # fmt: skip
    with torch.no_grad():
        p = torch.cat([model(row[None]).logits[0, :-1] for row in ids]).log_softmax(-1)
        model.get_submodule(name).weight.mul_(0.5)
        q = torch.cat([model(row[None]).logits[0, :-1] for row in ids]).log_softmax(-1)
    assert found[name] == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-3)
    assert found[refs[0].layer.name] == pytest.approx(0, abs=1e-7)  # the weight it has


def _weight(model: torch.nn.Module, ref) -> torch.Tensor:
    return model.get_submodule(ref.layer.name).weight.detach().clone()


def test_probed_errors_are_those_of_the_outputs_times_one_factor_a_matrix(llama: Path, tmp_path: Path) -> None:
    choices = choices_of(["unstructured", "2:4", "bits:4"], levels=4)
    asked = make_recipe(PruneConfig("wanda", 0.5, bits=4))
    asked = type(asked)(**{**vars(asked), "calibration": Calibration(token_ids(3, 12), "test")})

    def table(kind):
        return error_table(lambda: Checkpoint(llama), asked, choices, kind, tmp_path / kind, quiet, quiet)

    plain, probe, kl = table("output"), table("probe"), table("kl")
    at = probed(choices)
    assert str(choices[at]) == "2:4"
    for name in plain:
        ratios = probe[name][1:] / plain[name][1:]
        assert ratios == pytest.approx(np.full(len(ratios), ratios[0]))
        assert probe[name][at] == pytest.approx(kl[name][at], rel=1e-6)
        assert plain[name][choices.index(parse_choice("bits:4"))] < plain[name][at]
    assert not any((tmp_path / kind).exists() for kind in ("output", "probe", "kl"))


def test_a_plan_is_read_as_it_is_written(tmp_path: Path) -> None:
    plan = Plan.of({"a": parse_choice("2:4+bits:3"), "b": parse_choice("dense"), "c": parse_choice("unstructured-8")})
    plan.write(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == plan
    assert (plan.bits, plan.highest, list(plan.choices)) == (3, 0.5, ["a", "c"])
