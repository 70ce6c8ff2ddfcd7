"""Removals one after the other: which units are left is what keeping some of those that were kept means."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.removal import KV_GROUP, NEURON, Cut, Removal, Units
from workloads.removals_in_turn import in_turn, second_of

BLOCKS, COUNT = 3, 5


def removal_of(kept: dict[tuple[str, int], list[int]], gone: frozenset[int] = frozenset(), of: dict | None = None):
    """Of an attention o and an FFN down in every block, whose columns are units; rows stay. kept: by kind and block the
    numbers that stay, among `of` (COUNT where it says nothing)."""
    units, cuts = [], {}
    for (kind, block), numbers in kept.items():
        count = (of or {}).get((kind, block), COUNT)
        module = f"layers.{block}.{'attn' if kind == KV_GROUP else 'mlp'}"
        stays = np.isin(np.arange(count), numbers)
        units.append(Units(kind, block, module, stays))
        if not stays.all():
            cuts[f"{module}.out"] = Cut(np.ones(7, dtype=bool), stays)
    return Removal(gone, tuple(units), cuts)


@st.composite
def two(draw: st.DrawFn):
    """(kept by the first, its blocks, kept by the second of those, its blocks), the second named in whole numbers of
    units of the model."""
    places = [(kind, block) for block in range(BLOCKS) for kind in sorted((KV_GROUP, NEURON))]
    subset = st.lists(st.integers(0, COUNT - 1), min_size=1, unique=True).map(sorted)
    first_gone = draw(st.sets(st.integers(0, BLOCKS - 1), max_size=BLOCKS - 1))
    first = {p: draw(subset) for p in places if p[1] not in first_gone and draw(st.booleans())}
    more_gone = draw(st.sets(st.integers(0, BLOCKS - 1), max_size=BLOCKS - 1)) - first_gone
    second = {}
    for place in places:
        if place[1] not in first_gone | more_gone and draw(st.booleans()):
            left = first.get(place, list(range(COUNT)))
            second[place] = sorted(draw(st.lists(st.sampled_from(left), min_size=1, unique=True)))
    return first, frozenset(first_gone), second, frozenset(more_gone)


@given(two())
@settings(max_examples=200, deadline=None)
def test_what_is_left_is_what_the_second_keeps_of_the_first(drawn) -> None:
    first, gone, second, more = drawn
    own = {place: [first.get(place, list(range(COUNT))).index(n) for n in kept] for place, kept in second.items()}
    sizes = {place: len(kept) for place, kept in first.items()}
    a, b = removal_of(first, gone), removal_of(own, more, sizes)
    both = in_turn(a, b)
    wanted = {p: kept for p, kept in {**first, **second}.items() if p[1] not in gone | more}
    assert both.blocks == gone | more
    assert {(each.kind, each.block): np.flatnonzero(each.kept).tolist() for each in both.units} == wanted
    named = {f"layers.{n}.{'attn' if kind == KV_GROUP else 'mlp'}.out": kept for (kind, n), kept in wanted.items()}
    for name, kept in named.items():
        cols = both.cuts[name].cols if name in both.cuts else np.ones(COUNT, dtype=bool)
        assert np.flatnonzero(cols).tolist() == kept
    assert both.cuts.keys() <= named.keys()
    back = second_of(a, both)
    assert in_turn(a, back).arrays().keys() == both.arrays().keys()
    assert all(np.array_equal(value, both.arrays()[key]) for key, value in in_turn(a, back).arrays().items())
    assert {each.key: each.kept.tolist() for each in back.units if not each.kept.all()} == {
        each.key: each.kept.tolist() for each in b.units if not each.kept.all()
    }


def test_a_sub_layer_that_goes_takes_its_units_along() -> None:
    first = removal_of({(KV_GROUP, 0): [0, 1], (NEURON, 0): [2]})
    both = in_turn(first, Removal(sublayers={"layers.0.attn": 2}))
    assert both.sublayers == {"layers.0.attn": 2}
    assert [each.kind for each in both.units] == [NEURON]
    assert list(both.cuts) == ["layers.0.mlp.out"]
