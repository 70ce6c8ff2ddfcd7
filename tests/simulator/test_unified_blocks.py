"""Blocks of one magnitude against an encoder that writes every number with its width, and a decoder that reads it."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.storage import storage_rows
from simulator.unified_blocks import block_of, spelled_out, stored_unified
from studies.cli.main import main
from tests.simulator.test_formats import Bits
from workloads import BundleHeader, PackedMask
from workloads.bundle_writer import BundleWriter
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.operations import linears_of

PRUNED, UNIFIED, FREE = 0, 1, 2


def encoded(weights: np.ndarray, height: int, width: int, magnitude_bits: int, bits: int) -> tuple[Bits, Bits]:
    """(kinds, values) of whole numbers."""
    kinds, values = Bits(), Bits()
    for top in range(0, len(weights), height):
        for left in range(0, weights.shape[1], width):
            block = weights[top : top + height, left : left + width].ravel()
            if not block.any():
                kinds.put(PRUNED, 2)
            elif len(set(np.abs(block))) == 1:
                kinds.put(UNIFIED, 2)
                values.put(abs(block[0]), magnitude_bits)
                for weight in block:
                    values.put(int(weight < 0), 1)
            else:
                kinds.put(FREE, 2)
                for weight in block:
                    values.put(weight + 128, bits)
    return kinds, values


def decoded(kinds: Bits, values: Bits, shape: tuple[int, int], height: int, width: int) -> np.ndarray:
    made, kind, value = np.zeros(shape, int), iter(kinds.numbers), iter(values.numbers)
    for top in range(0, shape[0], height):
        for left in range(0, shape[1], width):
            place = made[top : top + height, left : left + width]
            which = next(kind)
            size = next(value) if which == UNIFIED else 0
            for at in np.ndindex(place.shape):
                if which == UNIFIED:
                    place[at] = -size if next(value) else size
                elif which == FREE:
                    place[at] = next(value) - 128
    return made


def drawn(seed: int, rows: int, cols: int, height: int, width: int, most: int) -> np.ndarray:
    """Whole numbers, about half of the blocks of one magnitude, some of them 0."""
    draw = np.random.default_rng(seed)
    weights = draw.integers(-most, most + 1, (rows, cols))
    for top in range(0, rows, height):
        for left in range(0, cols, width):
            if draw.random() < 0.6:
                place = weights[top : top + height, left : left + width]
                place[...] = draw.integers(0, 4) * np.where(draw.random(place.shape) < 0.5, -1, 1)
    return weights


def as_codes(weights: np.ndarray, zero: int = 128) -> dict[str, np.ndarray]:
    return {"codes": (weights + zero).astype(np.uint8), "zero": np.full((len(weights), 1), zero, np.uint8)}


SIDES = st.integers(1, 12)


@given(SIDES, SIDES, st.integers(1, 5), st.integers(1, 8), st.integers(0, 999))
@settings(max_examples=80, deadline=None)
def test_bits_of_codes_are_those_of_an_encoder(rows, cols, height, width, seed):
    weights = drawn(seed, rows, cols, height, width, 127)
    found = stored_unified(
        f"unified:{height}x{width}", PackedMask.from_dense(weights != 0), as_codes(weights), 8
    )  # the mask may prune what a block has as 0
    kinds, values = encoded(weights, height, width, 7, 8)
    assert np.array_equal(decoded(kinds, values, weights.shape, height, width), weights)
    assert (found.metadata_bits, found.value_bits(8)) == (kinds.bits, values.bits)
    assert found.blocks == len(kinds.numbers)
    shares = [kinds.numbers.count(kind) / found.blocks for kind in (PRUNED, UNIFIED, FREE)]
    assert [found.shares[f"{name}_blocks"] for name in ("pruned", "unified", "free")] == pytest.approx(shares)


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_floats_count_like_whole_numbers_of_their_bits(kind):
    weights = drawn(3, 16, 40, 2, 4, 100)
    floats = weights.astype(np.float32)
    values = floats.astype(np.float16) if kind == "float16" else floats
    if kind == "bfloat16":  # small whole numbers fit into its upper half
        values = (floats.view(np.uint32) >> 16).astype(np.uint16)
    found = stored_unified("unified:2x4", PackedMask.from_dense(weights != 0), {kind: values}, 16)
    other = stored_unified("unified:2x4", PackedMask.from_dense(weights != 0), as_codes(weights), 8)
    assert found.shares == other.shares
    assert found.value_bits(16) == 16 * other.free_weights + 15 * other.unified_blocks + other.unified_weights


def test_codes_off_the_middle_take_a_bit_more():
    weights = np.full((1, 8), 200)
    found = stored_unified("unified:1x8", PackedMask.dense(1, 8), as_codes(weights, 0), 8)
    assert found.value_bits(8) == 8 + 8


@pytest.fixture
def bundle(tmp_path):
    header = BundleHeader("m", "unify", parameters={"block": "1x8"})
    writer = BundleWriter(tmp_path / "masks", header)
    for number, share in enumerate((2, 4)):
        weights = np.ones((4, 32), np.float16)
        weights[:, 8 * share :] = np.arange(4 * (32 - 8 * share)).reshape(4, -1) + 2
        weights[0] = 0
        mask = PackedMask.from_dense(weights != 0)
        writer.add(Layer(f"l{number}", "q", 0, 4, 32), mask, "unstructured", values={"float16": weights})
    writer.add(Layer("bare", "q", 0, 4, 32), PackedMask.dense(4, 32), "dense")
    writer.commit()
    return writer.finish()


def test_rows_of_a_bundle(bundle):
    rows = list(storage_rows(bundle.header, linears_of(bundle), ["dense", "unified"], (64, 64), 16))
    first, second, bare = (row for row in rows if row["format"] == "unified:1x8" and row["layer"] != "all")
    assert (first["pruned_blocks"], first["unified_blocks"], first["free_blocks"]) == (4 / 16, 6 / 16, 6 / 16)
    assert first["value_bytes"] == (6 * (15 + 8) + 48 * 16 + 7) // 8
    assert first["metadata_bytes"] == 4
    assert (second["unified_blocks"], second["free_blocks"]) == (12 / 16, 0)
    assert not bare["feasible"]
    assert "a mask without weights" in bare["reason"]
    (every,) = (row for row in rows if row["layer"] == "all" and row["format"] != "dense")
    assert every["blocks"] == 32
    assert every["unified_blocks"] == 18 / 32
    assert every["bits_per_weight"] == pytest.approx(8 * (first["total_bytes"] + second["total_bytes"]) / 256)
    assert all("blocks" not in row for row in rows if row["format"] == "dense")


def test_which_blocks_a_bundle_is_of():
    made = BundleHeader("m", "unify", parameters={"block": "4x4"})
    later = BundleHeader("m", "unify+rtn", parameters={"after": {"method": "unify", "parameters": made.parameters}})
    other = BundleHeader("m", "x", parameters={"block": "no"})
    assert [block_of(header) for header in (made, later, other, BundleHeader("m", "x"))] == ["4x4", "4x4", None, None]
    assert spelled_out("unified", later) == "unified:4x4"
    assert spelled_out("unified:2x2", other) == "unified:2x2"
    with pytest.raises(UserError, match="say of which: unified:1x8"):
        spelled_out("unified", other)
    with pytest.raises(UserError, match="'x3' is no block"):
        spelled_out("unified:x3", made)


def test_the_verb_adds_the_format_where_the_bundle_is_of_blocks(bundle, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["formats", str(bundle.folder), "--format", "json"])
    assert not ended.value.code
    rows = json.loads(capsys.readouterr().out)
    assert {row["format"] for row in rows} == {"dense", "bitmap", "csr", "csc", "coo", "rle", "2:4", "unified:1x8"}
    with pytest.raises(SystemExit) as ended:
        main(["formats", str(bundle.folder), "--formats", "dense", "--format", "json"])
    assert not ended.value.code
    assert all("unified_blocks" not in row for row in json.loads(capsys.readouterr().out))
