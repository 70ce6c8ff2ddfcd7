"""lowrank, blockdense and blockshuffle through the whole run; their laws are those of `prunesim check`
(test_contract.py)."""

from pathlib import Path

import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from pruning.bundle_values import read_factors, read_weight
from pruning.evaluation.perplexity import perplexity
from pruning.run.driver import prune
from studies.measure import open_job
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import load_whole, quiet, save, token_ids
from workloads.bundle import MaskBundle
from workloads.errors import NotForThisModel, UserError
from workloads.patterns import DENSE, FACTORED

METHODS = ("lowrank", "blockdense", "blockshuffle")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"))


def made(folder: Path, out: Path, method: str, sparsity: float = 0.3, **asked) -> MaskBundle:
    return prune(Checkpoint(folder, torch.float32), recipe(method, sparsity, **asked), out, quiet, quiet)


def test_attention_and_the_first_block_stay(llama, tmp_path):
    bundle = made(llama, tmp_path / "a", "lowrank")
    patterns = {(entry.block, entry.role): entry.pattern for entry in bundle.layers}
    assert {key for key, pattern in patterns.items() if pattern == FACTORED} == {
        (1, "gate"), (1, "up"), (1, "down"),
    }  # fmt: skip
    assert set(patterns.values()) == {DENSE, FACTORED}
    every = made(llama, tmp_path / "b", "lowrank", set={"dense_blocks": 0}, only="gate,up")
    assert {e.role for e in every.layers if e.factors is not None} == {"gate", "up"}
    assert {e.block for e in every.layers if e.factors is not None} == {0, 1}


def test_a_given_rank_needs_no_sparsity(llama, tmp_path):
    bundle = made(llama, tmp_path, "lowrank", None, rank=5)
    assert {entry.factors.first for entry in bundle.layers if entry.factors is not None} == {(1, 5, 32), (1, 5, 48)}
    assert bundle.header.target_sparsity is None
    assert bundle.header.parameters["rank"] == 5
    assert MaskBundle.open(tmp_path).header == bundle.header


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_factors_are_rounded_as_the_checkpoint_stores_weights(method, dtype, tmp_path):
    folder = save("llama", tmp_path / "model", dtype)
    bundle = made(folder, tmp_path / "masks", method)
    kind = str(dtype).removeprefix("torch.")
    for entry in bundle.layers:
        pair = read_factors(bundle, entry.name)
        if pair is not None:
            assert sorted(bundle.values(entry.name)) == [f"first-{kind}", f"second-{kind}"]
            assert all(torch.equal(factor, factor.to(dtype).float()) for factor in pair)


def test_data_aware_factors_leave_less_of_the_output_than_those_of_the_weight_alone(llama, tmp_path):
    """On the tokens they have seen, of the first factorized matrix: inputs are those of the dense model."""
    ids = token_ids(20, 12)
    found = {}
    for aware in (True, False):
        bundle = made(llama, tmp_path / str(aware), "lowrank", 0.5, ids=ids, data_aware=aware, only="gate")
        found[aware] = bundle
    model, seen = load_whole(llama), []
    gate = model.model.layers[1].mlp.gate_proj
    gate.register_forward_pre_hook(lambda module, args: seen.append(args[0].reshape(-1, 32)))
    with torch.no_grad():
        model(ids)
    x, name = torch.cat(seen), "model.layers.1.mlp.gate_proj"
    errors = {aware: float(((read_weight(b, name) - gate.weight) @ x.T).square().sum()) for aware, b in found.items()}
    assert errors[True] < 0.9 * errors[False]


def test_later_blocks_see_what_the_factors_before_them_give(tmp_path):
    """Without data nothing propagates: the factors of the second block are the same, whatever the first one's are."""
    folder = save("llama", tmp_path / "model")
    second = {}
    for aware in (True, False):
        for chosen in ("blocks:0-", "blocks:1-"):
            settings = {"data_aware": aware, "dense_blocks": 0}
            bundle = made(folder, tmp_path / f"{aware}{chosen[7]}", "lowrank", 0.9, set=settings, only=chosen)
            second[aware, chosen] = read_weight(bundle, "model.layers.1.mlp.up_proj")
    assert torch.equal(second[False, "blocks:0-"], second[False, "blocks:1-"])
    assert not torch.equal(second[True, "blocks:0-"], second[True, "blocks:1-"])


