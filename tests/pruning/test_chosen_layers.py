"""Pruning some layers of a model: the chosen ones as asked, the others dense, and counted."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs
from pruning.evaluation.perplexity import perplexity
from pruning.run.driver import prune
from pruning.run.layer_sparsities import layer_sparsities
from tests.pruning.contract import ALLOCATED, PATTERNS, PLAIN, QUANTIZED, Case
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import contents, load_whole, quiet, save, token_ids
from workloads.bundle import MaskBundle
from workloads.errors import NotForThisModel, UserError
from workloads.patterns import DENSE
from workloads.selectors import Selection

MLP = Selection(("*.mlp.*",))
LAST = Selection(("gate,up,o", "blocks:1"))  # nothing of block 0
# One of each kind of run that differs in what it does with a block's matrices.
KINDS = [PLAIN[0], PLAIN[2], PLAIN[3], PLAIN[5], PLAIN[9], PLAIN[11], PATTERNS[3], QUANTIZED[0], QUANTIZED[3],
         QUANTIZED[8],
         QUANTIZED[9], QUANTIZED[12], ALLOCATED[1]]  # fmt: skip


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its down projections have 50 inputs, which neither 4 nor 16 divides."""
    return save("llama", tmp_path_factory.mktemp("odd"), intermediate_size=50)


def make(model: Path, folder: Path, case: Case, selection: Selection, **more) -> MaskBundle:
    return prune(Checkpoint(model), case.recipe(only=selection.only, skip=selection.skip, **more), folder, quiet, quiet)


def masks_of(bundle: MaskBundle, dense: bool = False) -> dict[str, np.ndarray]:
    """Of the chosen layers, or of those left dense."""
    return {entry.name: mask.to_dense() for entry, mask in bundle if (entry.pattern == DENSE) == dense}


@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.name)
@pytest.mark.parametrize("selection", [MLP, LAST], ids=lambda selection: selection.text)
def test_others_stay_dense_and_are_entries(case: Case, selection: Selection, llama: Path, tmp_path: Path) -> None:
    bundle = make(llama, tmp_path, case, selection)
    bundle.validate()
    layers = [ref.layer for block in all_refs(Checkpoint(llama)) for ref in block]
    assert [entry.name for entry in bundle.layers] == [layer.name for layer in layers]
    chosen = selection.names(layers)
    for entry in bundle.layers:
        if entry.name not in chosen:
            assert (entry.pattern, entry.sparsity, entry.values, entry.weight_bits) == (DENSE, 0, "", None)
        else:
            assert entry.pattern != DENSE
            assert (entry.weight_bits is not None) == ("bits" in case.settings)
    if case.prunes:
        asked = 0.5 if "pattern" in case.settings else 0.3
        assert bundle.treated_sparsity == pytest.approx(asked, abs=0.03)  # whole weights of rows of 32 and 48
        weights = [
            sum(layer.n_weights for layer in layers if layer.name in names)
            for names in (chosen, {layer.name for layer in layers})
        ]
        assert bundle.sparsity == pytest.approx(bundle.treated_sparsity * weights[0] / weights[1])
    assert bundle.header.parameters["only"] == list(selection.only)
    assert perplexity(Checkpoint(llama), token_ids(2, 12), bundle, quiet) > 1


@pytest.mark.parametrize("case", [PLAIN[0], PLAIN[1], QUANTIZED[0]], ids=lambda case: case.name)
def test_without_calibration_chosen_masks_and_values_are_those_of_a_full_run(
    case: Case, llama: Path, tmp_path: Path
) -> None:
    """Of counts that carry no remainder from matrix to matrix."""
    counts = {"count": "released"} if case.prunes else {}
    full = make(llama, tmp_path / "full", case, Selection(), **counts)
    part = make(llama, tmp_path / "part", case, MLP, **counts)
    for name, mask in masks_of(part).items():
        assert np.array_equal(mask, full[name].to_dense())
        assert part.entry(name).values_sha256 == full.entry(name).values_sha256


@pytest.mark.parametrize("case", [PLAIN[3], PLAIN[9], PLAIN[11], QUANTIZED[2]], ids=lambda case: case.name)
def test_the_first_blocks_alone_are_those_of_a_full_run(case: Case, llama: Path, tmp_path: Path) -> None:
    full = make(llama, tmp_path / "full", case, Selection())
    part = make(llama, tmp_path / "part", case, Selection(("blocks:0",)))
    assert len(masks_of(part)) == 7
    for name, mask in masks_of(part).items():
        assert np.array_equal(mask, full[name].to_dense())
        assert part.entry(name).values_sha256 == full.entry(name).values_sha256


