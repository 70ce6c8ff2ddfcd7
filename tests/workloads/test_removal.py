"""Removal: what stays of matrices, to and from a bundle's arrays, and what a bundle says of it."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.bundle import REMOVAL_FILE, BundleHeader, MaskBundle
from workloads.bundle_writer import BundleWriter
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.mask import PackedMask
from workloads.operations import linears_of
from workloads.patterns import DENSE, GONE, SMALLER
from workloads.removal import KV_GROUP, NEURON, Cut, Removal, Units

bools = st.lists(st.booleans(), min_size=1, max_size=9).map(np.array)


def keep(*numbers: int, of: int) -> np.ndarray:
    kept = np.zeros(of, dtype=bool)
    kept[list(numbers)] = True
    return kept


@given(st.frozensets(st.integers(0, 40)), st.lists(st.tuples(bools, bools), max_size=4))
@settings(max_examples=40, deadline=None)
def test_arrays_bring_it_back(blocks, cuts):
    units = tuple(
        Units((KV_GROUP, NEURON)[n % 2], n, f"model.layers.{n}.part", np.append(kept, True))
        for n, (kept, _) in enumerate(cuts)
    )
    removal = Removal(blocks, units, {f"model.layers.{n}.w": Cut(*cut) for n, cut in enumerate(cuts)})
    back = Removal.from_arrays(removal.arrays())
    assert back.blocks == removal.blocks
    assert [(u.kind, u.block, u.module, u.kept.tolist()) for u in back.units] == [
        (u.kind, u.block, u.module, u.kept.tolist()) for u in units
    ]
    assert {n: (c.rows.tolist(), c.cols.tolist()) for n, c in back.cuts.items()} == {
        n: (c.rows.tolist(), c.cols.tolist()) for n, c in removal.cuts.items()
    }


def test_what_is_left_of_a_layer():
    cut = Cut(keep(0, 2, of=3), keep(1, of=4))
    removal = Removal(frozenset({1}), (), {"a": cut})
    assert removal.left(Layer("a", "up", 0, 3, 4)) == Layer("a", "up", 0, 2, 1)
    assert removal.left(Layer("b", "q", 0, 5, 5)) == Layer("b", "q", 0, 5, 5)
    assert removal.left(Layer("c", "q", 1, 5, 5)) is None
    with pytest.raises(UserError, match="removal is of 3 x 4 weights, the matrix has 3 x 5"):
        removal.left(Layer("a", "up", 0, 3, 5))


def test_all_of_a_group_is_refused():
    with pytest.raises(UserError, match="all 4 neurons would go; remove the block, or leave one"):
        Units(NEURON, 0, "mlp", np.zeros(4, dtype=bool))


def test_words_count_what_goes():
    units = (Units(NEURON, 0, "mlp", keep(0, of=5)), Units(KV_GROUP, 0, "attn", keep(0, 1, of=2)))
    assert Removal(frozenset({3}), units).words == "1 block, 4 of 5 neurons"
    assert Removal(frozenset({1, 3})).words == "2 blocks"
    assert Removal().words == "nothing"


@pytest.fixture
def smaller(tmp_path):
    """Block 0: a 6 x 8 layer of which 4 x 5 stay, one left alone; block 1 goes."""
    up, q, gone = Layer("0.up", "up", 0, 6, 8), Layer("0.q", "q", 0, 3, 3), Layer("1.up", "up", 1, 6, 8)
    cut = Cut(keep(0, 1, 2, 5, of=6), keep(0, 1, 2, 3, 7, of=8))
    writer = BundleWriter(tmp_path, BundleHeader("m", "flap", SMALLER))
    writer.remove(Removal(frozenset({1}), (Units(NEURON, 0, "0", cut.rows),), {"0.up": cut}))
    writer.add(Layer("0.up", "up", 0, 4, 5), PackedMask.dense(4, 5), SMALLER, unpruned=up)
    writer.add(q, PackedMask.dense(3, 3), DENSE)
    writer.commit()
    writer.add_gone(gone)
    return writer.finish()


def test_a_bundle_counts_what_was_taken_out(smaller):
    smaller.validate()
    assert json.loads((smaller.folder / "bundle.json").read_text())["version"] == 4
    assert [entry.name for entry in smaller.layers] == ["0.up", "0.q"]
    assert [entry.name for entry in smaller.gone] == ["1.up"]
    assert smaller.sparsity == pytest.approx(1 - (20 + 9) / (48 + 9 + 48))
    assert smaller.treated_sparsity == pytest.approx(1 - 20 / 96)
    assert smaller.entry("0.up").sparsity == pytest.approx(1 - 20 / 48)
    again = MaskBundle.open(smaller.folder)
    assert again.removal.words == smaller.removal.words == "1 block, 2 of 6 neurons"


def test_linears_know_the_unpruned_ones(smaller):
    up, q, gone = linears_of(smaller)
    assert (up.out_features, up.in_features, up.unpruned) == (4, 5, (6, 8))
    assert up.before().weights.mask().nnz == 48
    assert q.unpruned is None
    assert gone.is_gone
    assert gone.weights.pattern == GONE
    assert gone.sparsity == 1


def test_damage_is_told(smaller):
    file = smaller.folder / REMOVAL_FILE
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"removal\.safetensors: its hash differs"):
        MaskBundle.open(smaller.folder).validate()
    file.unlink()
    with pytest.raises(UserError, match=r"removal\.safetensors is missing"):
        MaskBundle.open(smaller.folder)


def test_sizes_that_the_removal_does_not_leave(tmp_path):
    writer = BundleWriter(tmp_path, BundleHeader("m", "flap", SMALLER))
    writer.remove(Removal())
    writer.add(Layer("a", "up", 0, 4, 5), PackedMask.dense(4, 5), SMALLER, unpruned=Layer("a", "up", 0, 6, 8))
    with pytest.raises(UserError, match="layer a: its sizes are not what"):
        writer.finish().validate()
