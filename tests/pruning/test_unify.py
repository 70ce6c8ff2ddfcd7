"""Unification on whole models: what bundles hold, and what is refused. Its arithmetic is in second_order/."""

import json

import numpy as np
import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from pruning.bundle_values import read_quantized, read_weight
from pruning.config import PruneConfig
from pruning.run.driver import prune
from pruning.run.make_recipe import make_recipe
from simulator.unified_blocks import block_of, stored_unified
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import quiet, save
from workloads.errors import UserError


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return save("llama", tmp_path_factory.mktemp("llama"))


def kinds_of(bundle, name, block, bits=16):
    return stored_unified(f"unified:{block}", bundle[name], bundle.values(name), bits)


@pytest.mark.parametrize("settings", [{}, {"block": "4x4"}, {"block": "3x5", "weighted": False}, {"iterations": 0},
                                      {"iterations": 0, "weighted": False, "block": "1x4"}])  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_bundles_hold_as_many_blocks_of_each_kind_as_asked_for(tmp_path, settings, dtype):
    """In the checkpoint's own type: two floats that are alike stay alike when rounded."""
    model = save("llama", tmp_path / "model", dtype)
    bundle = prune(Checkpoint(model), recipe("unify", 0.25, unified=0.25, **settings), tmp_path / "u", quiet, quiet)
    block = settings.get("block", "1x8")
    height, width = map(int, block.split("x"))
    assert block_of(bundle.header) == block
    for entry in bundle.layers:
        number = -(-entry.out_features // height) * -(-entry.in_features // width)
        found = kinds_of(bundle, entry.name, block)
        assert found.blocks == number
        assert found.pruned_blocks == number // 4
        assert found.unified_blocks == number // 4  # no free block is alike by chance
    facts = bundle.records[0].facts
    assert facts["pruned_blocks"] + facts["unified_blocks"] + facts["free_blocks"] == pytest.approx(1)
    if settings.get("iterations") != 0:
        assert facts["error"] <= facts["error_without_admm"]


@pytest.mark.parametrize("weighted", [False, True])
def test_blocks_of_one_weight_are_magnitude_and_layerwise_wanda(llama, tmp_path, weighted):
    settings = {"block": "1x1", "unified": 0.0, "iterations": 0, "weighted": weighted}
    made = prune(Checkpoint(llama), recipe("unify", 0.4, **settings), tmp_path / "u", quiet, quiet)
    other = recipe("wanda", 0.4, rule="layer") if weighted else recipe("magnitude", 0.4, rule="layer")
    expected = prune(Checkpoint(llama), other, tmp_path / "o", quiet, quiet)
    first = [entry.name for entry in made.layers if entry.block == 0]  # later ones see other inputs after roundings
    assert [made.entry(name).sha256 for name in first] == [expected.entry(name).sha256 for name in first]


def test_quantized_along_the_inputs_blocks_share_a_magnitude_still(llama, tmp_path):
    """Blocks within a row and a group have one scale, so that the integers are alike too, but for codes at the ends of
    an uneven grid."""
    settings = {"block": "1x8", "unified": 0.5, "set": {"quantizer.symmetric": True}}
    bundle = prune(Checkpoint(llama), recipe("unify", 0.25, bits=8, **settings), tmp_path / "q", quiet, quiet)
    for entry in bundle.layers:
        quantized, keep = read_quantized(bundle, entry.name), bundle[entry.name].to_dense()
        sizes = (quantized.codes.int() - quantized.zero.repeat_interleave(entry.group_size, 1).int()).abs().numpy()
        found = kinds_of(bundle, entry.name, "1x8", 8)
        blocks = np.where(keep, sizes, 0).reshape(-1, 8)
        assert (blocks.max(1) - blocks.min(1) <= 1).mean() >= 0.75  # 128 levels above 0, 127 below
        assert found.unified_blocks + found.pruned_blocks <= len(blocks)


def test_what_it_cannot_do(llama, tmp_path):
    for asked, message in (
        ({"sparsity": 0.6}, "0.6 of the blocks pruned and 0.5 unified are more than all"),
        ({"block": "4"}, "'4' is no block: expected OUTPUTSxINPUTS"),
        ({"block": "0x4"}, "'0x4' is no block"),
        ({"unified": 1.5}, "unified = 1.5"),
        ({"rule": "row"}, "unify cannot use the rule 'row'"),
    ):
        with pytest.raises(UserError, match=message):
            recipe("unify", **({"sparsity": 0.5} | asked))
    with pytest.raises(UserError, match="unify prunes whole blocks of 1x8, no 2:4; give a sparsity instead"):
        prune(Checkpoint(llama), recipe("unify", pattern="2:4"), tmp_path / "p", quiet, quiet)
    (tmp_path / "plan.json").write_text(json.dumps({"model.layers.0.self_attn.q_proj": "2:4"}))
    planned = make_recipe(PruneConfig("unify", plan=str(tmp_path / "plan.json")))
    with pytest.raises(UserError, match="no 2:4"):
        prune(Checkpoint(llama), planned, tmp_path / "p", quiet, quiet)
    assert not (tmp_path / "p").exists()


def test_more_blocks_asked_for_by_an_allocation_than_there_are(llama, tmp_path):
    """Where a matrix loses more than the mean, fewer are unified."""
    settings = {"allocation": "depth", "unified": 0.6}
    bundle = prune(Checkpoint(llama), recipe("unify", 0.4, **settings), tmp_path / "u", quiet, quiet)
    shares = [record.facts["pruned_blocks"] + record.facts["unified_blocks"] for record in bundle.records]
    assert max(shares) <= 1
    assert all(torch.isfinite(read_weight(bundle, entry.name)).all() for entry in bundle.layers)
