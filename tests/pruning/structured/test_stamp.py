"""STAMP: budgets, gates and features against plain programs, gradients by differences, its start and its ends."""

import math
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from pruning.methods.structured.stamp import by_group, kinds_of, most_probable
from pruning.run.driver import prune
from pruning.structured.generator import (
    Features,
    Generator,
    bernoulli_kl,
    gates,
    norms,
    seen_by_sequence,
    within_budget,
)
from pruning.structured.masked_model import MaskedModel
from pruning.structured.units import groups_of
from tests.pruning.recipes import recipe
from tests.pruning.structured.test_choice import group
from validation.conformance.tiny_models import contents, load_whole, quiet, save, token_ids
from workloads.errors import UserError


def test_logits_meet_their_budget():
    logits = torch.randn(40, generator=torch.Generator().manual_seed(0)) * 3
    kinds = torch.arange(40) % 2
    moved = within_budget(logits, kinds, 0.3)
    for kind in (0, 1):
        own = kinds == kind
        assert float(moved[own].sigmoid().mean()) == pytest.approx(0.3, abs=1e-5)
        shift = moved[own] - logits[own]
        assert float(shift.max() - shift.min()) < 1e-5
    given = logits.clone().requires_grad_()
    within_budget(given, kinds, 0.3).sum().backward()
    assert (given.grad == 1).all()


def test_gates_open_with_their_probability():
    draws = torch.Generator().manual_seed(0)
    logits = torch.tensor([-2.0, 0.0, 1.5]).repeat(20_000, 1)
    found = gates(logits, draws)
    assert float(found.min()) == 0
    assert float(found.max()) == 1
    chance = logits[0].sigmoid()
    apart = ((found > 0.5).float().mean(dim=0) - chance).abs()
    assert (apart < 4 * (chance * (1 - chance) / 20_000).sqrt()).all()
    # P(gate = 0) = P(logistic noise < tau log(0.1 / 1.1) - logit)
    shut = torch.sigmoid(2 / 3 * math.log(0.1 / 1.1) - logits[0])
    assert (((found == 0).float().mean(dim=0) - shut).abs() < 4 * (shut * (1 - shut) / 20_000).sqrt() + 1e-4).all()


def test_bernoulli_by_hand():
    found = float(bernoulli_kl(torch.tensor([math.log(0.8 / 0.2)]), 0.5))
    assert found == pytest.approx(0.8 * math.log(1.6) + 0.2 * math.log(0.4), rel=1e-5)
    assert float(bernoulli_kl(torch.zeros(3), 0.5)) == pytest.approx(0.0, abs=1e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"))


def groups_and_scores(checkpoint: Checkpoint):
    refs = checkpoint.found_refs()
    found = []
    for number, block in enumerate(checkpoint.blocks):
        found += groups_of(block, checkpoint.block_paths[number], refs[number])
    draws = torch.Generator().manual_seed(0)
    return [(made, torch.rand(made.count, generator=draws, dtype=torch.float64)) for made in found]


def test_what_is_seen_of_a_set(folder):
    """Of block 1's down against a hook on the plain model; norms against sums over rows and columns."""
    ids, checkpoint = token_ids(4, 9), Checkpoint(folder)
    groups = groups_and_scores(checkpoint)
    seen_inputs = []
    whole = load_whole(folder)
    down = whole.model.layers[1].mlp.down_proj
    down.register_forward_pre_hook(lambda _, args: seen_inputs.append(args[0].double()))
    with torch.no_grad():
        for sequence in ids[[0, 2]].split(1):
            whole(input_ids=sequence)
    z = torch.cat(seen_inputs).reshape(-1, down.in_features)
    with MaskedModel(checkpoint, [made for made, _ in groups]) as model:
        found = seen_by_sequence(model, groups, ids)
        (neurons,) = [made for made, _ in groups if made.key == "model.layers.1.mlp.neuron"]
        square, size, variance = found[neurons.key].of([0, 2])
        columns, rows = norms(model, neurons)
        features = Features(model, groups, {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4}, ids).of([0, 1, 2, 3])
    torch.testing.assert_close(square, z.square().mean(dim=0), rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(size, z.abs().mean(dim=0), rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(variance, z.var(dim=0, unbiased=False), rtol=1e-3, atol=1e-9)
    mlp = whole.model.layers[1].mlp
    torch.testing.assert_close(columns, mlp.down_proj.weight.detach().double().norm(dim=0))
    both = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight], dim=1).detach().double()
    torch.testing.assert_close(rows, both.norm(dim=1))
    assert features.shape == (sum(made.count for made, _ in groups), 25)
    assert float(features.mean(dim=0).abs().max()) < 1e-4


def test_the_divergence_and_its_gradient(folder, tmp_path):
    """Zero with open gates; by differences for one gate of a neuron, one of a kv group."""
    checkpoint, ids = Checkpoint(folder, torch.float64), token_ids(2, 7)
    groups = groups_and_scores(checkpoint)
    with MaskedModel(checkpoint, [made for made, _ in groups]) as model:
        gate = torch.rand(sum(made.count for made, _ in groups), generator=torch.Generator().manual_seed(1)).double()
        assert float(model.apart(ids, by_group(groups, torch.ones_like(gate)))) == pytest.approx(0.0, abs=1e-6)
        with torch.enable_grad():
            given = gate.clone().requires_grad_()
            (found,) = torch.autograd.grad(model.apart(ids, by_group(groups, given)), given)
        strongest = found.abs().argsort(descending=True)[:3]
        for unit in strongest.tolist():
            values = []
            for change in (0.02, -0.02):
                other = gate.clone()
                other[unit] += change
                values.append(float(model.apart(ids, by_group(groups, other))))
            assert (values[0] - values[1]) / 0.04 == pytest.approx(float(found[unit]), rel=0.05, abs=1e-6)


def test_shut_gates_are_silent_units(folder, tmp_path):
    """The losses of sets of units, and the logits under gates of 0 and 1, say the same of the next tokens."""
    checkpoint, ids = Checkpoint(folder), token_ids(2, 7)
    groups = groups_and_scores(checkpoint)
    kept = {made.key: np.arange(made.count) % 2 == 0 for made, _ in groups}
    with MaskedModel(checkpoint, [made for made, _ in groups]) as model:
        wanted = model.loss(kept, ids)
        columns = {made.key: torch.from_numpy(kept[made.key][made.columns]) for made, _ in groups}
        logits = model.logits(ids, {key: (lambda x, k=key: x * columns[k]) for key in columns})
    found = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-5)