def test_less_rank_costs_more_perplexity_than_none(llama, tmp_path):
    ids = token_ids(4, 12, seed=5)
    dense = perplexity(Checkpoint(llama), ids, None, quiet)
    bundle = made(llama, tmp_path, "blockshuffle", 0.6)
    assert perplexity(Checkpoint(llama), ids, bundle, quiet) != dense


def test_an_allocation_gives_each_matrix_its_own_rank(llama, tmp_path):
    bundle = made(llama, tmp_path, "lowrank", 0.4, allocation="er")
    ranks = {e.role: e.factors.first[1] for e in bundle.layers if e.factors is not None}
    assert set(ranks) == {"gate", "up", "down"}


@pytest.mark.parametrize(
    ("method", "asked", "message"),
    [
        ("lowrank", {"bits": 4}, "lowrank makes dense factors and has no `bits`; leave it out"),
        ("lowrank", {"pattern": "2:4"}, "has no `pattern`"),
        ("lowrank", {"fallback": "skip"}, "has no `fallback`"),
        ("lowrank", {"multiple_of": 8}, "`multiple_of` is for structured methods"),
        ("lowrank", {"rank": 4}, "lowrank: its settings say how much goes; leave one of them and `sparsity` out"),
        ("lowrank", {"rank": -1}, "rank = -1"),
        ("lowrank", {"damping": 0.0}, "damping = 0.0"),
        ("lowrank", {"blocks": 4}, "lowrank has no parameter 'blocks'"),
        ("blockshuffle", {"rank": 4}, "blockshuffle has no parameter 'rank'"),
        ("blockdense", {"rule": "row"}, "blockdense cannot use the rule 'row'"),
    ],
)
def test_settings_that_cannot_be(method, asked, message):
    with pytest.raises(UserError, match=message):
        recipe(method, 0.5, **asked)


@pytest.mark.parametrize(("method", "asked", "message"), [
    ("blockdense", {"rank": 6}, "blockdense: rank 6 is no multiple of `blocks` 4"),
    ("blockshuffle", {"width": 5}, "blockshuffle: width 5 is no multiple of `blocks` 2"),
    ("lowrank", {"rank": 4, "allocation": "er"}, "leaves nothing to allocate"),
])  # fmt: skip
def test_ranks_that_cannot_be(method, asked, message):
    with pytest.raises(UserError, match=message):
        recipe(method, None, **asked)


@pytest.mark.parametrize(
    ("method", "asked", "message"),
    [
        ("blockdense", {"blocks": 7}, "7 blocks do not divide its 32 inputs"),
        ("lowrank", {"only": "q"}, "only: no layer has the role 'q'; there are the roles gate up down and the block 1"),
        ("lowrank", {"dense_blocks": 2}, "lowrank is for none of these matrices: there are the roles q k v o gate"),
    ],
)
def test_models_that_cannot_be(llama, tmp_path, method, asked, message):
    with pytest.raises(NotForThisModel, match=message):
        made(llama, tmp_path, method, **asked)


def test_what_is_measured_are_the_unpruned_shape_and_those_of_the_factors(llama, tmp_path):
    bundle = made(llama, tmp_path, "blockdense", None, rank=4, only="up")
    job = open_job(bundle.folder, None, [], "2:4", "1")
    shapes = {(shape.out_features, shape.in_features, shape.pattern) for shape, _ in job.shapes}
    assert {(48, 32, DENSE), (1, 8, FACTORED), (48, 4, FACTORED)} <= shapes
    names = [layer["name"] for layer in job.layers if "layers.1.mlp.up" in layer["name"]]
    assert [name.rpartition("up_proj")[2] for name in names] == ["", ".first", ".second"]
