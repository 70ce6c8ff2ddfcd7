"""Feature flow regularization: its terms by hand, what it scores, and what its bundle holds."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from pruning.bundle_values import read_weight
from pruning.evaluation.perplexity import perplexity
from pruning.methods.structured.ffr import Ffr
from pruning.recovery.flow_objective import FlowObjective, flow
from pruning.recovery.start import load_whole as load_into
from pruning.run import driver
from pruning.run.driver import prune
from pruning.saving.smaller import save_smaller
from pruning.structured.evidence import importance
from pruning.structured.units import groups_of
from tests.pruning.recipes import recipe
from validation.conformance import training_laws
from validation.conformance.tiny_models import load_whole, quiet, save, token_ids
from validation.conformance.trial import subject_of
from workloads.bundle import MaskBundle
from workloads.removal import NEURON

QUICK: dict[str, Any] = {"steps": 3, "batch": 2, "lr": 0.01}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"))


def made(model: Path, out: Path, sparsity: float = 0.3, **asked: Any) -> MaskBundle:
    return prune(Checkpoint(model), recipe("ffr", sparsity, **(QUICK | asked)), out, quiet, quiet)


def test_a_path_by_hand() -> None:
    """Two tokens of two channels over three states: steps (1, 1), (0, 2) and (3, 1), (0, 0)."""
    states = [torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[1.0, -1.0], [1.0, 3.0]]),
              torch.tensor([[4.0, 0.0], [1.0, 3.0]])]  # fmt: skip
    length, curvature = flow(states)
    assert float(length) == (1 + 1) / 2 + (0 + 2) / 2 + (3 + 1) / 2 + 0
    assert float(curvature) == (2 + 2) / 2 + (0 + 2) / 2
    straight = [torch.full((3, 2), float(n)) for n in range(4)]
    assert [float(each) for each in flow(straight)] == [9, 0]
    assert float(flow(straight[:2])[1]) == 0  # a path of one step is not bent


def test_the_terms_are_those_of_the_models_states_and_start_at_their_shares(llama: Path) -> None:
    ids = token_ids(3, 12)
    checkpoint = Checkpoint(llama)
    load_into(checkpoint)
    groups = [g for n, refs in enumerate(checkpoint.found_refs())
              for g in groups_of(checkpoint.blocks[n], checkpoint.block_paths[n], refs)]  # fmt: skip
    ffns = [g.output for g in groups if g.kind == NEURON]
    learning = FlowObjective(checkpoint, (0.25, 0.5, 0.125), ffns)
    plain = float(learning((ids, ids)))
    learning.measure(torch.device("cpu"), (ids, ids))
    assert float(learning((ids, ids))) == pytest.approx((1 + 0.25 + 0.5 + 0.125) * plain, rel=1e-5)
    _, length, curvature, activation = map(float, learning._parts((ids, ids)))
    learning.close()
    whole, states, inner = load_whole(llama), [], []
    for number, block in enumerate(whole.model.layers):
        if number == 0:
            block.register_forward_pre_hook(lambda m, args, own=states: own.append(args[0]))
        block.register_forward_hook(lambda m, args, out, own=states: own.append(out))
        block.mlp.down_proj.register_forward_pre_hook(lambda m, args, own=inner: own.append(args[0]))
    whole(input_ids=ids)
    x = [state[:, :-1].double().numpy() for state in states]
    assert length == pytest.approx(sum(np.abs(b - a).mean(-1).sum() for a, b in pairwise(x)), rel=1e-4)
    bent = sum(np.abs(x[n + 1] - 2 * x[n] + x[n - 1]).mean(-1).sum() for n in range(1, len(x) - 1))
    assert curvature == pytest.approx(bent, rel=1e-4)
    assert activation == pytest.approx(sum(float(z[:, :-1].abs().mean(-1).sum()) for z in inner), rel=1e-4)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in checkpoint.model.modules())


@pytest.mark.parametrize("units", ["all", "blocks"])
def test_the_bundle_holds_the_trained_weights_without_what_goes(
    units: str, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, structured = [], driver.prune_structured
    monkeypatch.setattr(driver, "prune_structured", lambda run: (seen.append(run), structured(run)))
    bundle = made(llama, tmp_path / "masks", 0.5, units=units)
    decided, cuts, whole = seen[0].decided, bundle.removal.cuts, load_whole(llama)
    for entry in bundle.layers:
        weight = decided[entry.name].weight
        assert not torch.equal(weight, whole.get_parameter(f"{entry.name}.weight"))
        cut = cuts.get(entry.name)
        wanted = weight if cut is None else weight[cut.rows][:, cut.cols]
        assert torch.equal(read_weight(bundle, entry.name), wanted)
    assert bundle.removal.words != "nothing"
    save_smaller(llama, bundle, tmp_path / "saved", quiet)
    ids = token_ids(4, 12, seed=5)
    found = perplexity(Checkpoint(llama), ids, bundle, quiet)
    assert found == pytest.approx(perplexity(Checkpoint(tmp_path / "saved"), ids, None, quiet), rel=1e-5)


def test_without_training_the_shortest_step_goes(llama: Path, tmp_path: Path) -> None:
    bundle = made(llama, tmp_path / "masks", 0.5, steps=0, units="blocks")
    whole, states = load_whole(llama), []
    for block in whole.model.layers:
        block.register_forward_hook(lambda m, args, out: states.append((args[0], out)))
    whole(input_ids=token_ids(5, 12))
    steps = [float((v - u).abs().mean() / u.abs().mean()) for u, v in states]
    assert bundle.removal.blocks == {int(np.argmin(steps))}
    assert all(read_weight(bundle, entry.name) is None for entry in bundle.layers)


def test_importance_has_the_size_of_what_enters() -> None:
    u = torch.tensor([[[1.0, -3.0], [0.0, 2.0]]])
    assert importance(u, u)["size"] == 2 + 1


def test_activations_that_are_paid_for_become_small(llama: Path, tmp_path: Path) -> None:
    """The mean size of what enters down after training, with the term and without."""
    sizes = []
    for weight in (0.0, 5.0):
        bundle = made(llama, tmp_path / f"{weight}", 0.1, steps=12, length=0.0, curvature=0.0, activation=weight,
                      units="heads")  # fmt: skip
        checkpoint = Checkpoint(llama)
        load_into(checkpoint, bundle)
        inner: list[float] = []
        for block in checkpoint.blocks:
            down = block.get_submodule("mlp.down_proj")
            down.register_forward_pre_hook(lambda m, args, own=inner: own.append(float(args[0].detach().abs().mean())))
        checkpoint.model(input_ids=token_ids(5, 12))
        sizes.append(sum(inner))
    assert sizes[1] < 0.8 * sizes[0]


def test_threads_change_nothing_and_keeping_all_trains_nothing() -> None:
    subject = subject_of(Ffr)
    training_laws.threads_change_nothing(subject, subject.trial())
    training_laws.keeping_all_changes_nothing(subject, subject.trial())