def test_wanda_in_a_late_block_scores_by_what_the_dense_model_gives(llama: Path, tmp_path: Path) -> None:
    """The twin: transformers' own model, hooks, and a sort of every row."""
    ids = token_ids(5, 12)
    bundle = make(llama, tmp_path, PLAIN[3], Selection(("down", "blocks:1")), count="released")
    whole, seen = load_whole(llama), []
    module = whole.model.layers[1].mlp.down_proj
    module.register_forward_pre_hook(lambda _, args: seen.append(args[0].double()))
    whole(input_ids=ids)
    norm = (torch.cat([x.reshape(-1, 48) for x in seen]).square().sum(0) / len(ids)).sqrt()
    scores = module.weight.double().abs() * norm
    (mask,) = masks_of(bundle).values()
    for row, kept in zip(scores.numpy(), mask, strict=True):
        assert set(np.flatnonzero(~kept)) == set(np.argsort(row)[: 48 * 3 // 10])


def test_experts_chosen_one_by_one_see_the_whole_stack(tmp_path: Path) -> None:
    """Few tokens reach an expert of a tiny model: its Hessian is that of all experts, chosen or not."""
    model = save("mixtral", tmp_path / "model")
    one = Selection(("*.experts.*.1", "blocks:0"))
    full, part = make(model, tmp_path / "full", PLAIN[9], Selection()), make(model, tmp_path / "part", PLAIN[9], one)
    assert len(masks_of(part)) == 2  # gate_up and down of expert 1
    for name, mask in masks_of(part).items():
        assert np.array_equal(mask, full[name].to_dense())
        assert part.entry(name).values_sha256 == full.entry(name).values_sha256


@pytest.mark.parametrize("allocation", ["er", "erk", "owl", "alpha", "depth"])
@pytest.mark.parametrize("selection", [MLP, Selection((), ("blocks:0",)), Selection(("q,down",))], ids=lambda s: s.text)
def test_allocation_is_over_the_chosen_with_the_mean_exact(
    allocation: str, selection: Selection, llama: Path, tmp_path: Path
) -> None:
    checkpoint = Checkpoint(llama)
    asked = recipe("wanda", 0.4, allocation=allocation, only=selection.only, skip=selection.skip)
    refs = all_refs(checkpoint)
    chosen = selection.names([ref.layer for block in refs for ref in block])
    treated = [[ref for ref in block if ref.layer.name in chosen] for block in refs]
    tmp_path.mkdir(exist_ok=True)
    found = layer_sparsities(checkpoint, asked, treated, tmp_path, quiet).sparsity
    sizes = {ref.layer.name: ref.layer.n_weights for block in treated for ref in block}
    assert found.keys() == sizes.keys() == chosen
    assert sum(sizes[name] * found[name] for name in sizes) == pytest.approx(0.4 * sum(sizes.values()), abs=1e-6)


@pytest.mark.parametrize("method", ["magnitude", "wanda", "gblm", "sparsegpt", "besa"])
def test_fallbacks_for_patterns(method: str, odd: Path, tmp_path: Path) -> None:
    case = partial(recipe, method, pattern="2:4")
    with pytest.raises(NotForThisModel, match=r"layers\.0\.mlp\.down_proj: pattern 2:4 needs .*, not 50; .*`fallback`"):
        prune(Checkpoint(odd), case(), tmp_path / "no", quiet, quiet)
    assert not (tmp_path / "no").exists()
    told: list[str] = []
    loose = prune(Checkpoint(odd), case(fallback="unstructured"), tmp_path / "u", quiet, told.append)
    skipped = prune(Checkpoint(odd), case(fallback="skip"), tmp_path / "s", quiet, quiet)
    assert (
        "2 matrices, e.g. model.layers.0.mlp.down_proj: 2:4 does not divide their inputs; pruned unstructured" in told
    )
    for bundle in (loose, skipped):
        bundle.validate()
        assert all(entry.nnz * 2 == entry.layer.n_weights for entry in bundle.layers if entry.pattern == "2:4")
        assert {entry.role for entry in bundle.layers if entry.pattern != "2:4"} == {"down"}
    for entry in loose.layers:
        if entry.role == "down":
            assert (entry.pattern, entry.nnz * 2) == ("unstructured", entry.layer.n_weights)
    assert {entry.pattern for entry in skipped.layers} == {"2:4", DENSE}


def test_fallbacks_for_groups(odd: Path, tmp_path: Path) -> None:
    case = partial(recipe, "wanda", 0.5, bits=4, group_size=16)
    loose = prune(Checkpoint(odd), case(fallback="unstructured"), tmp_path / "u", quiet, quiet)
    assert {(entry.role == "down", entry.group_size) for entry in loose.layers} == {(True, 50), (False, 16)}
    skipped = prune(Checkpoint(odd), case(fallback="skip"), tmp_path / "s", quiet, quiet)
    assert {(entry.role == "down", entry.group_size) for entry in skipped.layers} == {(True, None), (False, 16)}


@pytest.mark.parametrize("case", [PLAIN[3], PLAIN[5], PLAIN[12], QUANTIZED[9]], ids=lambda case: case.name)
@pytest.mark.parametrize("block", range(3))
def test_a_killed_run_ends_in_the_same_bytes(case: Case, block: int, tmp_path: Path) -> None:
    """Blocks without chosen layers in front, between and behind."""
    model = save("llama", tmp_path / "model", num_hidden_layers=4)
    selection = Selection(("gate,up",), ("blocks:0", "blocks:2"))

    def kill(what: str, done: int, of: int) -> None:
        if what == "pruning" and done == block + 1:
            raise KeyboardInterrupt

    make(model, tmp_path / "whole", case, selection)
    with pytest.raises(KeyboardInterrupt):
        prune(Checkpoint(model), case.recipe(only=selection.only, skip=selection.skip), tmp_path / "cut", kill, quiet)
    make(model, tmp_path / "cut", case, selection)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


@pytest.mark.parametrize("other", [Selection(), Selection(("gate",)), Selection((), ("q",))], ids=lambda s: s.text)
def test_another_selection_does_not_continue_a_run(other: Selection, llama: Path, tmp_path: Path) -> None:
    def kill(what: str, done: int, of: int) -> None:
        if what == "pruning" and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune(Checkpoint(llama), PLAIN[3].recipe(only=MLP.only, skip=MLP.skip), tmp_path, kill, quiet)
    with pytest.raises(UserError, match="unfinished run with other settings"):
        make(llama, tmp_path, PLAIN[3], other)


def test_a_selection_that_matches_nothing_writes_nothing(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(NotForThisModel, match="there are the roles q k v o gate up down and the blocks 0-1"):
        make(llama, tmp_path / "out", PLAIN[0], Selection(("fc1",)))
    assert not (tmp_path / "out").exists()
