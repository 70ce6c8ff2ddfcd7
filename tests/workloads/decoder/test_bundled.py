"""Masks, bits and removals of a bundle in the accounting."""

from dataclasses import replace

import numpy as np
import pytest

from checkpoints.catalog_layers import catalog_layers
from tests.workloads.decoder.decoders import SMALL, small
from workloads.bundle import BundleHeader
from workloads.bundle_writer import BundleWriter
from workloads.counts import Elements
from workloads.decoder.accounting import account, total
from workloads.decoder.bundled import bundled, content_of
from workloads.decoder.memory import kv_bytes, weight_bytes
from workloads.decoder.read import read_decoder
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.mask import PackedMask
from workloads.patterns import DENSE, SMALLER
from workloads.phases import decode
from workloads.removal import Removal

LAYERS = catalog_layers(SMALL | {"num_key_value_heads": 2})
KEPT = {"q": (32, 64), "k": (8, 64), "v": (8, 64), "o": (64, 32), "gate": (40, 64), "up": (40, 64), "down": (64, 40)}


def write(folder, layers=LAYERS, pattern="unstructured", stride=2, **values):
    """Each mask keeps every `stride`-th input."""
    writer = BundleWriter(folder, BundleHeader("m", "x"))
    for layer in layers:
        kept = np.zeros(layer.shape, dtype=bool)
        kept[:, ::stride] = True
        writer.add(layer, PackedMask.from_dense(kept), pattern, **values)
    return writer.finish()


def test_masks_alone_change_nothing_that_is_stored_dense(tmp_path):
    decoder, bundle = small(), write(tmp_path / "b")
    assert bundled(decoder, bundle) == decoder
    assert bundled(decoder, bundle, "dense") == decoder


