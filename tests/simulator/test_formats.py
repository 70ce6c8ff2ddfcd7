"""Weight formats against encoders that write every number with its width."""

import json
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.formats import FORMATS, scale_bits, stored
from simulator.storage import storage_rows
from studies.cli.main import main
from workloads import BundleHeader, PackedMask
from workloads.bundle import LayerEntry
from workloads.errors import UserError
from workloads.operations import Linear, Weights


class Bits:
    """A stream of numbers with their widths."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.bits = 0

    def put(self, number: int, width: int) -> None:
        assert 0 <= number < 1 << width, (number, width)
        self.numbers.append(int(number))
        self.bits += width


def width_of(places: int) -> int:
    """Bits for the numbers 0 .. places - 1, at least one."""
    width = 1
    while 1 << width < places:
        width += 1
    return width


def encode(name: str, block: np.ndarray, sides: tuple[int, int], most: int) -> tuple[list[float], Bits]:
    """(values, metadata) of one block of weights; `sides` of a full block, `most` weights in the largest block."""
    values: list[float] = []
    metadata = Bits()
    rows, cols = block.shape
    column, row, pointer = width_of(sides[1]), width_of(sides[0]), width_of(most + 1)
    if name == "dense":
        return list(block.ravel()), metadata
    if name == "bitmap":
        for weight in block.ravel():
            metadata.put(int(weight != 0), 1)
        return [w for w in block.ravel() if w], metadata
    if name == "coo":
        for r in range(rows):
            for c in range(cols):
                if block[r, c]:
                    values.append(block[r, c])
                    metadata.put(r, row)
                    metadata.put(c, column)
        return values, metadata
    if name == "csc":
        values, metadata = encode("csr", block.T, sides[::-1], most)
        return values, metadata
    if name == "csr":
        metadata.put(0, pointer)
        for r in range(rows):
            for c in np.flatnonzero(block[r]):
                values.append(block[r, c])
                metadata.put(int(c), column)
            metadata.put(len(values), pointer)
        return values, metadata
    if name == "rle":
        metadata.put(0, pointer)
        for r in range(rows):
            run = 0
            for weight in block[r]:
                if weight == 0:
                    run += 1
                    continue
                while run > 15:
                    values.append(0.0)
                    metadata.put(15, 4)
                    run -= 16
                values.append(weight)
                metadata.put(run, 4)
                run = 0
            metadata.put(len(values), pointer)
        return values, metadata
    if name == "macko":
        metadata.put(0, 32)
        for r in range(rows):
            gap = 0
            for weight in block[r]:
                if weight == 0 and gap < 15:
                    gap += 1
                    continue
                values.append(weight)
                metadata.put(gap, 4)
                gap = 0
            metadata.put(len(values), 32)
        while len(values) % 8:
            values.append(0.0)
            metadata.put(0, 4)
        return values, metadata
    n, m = map(int, name.split(":"))
    for r in range(rows):
        for start in range(0, cols, m):
            places = np.flatnonzero(block[r, start : start + m])
            assert len(places) <= n
            for slot in range(n):
                values.append(block[r, start + places[slot]] if slot < len(places) else 0.0)
                metadata.put(int(places[slot]) if slot < len(places) else 0, width_of(m))
    return values, metadata


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    rows, cols = draw(st.integers(1, 20)), draw(st.sampled_from([1, 5, 63, 64, 65, 130]))
    density = draw(st.sampled_from([0.0, 0.02, 0.5, 1.0]))
    return np.random.default_rng(draw(st.integers(0, 10**6))).random((rows, cols)) < density


@pytest.mark.parametrize("name", FORMATS)
@given(kept=masks(), block=st.tuples(st.integers(1, 9), st.sampled_from([3, 16, 64, 128])))
@settings(max_examples=30, deadline=None)
def test_sizes_are_those_of_an_encoder(name: str, kept: np.ndarray, block: tuple[int, int]) -> None:
    sides = min(block[0], kept.shape[0]), min(block[1], kept.shape[1])
    weights = np.where(kept, 1.0 + np.arange(kept.size).reshape(kept.shape), 0.0)
    values, metadata = stored(name, PackedMask.from_dense(kept), *block)
    for i, r in enumerate(range(0, kept.shape[0], block[0])):
        for j, c in enumerate(range(0, kept.shape[1], block[1])):
            coded, bits = encode(name, weights[r : r + block[0], c : c + block[1]], sides, sides[0] * sides[1])
            assert (values[i, j], metadata[i, j]) == (len(coded), bits.bits)
    assert values.shape == metadata.shape == (i + 1, j + 1)


@pytest.mark.parametrize("pattern", ["1:4", "2:4", "4:8"])
def test_packed_slots_are_those_of_an_encoder(pattern: str) -> None:
    n, m = map(int, pattern.split(":"))
    kept = np.zeros((7, 68), dtype=bool)
    for r in range(7):
        for start in range(0, 68, m):
            kept[r, start : start + min(n, r % (n + 1))] = True
    values, metadata = stored(pattern, PackedMask.from_dense(kept), 3, 32)
    for i, r in enumerate(range(0, 7, 3)):
        for j, c in enumerate(range(0, 68, 32)):
            coded, bits = encode(pattern, kept[r : r + 3, c : c + 32].astype(float), (3, 32), 96)
            assert (values[i, j], metadata[i, j]) == (len(coded), bits.bits)
    kept[0, : n + 1] = True
    with pytest.raises(UserError, match=f"more than {n} of {m}"):
        stored(pattern, PackedMask.from_dense(kept), 3, 32)


@pytest.mark.parametrize(("zeros", "paddings"), [(0, 0), (15, 0), (16, 1), (31, 1), (32, 2), (48, 3)])
def test_a_padding_zero_from_the_sixteenth_zero_on(zeros: int, paddings: int) -> None:
    """As EIE's example: 15 zeros fit the count of the weight behind them, the 16th is an entry of its own."""
    kept = np.zeros((1, 60), dtype=bool)
    kept[0, zeros] = True
    values, _ = stored("rle", PackedMask.from_dense(kept), 1, 60)
    assert values[0, 0] == 1 + paddings