def test_at_first_the_generator_is_the_score():
    groups = [(group("a", 4), torch.arange(4.0).double()), (group("b", 3), torch.tensor([3.0, 1.0, 2.0]).double())]
    made = Generator(groups, 8, torch.Generator().manual_seed(0))
    logits = made(torch.randn(7, 25)).detach()
    assert logits[:4].argsort().tolist() == [0, 1, 2, 3]
    assert logits[4:].tolist() == pytest.approx([1.0, -1.0, 0.0])
    assert kinds_of(groups).tolist() == [0] * 7


def test_the_most_probable_stay():
    groups = [(group("a", 4), torch.zeros(4).double()), (group("b", 4), torch.zeros(4).double())]

    class Asked:
        sparsity, multiple_of = 0.5, 1

    kept = most_probable(Asked(), groups, np.array([4.0, 3, 2, 1, 0, -1, -2, 9]))  # type: ignore[arg-type]
    assert kept["a.neuron"].tolist() == [True, True, True, False]
    assert kept["b.neuron"].tolist() == [False, False, False, True]


def test_training_lowers_the_loss(folder, tmp_path):
    """Of the calibration set, against Wanda-sp's choice; or that stays."""
    told: list[str] = []
    ids = token_ids(8, 12)
    asked = recipe("stamp", 0.5, ids=ids, steps=25, adapt=3, lr=0.05)
    made = prune(Checkpoint(folder), asked, tmp_path / "stamp", quiet, told.append)
    plain = prune(Checkpoint(folder), recipe("wanda-sp", 0.5, ids=ids), tmp_path / "wanda", quiet, quiet)
    from pruning.evaluation.perplexity import perplexity

    found, start = (perplexity(Checkpoint(folder), ids, bundle, quiet) for bundle in (made, plain))
    assert found < start or any("so the latter stays" in text for text in told)


STEPS = "learning masks"
FEW = recipe("stamp", 0.5, ids=token_ids(5, 12), steps=4, adapt=3, hidden=8)


class Stopped(BaseException):
    """Nothing may catch it."""


def steps_told(folder: Path, out: Path, stop_at: int = -1) -> list[str]:
    """What a run tells of its steps, up to the one at whose beginning it is stopped."""
    told: list[str] = []

    def tell(what: str, done: int, of: int) -> None:
        if what.startswith(STEPS):
            if done == stop_at:
                raise Stopped
            told.append(what)

    with suppress(Stopped):
        prune(Checkpoint(folder), FEW, out, tell, quiet)
    return told


@pytest.fixture(scope="module")
def in_one_go(folder, tmp_path_factory) -> tuple[list[str], dict[str, bytes]]:
    out = tmp_path_factory.mktemp("whole")
    return steps_told(folder, out), contents(out)


@pytest.mark.parametrize("step", [0, 2, 4, 6])
def test_a_stopped_search_goes_on(folder, tmp_path, in_one_go, step):
    """Among the steps on subsets, where those on all begin, and among these: to the same losses and bytes, and no step
    is taken twice."""
    first = steps_told(folder, tmp_path, step)
    assert len(first) == step
    assert not (tmp_path / "bundle.json").exists()
    assert (first + steps_told(folder, tmp_path), contents(tmp_path)) == in_one_go


def test_a_damaged_state_is_refused(folder, tmp_path):
    steps_told(folder, tmp_path, 2)
    (state,) = tmp_path.glob("search-*")
    state.write_bytes(state.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=f"{state.name} is damaged"):
        prune(Checkpoint(folder), FEW, tmp_path, quiet, quiet)


@pytest.mark.parametrize(
    ("asked", "message"),
    [({"steps": 0}, "stamp: steps = 0"), ({"lr": 0.0}, "stamp: lr"), ({"units": "blocks"}, "stamp: units")],
)
def test_settings_that_cannot_be(asked, message):
    with pytest.raises(UserError, match=message):
        recipe("stamp", 0.5, **asked)