def test_bitmaps_and_packed_runs(tmp_path):
    weights = sum(layer.n_weights for layer in LAYERS)
    dense = weight_bytes(small(), Elements())
    half = bundled(small(), write(tmp_path / "a"), "bitmap")
    assert weight_bytes(half, Elements()) == dense - 2 * weights + 2 * weights / 2 + weights / 8
    packed = bundled(small(), write(tmp_path / "b", pattern="2:4"))
    assert weight_bytes(packed, Elements()) == dense - 2 * weights + weights * (2 * 0.5 + 0.5 * 2 / 8)
    assert packed.parameters == small().parameters
    four = bundled(small(), write(tmp_path / "c", pattern="2:4", weight_bits=4, group_size=32))
    scales = sum(layer.out_features * layer.in_features // 32 for layer in LAYERS) * (16 + 4) / 8
    assert weight_bytes(four, Elements()) == dense - 2 * weights + weights * (0.5 * 0.5 + 0.5 * 2 / 8) + scales
    moved = total(account(four, decode(1, 1))).bytes_weight
    assert total(account(small(), decode(1, 1))).bytes_weight - moved == dense - weight_bytes(four, Elements())


def smaller(folder):
    """Of 3 blocks the last goes, the first keeps 4 of 8 heads and 40 of 96 neurons, the second is whole."""
    writer = BundleWriter(folder, BundleHeader("m", "flap", SMALLER))
    writer.remove(Removal(frozenset({2})))
    for layer in LAYERS[:14]:
        left = replace(layer, **dict(zip(("out_features", "in_features"), KEPT[layer.role], strict=True)))
        cut = layer if layer.block else left
        writer.add(cut, PackedMask.dense(*cut.shape), DENSE if layer.block else SMALLER, unpruned=layer)
    writer.commit()
    for layer in LAYERS[14:]:
        writer.add_gone(layer)
    return writer.finish()


def test_removals_are_smaller_models(tmp_path):
    """The same as blocks read from configs of those sizes."""
    found = bundled(small(), smaller(tmp_path / "b"))
    narrow = read_decoder(
        SMALL | {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 40}
    ).blocks[0]
    assert found.blocks == (narrow, small().blocks[0])
    assert found.numbers == (0, 1)
    rows = {row.operation.name: row for row in account(found, decode(2, 30))}
    assert rows["blocks.0.attention"].total.flop == 4 * 8 * 4 * 2 * 30
    assert rows["blocks.0.down"].total.flop == 2 * 2 * 40 * 64
    assert rows["blocks.1.down"].executions == 1
    assert "blocks.2.down" not in rows


def test_a_part_of_a_block_that_is_gone(tmp_path):
    """Block 0 without its attention keeps no keys and adds once; block 1 without its FFN."""
    writer = BundleWriter(tmp_path / "b", BundleHeader("m", "blockpruner", SMALLER))
    writer.remove(Removal(frozenset(), (), {}, {"model.layers.0.self_attn": 1, "model.layers.1.mlp": 1}))
    goes = [
        (layer.block == 0 and layer.role in "qkvo") or (layer.block == 1 and layer.role not in "qkvo")
        for layer in LAYERS
    ]
    for layer, gone in zip(LAYERS, goes, strict=True):
        if not gone:
            writer.add(layer, PackedMask.dense(*layer.shape), DENSE)
    writer.commit()
    for layer, gone in zip(LAYERS, goes, strict=True):
        if gone:
            writer.add_gone(layer)
    found = bundled(small(), writer.finish())
    rows = account(found, decode(2, 30))
    count = {
        role: sum(r.executions for r in rows if role in r.operation.role) for role in ("attention", "down", "norm")
    }
    assert count == {"attention": 2, "down": 2, "norm": 2 * 2 + 1}
    assert kv_bytes(found, 1, Elements()) == kv_bytes(small(), 1, Elements()) * 2 / 3


def test_matrices_stored_unlike_are_gemms_of_their_own(tmp_path):
    """Of 2:4 q and v and a dense k one GEMM cannot be made."""
    writer = BundleWriter(tmp_path / "b", BundleHeader("m", "x", "2:4"))
    for layer in LAYERS:
        whole = layer.role == "k"
        kept = np.zeros(layer.shape, dtype=bool)
        kept[:, ::2] = True
        mask = PackedMask.dense(*layer.shape) if whole else PackedMask.from_dense(kept)
        writer.add(layer, mask, DENSE if whole else "2:4")
    rows = account(bundled(small(), writer.finish()), decode(1, 1))
    assert [row.operation.role for row in rows if row.operation.role in "qkvo"] == ["q", "k", "v", "o"]


def test_experts_of_a_bundle(tmp_path):
    """Two of four experts at 4 bits: the mean expert moves."""
    config = SMALL | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
    shapes = {"gate_up_proj": ("expert_gate_up", 192, 64), "down_proj": ("expert_down", 64, 96)}
    layers = [
        Layer(f"model.layers.0.mlp.experts.{name}.{expert}", role, 0, rows, cols)
        for name, (role, rows, cols) in shapes.items()
        for expert in range(4)
    ]
    writer = BundleWriter(tmp_path / "b", BundleHeader("m", "x"))
    for layer in layers:
        bits = 4 if layer.name.endswith(("0", "2")) else None
        writer.add(layer, PackedMask.dense(*layer.shape), DENSE, weight_bits=bits)
    found = bundled(read_decoder(config), writer.finish())
    assert sorted(number for _, _, number in found.blocks[0].mixture.kinds) == [2, 2]
    rows = {row.operation.name: row.total for row in account(found, decode(1, 1), Elements(routing="balanced"))}
    float_bytes, four = 3 * 64 * 96 * 2, 3 * 64 * 96 / 2 + (192 + 64) * (16 + 4) / 8
    assert rows["blocks.0.experts"].bytes_weight == 2 * (float_bytes + four) / 2
    assert rows["blocks.1.experts"].bytes_weight == 2 * 2 * float_bytes


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([replace(LAYERS[0], block=7, name="model.layers.7.q_proj")], "it has masks of block 7"),
        ([replace(LAYERS[0], out_features=16)], "of 16 x 64 weights, by the config of 64 x 64"),
        ([Layer("model.layers.0.mlp.fc1", "fc1", 0, 96, 64)], "is not known to have"),
        ([Layer("model.layers.0.mlp.experts.down_proj.0", "expert_down", 0, 64, 96)], "the config has none"),
    ],
)
def test_bundles_of_other_models(tmp_path, layers, message):
    with pytest.raises(UserError, match=message):
        bundled(small(), write(tmp_path / "b", layers))


def test_unknown_formats(tmp_path):
    with pytest.raises(UserError, match="did you mean 'bitmap'"):
        bundled(small(), write(tmp_path / "b"), "bitmaps")


def test_masks_and_the_unpruned_model_of_machines_that_look_at_masks(tmp_path):
    """Blocks under the same masks stay alike; the unpruned model has what was taken out, and the bundle's bits."""
    bundle = write(tmp_path / "a", weight_bits=4, group_size=32)
    masked, unpruned = (bundled(small(), bundle, how) for how in ("masks", "unpruned"))
    assert len(masked.kinds) == len(unpruned.kinds) == 1
    for matrix in masked.blocks[0].matrices:
        entry = next(each for each in bundle.entries if each.role == matrix.role)
        assert matrix.mask == content_of(entry)
        assert (matrix.weight_bits, matrix.stored) == (4, DENSE)
    assert {matrix.weight_bits for matrix in unpruned.blocks[0].matrices} == {4}
    assert replaced_bits(unpruned) == small()
    cut = smaller(tmp_path / "b")
    assert bundled(small(), cut, "unpruned") == small()
    left = bundled(small(), cut, "masks")
    assert left == bundled(small(), cut)
    assert not any(matrix.mask for block in left.blocks for matrix in block.matrices)


def replaced_bits(decoder):
    plain = tuple(
        replace(block, matrices=tuple(replace(one, weight_bits=None, group_size=None) for one in block.matrices))
        for block in decoder.blocks
    )
    return replace(decoder, blocks=plain)
