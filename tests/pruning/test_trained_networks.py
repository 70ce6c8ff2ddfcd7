"""Training of networks that are no language models: fine-tuning, and the methods that train, by a family of a file."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from checkpoints.network import Network
from pruning.bundle_values import read_weight
from pruning.config import CalibrationConfig, FinetuneConfig, PruneConfig
from pruning.families.network import NetworkFamily, apart_as_events
from pruning.forward.network_outputs import differences
from pruning.recovery import loop, network_objective
from pruning.recovery.finetune import finetune, read_history
from pruning.recovery.network_flow import NetworkFlow
from pruning.recovery.network_objective import OutputObjective, with_dense_outputs
from pruning.recovery.plan import make_plan
from pruning.recovery.start import load_whole
from pruning.run.driver import prune
from studies.prune import open_model, recipe_for
from tests.pruning.nets import FAMILY, seeded
from validation.conformance.tiny_models import contents, quiet
from workloads.bundle import MaskBundle
from workloads.errors import NotForThisModel, UserError

METHODS = ["gradual", "iss-p"]


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("family") / "nets.py"
    path.write_text(FAMILY)
    return f"{path}:Tiny"


def pruned(name: str, out: Path, method: str, asked: dict[str, Any] | None = None, **settings: Any) -> MaskBundle:
    network = open_model(name, "float32")
    given = {"sparsity": 0.5} | (asked or {})
    recipe = recipe_for(name, network, PruneConfig(method, set=settings, **given), CalibrationConfig(samples=12))
    return prune(network, recipe, out, quiet, quiet)


def trained(name: str, masks: MaskBundle, out: Path, **settings: Any) -> MaskBundle:
    asked: dict[str, Any] = {"steps": 30, "batch": 4, "samples": 24, "held_out": "0.25", "lr": 3e-3, "eval_every": 10}
    return finetune(open_model(name, "float32"), masks, make_plan(FinetuneConfig(**(asked | settings)), name), out,
                    quiet, quiet)  # fmt: skip


def test_the_distance_of_events_by_hand() -> None:
    p, q = torch.tensor([[0.5, 0.9]]), torch.tensor([[0.25, 0.9]])
    wanted = (0.25 * torch.tensor(0.5).log() + 0.75 * torch.tensor(1.5).log()) / 2  # KL(q || p); 0 where they agree
    assert float(apart_as_events(p, q)) == pytest.approx(float(wanted), rel=1e-5)
    assert float(apart_as_events(q, q)) == pytest.approx(0, abs=1e-7)
    sure = torch.tensor([[1e-30]], requires_grad=True)
    apart_as_events(sure, torch.tensor([[1.0]])).backward()
    assert bool(torch.isfinite(sure.grad).all())


def test_the_distance_unless_a_family_says_otherwise() -> None:
    output, dense = torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert float(NetworkFamily().distance(output, dense)) == 2.0 + 0.5
    assert float(NetworkFamily().distance(output[:, 1], dense[:, 1])) == 4.0


def test_it_follows_the_network_before_anything_was_done_to_it(name: str, tmp_path: Path) -> None:
    masks = pruned(name, tmp_path / "masks", "magnitude")
    network = open_model(name, "float32")
    assert isinstance(network, Network)
    inputs = network.family.samples(10, 3)
    samples = with_dense_outputs(network, inputs, "test")
    assert torch.allclose(samples.outputs, network.family.build("")(inputs), atol=1e-5)
    network.load_all()
    inputs, dense = samples.take([0, 1])
    energy = float(network.family.distance(dense, torch.zeros_like(dense)))
    assert float(OutputObjective(network).own_loss((inputs, dense))) < 1e-11 * energy  # rounding of float32
    bundle = trained(name, masks, tmp_path / "trained")
    assert bundle.header.method == "magnitude+finetune"
    assert bundle.header.parameters["finetune"][0]["text"]["samples"] == 18


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_finetuning_brings_a_pruned_network_nearer_and_keeps_its_masks(mode: str, name: str, tmp_path: Path) -> None:
    masks = pruned(name, tmp_path / "masks", "wanda")
    bundle = trained(name, masks, tmp_path / "trained", mode=mode)
    looks = read_history(bundle)
    assert looks[-1].held_out_loss < 0.8 * looks[0].held_out_loss
    for old, new in zip(masks.layers, bundle.layers, strict=True):
        assert (old.name, old.sha256, old.nnz) == (new.name, new.sha256, new.nnz)
        weight, keep = read_weight(bundle, new.name), torch.from_numpy(bundle[new.name].to_dense())
        assert weight is not None
        assert not bool(weight[~keep].any())


def test_a_smaller_network_is_trained(name: str, tmp_path: Path) -> None:
    masks = pruned(name, tmp_path / "masks", "flap")
    bundle = trained(name, masks, tmp_path / "trained")
    assert [entry.layer for entry in bundle.entries] == [entry.layer for entry in masks.entries]
    looks = read_history(bundle)
    assert looks[-1].held_out_loss < looks[0].held_out_loss


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", ["0.5", "1:2"])
def test_methods_that_train_count_exactly(method: str, target: str, name: str, tmp_path: Path) -> None:
    if target == "1:2":
        asked = {"pattern": "1:2", "sparsity": None, "fallback": "skip"}
        bundle = pruned(name, tmp_path / "masks", method, asked, steps=5, batch=3)
        for entry in bundle.layers:
            if entry.in_features % 2 == 0:
                assert (bundle[entry.name].to_dense().reshape(-1, 2).sum(axis=1) == 1).all()
        return
    bundle = pruned(name, tmp_path / "masks", method, steps=5, batch=3)
    weights = sum(entry.layer.n_weights for entry in bundle.layers)
    assert sum(entry.layer.n_weights - entry.nnz for entry in bundle.layers) == weights // 2
    assert bundle.changes_weights


@pytest.mark.parametrize("method", ["finetune", *METHODS])
def test_a_killed_run_goes_on_to_the_same_bytes_on_any_number_of_threads(
    method: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = pruned(name, tmp_path / "masks", "wanda") if method == "finetune" else None

    def made(out: Path) -> None:
        if masks is not None:
            trained(name, masks, out, steps=4, save_every=1)
        else:
            pruned(name, out, method, steps=4, batch=4)

    monkeypatch.setattr(network_objective, "BATCH_SAMPLES", 1)  # a sample a piece
    monkeypatch.setenv("PRUNESIM_THREADS", "1")
    made(tmp_path / "whole")
    monkeypatch.setenv("PRUNESIM_THREADS", "3")
    count, step = [0], loop.one_step

    def step_or_die(*args: Any) -> None:
        if count[0] == 2:
            raise KeyboardInterrupt
        count[0] += 1
        step(*args)

    monkeypatch.setattr(loop, "one_step", step_or_die)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "parts")
    monkeypatch.setattr(loop, "one_step", step)
    made(tmp_path / "parts")
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")


def test_a_network_opened_once_is_as_before_after_a_method_that_trains(name: str, tmp_path: Path) -> None:
    network = open_model(name, "float32")
    data = torch.randn(2, 3, 12, 12)
    assert isinstance(network, Network)
    network.load_all()
    before = network.run(data)
    asked = PruneConfig("gradual", 0.5, set={"steps": 2})
    prune(network, recipe_for(name, network, asked, CalibrationConfig(samples=4)), tmp_path / "masks", quiet, quiet)
    network.load_all()
    assert torch.equal(network.run(data), before)
    assert not any(p.requires_grad for p in network.model.parameters())


def test_settings_of_texts_are_refused(name: str, tmp_path: Path) -> None:
    for given in ({"text": "a.txt"}, {"seq_len": 4}, {"distill": "logits"}, {"guide": True}):
        with pytest.raises(UserError, match="is of language models"):
            make_plan(FinetuneConfig(steps=2, **given), name)
    with pytest.raises(UserError, match="must be at least 2"):
        make_plan(FinetuneConfig(steps=2, samples=1), name)
    with pytest.raises(UserError, match="is of networks that read no text"):
        make_plan(FinetuneConfig(steps=2, samples=9, text="a.txt"))
    with pytest.raises(NotForThisModel, match="leave `distill` out"):
        pruned(name, tmp_path / "out", "gradual", distill="logits")
    assert not (tmp_path / "out").exists()


class Straight(nn.Module):
    """Units of one shape, and one of another behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.a(states)))))