@pytest.mark.parametrize(("zeros", "entries"), [(15, 1), (16, 2), (32, 3), (144, 10)])
def test_macko_stores_every_sixteenth_zero_on_both_sides_and_whole_eights(zeros: int, entries: int) -> None:
    for place in (zeros, 0):  # the zeros before the only kept weight, or after it
        kept = np.zeros((1, zeros + 1), dtype=bool)
        kept[0, place] = True
        values, metadata = stored("macko", PackedMask.from_dense(kept), *kept.shape)
        assert values[0, 0] == -(-entries // 8) * 8
        assert metadata[0, 0] == 4 * values[0, 0] + 2 * 32


@given(st.integers(1, 9), st.integers(1, 200), st.integers(1, 70), st.one_of(st.none(), st.integers(1, 250)))
@settings(max_examples=40, deadline=None)
def test_scales_are_counted_where_their_group_starts(rows: int, cols: int, block: int, group: int | None) -> None:
    sides = [min(block, cols - c) for c in range(0, cols, block)]
    found = scale_bits(np.array([rows]), np.array(sides), group, 16, 4)
    expected = [sum(c % (group or cols) == 0 for c in range(j * block, j * block + s)) for j, s in enumerate(sides)]
    assert found.tolist() == [[rows * 20 * n for n in expected]]


def rows_of(kept: np.ndarray, bits: int | None, group: int | None, names: list[str]) -> list[dict]:
    from workloads.operations import linears_in_memory

    mask = PackedMask.from_dense(kept)
    entry = LayerEntry("l", "q", 0, *mask.shape, "unstructured", mask.nnz, bits, mask.sha256(), "", group)
    layers = linears_in_memory([(entry, mask), (entry, mask)])
    return list(storage_rows(BundleHeader("m", "x"), layers, names, (64, 64), 16))


def test_rows_add_up_and_formats_that_cannot_store_say_so() -> None:
    kept = np.tile([True, True, False, False], (8, 32))
    kept[3, 2] = True
    rows = rows_of(kept, 4, 32, ["dense", "bitmap", "2:4"])
    dense, bitmap, packed = rows[:3]
    assert dense["value_bytes"] == 8 * 128 // 2
    assert dense["scale_bytes"] == 8 * 4 * 20 // 8
    assert bitmap["value_bytes"] == (8 * 64 + 1 + 1) // 2
    assert bitmap["metadata_bytes"] == 8 * 128 // 8
    assert bitmap["compression"] == (512 + 80) / (257 + 128 + 80)
    assert not packed["feasible"]
    assert "more than 2 of 4" in packed["reason"]
    together = {row["format"]: row for row in rows if row["layer"] == "all"}
    assert together["bitmap"]["total_bytes"] == 2 * bitmap["total_bytes"]
    assert together["2:4"]["reason"].startswith("2 of 2 layers")


def test_the_verb(tmp_path, capsys) -> None:
    np.save(tmp_path / "m.npy", np.ones((4, 64), dtype=bool))
    with pytest.raises(SystemExit) as ended:
        main(["formats", "--mask", str(tmp_path / "m.npy"), "--bits", "8", "--format", "json"])
    assert not ended.value.code
    rows = json.loads(capsys.readouterr().out)
    assert {row["format"]: row["total_bytes"] for row in rows if row["layer"] == "m"}["bitmap"] == 256 + 32
    for bad, said in (
        (["--formats", "csx"], "csx"),
        (["--block", "64"], "64x64"),
        (["--block", "0x4"], "0x4"),
        (["--bits", "0"], "1 to 64"),
        (["--formats", ","], "names no format"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["formats", "--mask", str(tmp_path / "m.npy"), *bad])
        assert stopped.value.code == 2
        message = capsys.readouterr().err
        assert said in message
        assert message.count("\n") == 1


def test_the_baseline_is_the_unpruned_dense_matrix():
    """A 4 x 6 matrix at 4 bits of which 2 x 4 is left, one scale (16 bits) and zero point (4) a row; a layer that is
    gone."""
    weights = Weights("unstructured", 8, "", partial(PackedMask.dense, 2, 4), 4, 4)
    small = Linear("a", "down", 0, 2, 4, weights, (4, 6))
    gone = Linear("b", "o", 1, 4, 2, Weights("gone", 0, "", partial(PackedMask.dense, 4, 2), 4, 2))
    one, other, every = storage_rows(BundleHeader("m", "x"), [small, gone], ["dense"], (64, 64), 16)
    assert (one["value_bytes"], one["scale_bytes"], one["total_bytes"]) == (4, 5, 9)
    assert one["dense_bytes"] == 24 / 2 + 4 * 20 / 8
    assert one["compression"] == pytest.approx(22 / 9)
    assert (other["total_bytes"], other["dense_bytes"]) == (0, 8 / 2 + 4 * 20 / 8)
    assert (every["total_bytes"], every["dense_bytes"], every["bits_per_weight"]) == (9, 36, 9)
    assert every["sparsity"] == pytest.approx(1 - 8 / 32)