def straight() -> Network:
    net = seeded(Straight())
    return Network("net", net, torch.randn(3, 4), NetworkFamily(), torch.float32, torch.device("cpu"))


def test_the_flow_of_a_network_by_hand() -> None:
    """States of 4, 4, 4 and 3 numbers: the last is linked to none."""
    network = straight()
    assert len(network.blocks) == 3
    readers = [group.target for group in network.channels.groups]
    assert [ref.layer.name for ref in readers] == ["b", "c"]
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    samples = with_dense_outputs(network, x, "test")
    flowing = NetworkFlow(network, (0.5, 0.25, 2.0), readers)
    loss, *terms = (float(part) for part in flowing._parts((samples.inputs, samples.outputs)))
    path = [x]
    for unit in network.blocks:
        path.append(unit(path[-1]).detach())
    one, two, three, _ = (state.double() for state in path)
    steps = [(two - one), (three - two)]
    wanted = [
        sum(float(step.abs().mean(1).sum()) for step in steps),
        float((steps[1] - steps[0]).abs().mean(1).sum()),
        float(sum(z.abs().mean(1).sum() for z in seen_by(network, x))),
    ]
    assert loss == pytest.approx(0, abs=1e-9)
    assert terms == pytest.approx(wanted, rel=1e-5)
    batch = samples.take([0, 1, 2, 3, 4])
    flowing.measure(batch)
    apart = float((samples.outputs - samples.outputs.roll(1, 0)).square().mean(1).sum())
    assert float(flowing(batch)) == pytest.approx(2.75 * apart, rel=1e-4)  # each weight is its share of that
    flowing.close()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.model.modules())


def seen_by(network: Network, x: torch.Tensor) -> list[torch.Tensor]:
    net = seeded(Straight())
    first = torch.relu(net.a(x))
    return [first.detach().double(), torch.relu(net.b(first)).detach().double()]


def test_outputs_that_are_all_alike_are_compared_with_one() -> None:
    assert differences(NetworkFamily().distance, torch.ones(3, 2)) == 1.0
    assert differences(NetworkFamily().distance, torch.tensor([[0.0], [2.0]])) == 4.0


def test_flow_takes_channels_out_of_what_it_trained(name: str, tmp_path: Path) -> None:
    masks = pruned(name, tmp_path / "masks", "ffr", {"sparsity": 0.3}, steps=6, batch=4)
    network, dense = open_model(name, "float32"), open_model(name, "float32")
    assert isinstance(network, Network)
    assert isinstance(dense, Network)
    load_whole(network, masks)
    assert masks.removal.cuts
    assert any(not torch.equal(read_weight(masks, entry.name), dense_part(dense, masks, entry.name))
               for entry in masks.layers)  # fmt: skip
    for ref in (ref for refs in network.found_refs() for ref in refs):
        weight = read_weight(masks, ref.layer.name)
        assert torch.equal(ref.matrix(network.blocks[ref.layer.block]), weight)


@pytest.mark.parametrize("units", ["blocks", "heads"])
def test_units_that_a_network_has_not_are_refused_before_anything_is_trained(
    name: str, tmp_path: Path, units: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.Loop, "run", lambda self: pytest.fail("trained"))
    with pytest.raises(NotForThisModel, match="which count as neurons, and no other units"):
        pruned(name, tmp_path / "masks", "ffr", {"sparsity": 0.3}, units=units)
    assert not (tmp_path / "masks").exists()


def dense_part(network: Network, masks: MaskBundle, name: str) -> torch.Tensor:
    """What the cut leaves of the network's own weights."""
    (ref,) = (ref for refs in network.found_refs() for ref in refs if ref.layer.name == name)
    whole, cut = ref.matrix(network.blocks[ref.layer.block]), masks.removal.cuts.get(name)
    return whole if cut is None else whole[cut.rows][:, cut.cols]


def test_activations_of_a_network_that_are_paid_for_become_small(name: str, tmp_path: Path) -> None:
    """What enters the second convolution of the residual block, with the term and without."""
    sizes = []
    for weight in (0.0, 200.0):
        masks = pruned(name, tmp_path / f"{weight}", "ffr", {"sparsity": 0.05}, steps=20, batch=4, length=0.0,
                       curvature=0.0, activation=weight, lr=3e-3)  # fmt: skip
        network = open_model(name, "float32")
        assert isinstance(network, Network)
        load_whole(network, masks)
        inner: list[float] = []
        network.model.second.register_forward_pre_hook(
            lambda m, args, own=inner: own.append(float(args[0].abs().mean()))
        )
        network.run(network.family.samples(4, 5))
        sizes.append(inner[0])
    assert sizes[1] < 0.8 * sizes[0]
