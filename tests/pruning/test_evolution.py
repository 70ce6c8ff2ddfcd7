"""Evolution of sizes: laws of every candidate, and the optimum of small spaces by trying everything."""

from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.evolution.evolve import Breeder, Search, evolve
from pruning.evolution.sizes import Candidate, Gene, Space, masks
from tests.thinned import thinned
from workloads.removal import KV_GROUP, NEURON


@st.composite
def spaces(draw) -> Space:
    """A few blocks of an attention and an FFN."""
    genes = []
    for block in range(draw(st.integers(1, 4))):
        genes.append(Gene((f"{block}.attn",), KV_GROUP, block, draw(st.integers(1, 5)), 40))
        step = draw(st.sampled_from([1, 1, 3]))
        genes.append(Gene((f"{block}.mlp",), NEURON, block, draw(st.integers(8, 40)), 3, step))
    return Space(tuple(genes), draw(st.floats(0, 0.6)))


def breeder(space: Space, seed: int = 0, **wanted) -> Breeder:
    return Breeder(space, Search(**wanted), list(space.blocks), np.random.default_rng(seed))


def check(space: Space, candidate: Candidate, depth: int, swaps: int) -> None:
    """Every law, from the candidate's own numbers."""
    total = sum(gene.count * gene.weights for gene in space.genes)
    left = sum(count * gene.weights for count, gene in zip(candidate.kept, space.genes, strict=True))
    step = max(gene.step for gene in space.genes if gene.kind == NEURON) * 3
    assert abs(left - (1 - space.sparsity) * total) <= step / 2 + 1e-6
    assert len(candidate.gone) <= depth < max(2, depth + 1)
    assert len(candidate.gone) < len({gene.block for gene in space.genes})
    for gene, count in zip(space.genes, candidate.kept, strict=True):
        if gene.block in candidate.gone:
            assert count == 0
        else:
            assert 1 <= count <= gene.count
            assert count == gene.count or count % gene.step == 0
    for own in candidate.swaps:
        assert len(own) <= swaps
        assert len({n for n, _ in own}) == len({m for _, m in own}) == len(own)
    orders = {key: np.arange(gene.count) for gene in space.genes for key in gene.keys}
    made = masks(candidate, space.genes, orders)
    for gene, count in zip(space.genes, candidate.kept, strict=True):
        assert all(int(made[key].sum()) == count for key in gene.keys)


@given(spaces(), st.integers(0, 99), st.integers(0, 2), st.integers(0, 2))
@settings(max_examples=20, deadline=None)
def test_every_candidate_is_legal(space, seed, depth, swaps):
    making = breeder(space, seed, depth=depth, swaps=swaps, population=12, mutations=5, crossovers=4)
    first = making.several(11, making.random, [making.uniform()])
    seen = dict.fromkeys(first, 0.0)
    second = making.children(first[:4], seen)
    for candidate in first[1:] + second:
        check(space, candidate, depth, swaps)
        assert space.is_legal(candidate)
    assert len({*first, *second}) == len(first) + len(second)
    assert len(first) <= 12
    assert len(second) <= 12


@given(spaces())
@settings(max_examples=60, deadline=None)
def test_the_uniform_one_keeps_the_same_share_everywhere(space):
    kept = breeder(space).uniform().kept
    near = [
        abs(count - gene.count * (1 - space.sparsity)) < max(gene.step, 1) + 40 * len(space.genes) / 3
        for count, gene in zip(kept, space.genes, strict=True)
    ]
    assert all(near)
    if not space.sparsity:
        assert kept == tuple(gene.count for gene in space.genes)


def test_uniform_by_hand():
    """5 x 4 kv groups and 5 x 172 neurons at 20 %: 4 groups go, and 172 neurons."""
    genes = tuple(
        Gene((f"{n}.{kind}",), kind, n, count, weights)
        for n in range(5)
        for kind, count, weights in ((KV_GROUP, 4, 3072), (NEURON, 172, 192))
    )
    kept = breeder(Space(genes, 0.2)).uniform().kept
    assert sorted(kept[::2]) == [3, 3, 3, 3, 4]
    assert sum(kept[1::2]) == 688
    assert set(kept[1::2]) <= {137, 138}


def test_unreachable_budgets_are_not_legal():
    genes = (Gene(("a",), NEURON, 0, 4, 1), Gene(("b",), NEURON, 1, 4, 1))
    assert not Space(genes, 0.9).is_legal(breeder(Space(genes, 0.9)).uniform())


@cache
def every(space: Space) -> list[Candidate]:
    found = [Candidate(kept) for kept in product(*(gene.levels.tolist() for gene in space.genes))]
    return [candidate for candidate in found if space.is_legal(candidate)]


@pytest.mark.parametrize("seed", thinned(range(2), every=2))
def test_the_optimum_of_a_small_space(seed):
    """A bowl around sizes far from uniform: the best of all legal ones is found, with fewer looks than there are."""
    genes = tuple(
        Gene((f"{block}.{kind}",), kind, block, count, weights)
        for block in range(3)
        for kind, count, weights in ((KV_GROUP, 4, 12), (NEURON, 12, 2))
    )
    space = Space(genes, 0.4)
    wanted = np.array([4, 3, 1, 11, 3, 6])
    looks = []

    def loss(candidate: Candidate) -> float:
        looks.append(candidate)
        return (
            float((np.square(np.array(candidate.kept) - wanted) * np.tile([12, 2], 3)).sum()) + 1e-3 * candidate.kept[0]
        )

    found = evolve(space, Search(generations=12), [0, 1, 2], loss, np.random.default_rng(seed))
    legal = every(space)
    count = len(looks)
    assert count == len(set(looks)) < len(legal) / 3
    assert loss(found) == min(map(loss, legal))


def test_a_space_that_is_used_up_ends():
    space = Space((Gene(("a",), NEURON, 0, 3, 1), Gene(("b",), NEURON, 1, 3, 1)), 1 / 3)
    looks = []
    evolve(space, Search(), [0, 1], lambda candidate: looks.append(candidate) or 0.0, np.random.default_rng(0))
    assert sorted(candidate.kept for candidate in looks) == [(1, 3), (2, 2), (3, 1)]


@given(spaces(), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_never_worse_than_uniform(space, seed):
    noise = np.random.default_rng(seed + 1)
    losses = {}

    def loss(candidate):
        return losses.setdefault(candidate, float(noise.choice([noise.random(), np.nan])))

    draw = np.random.default_rng(seed)
    found = evolve(space, Search(3, 8, 4, 4, 2, depth=1, swaps=1), list(space.blocks), loss, draw)
    uniform = breeder(space).uniform()
    assert next(iter(losses)) == uniform
    assert losses[found] <= losses[uniform] or np.isnan(losses[uniform])


def test_blocks_that_go_first_are_those_of_the_order():
    genes = tuple(Gene((f"{n}",), NEURON, n, 20, 1) for n in range(8))
    making = breeder(Space(genes, 0.5), depth=2)
    making.order = [6, 1, 4, 3, 0, 2, 5, 7]
    gone = {making.random().gone for _ in range(200)}
    assert {len(each) for each in gone} == {0, 1, 2}
    assert {each for each in gone if len(each) == 1} == {(1,), (6,)}
    assert {n for each in gone for n in each} == {6, 1, 4, 3}


def test_children_of_unequal_depth_are_not_crossed():
    genes = tuple(Gene((f"{n}",), NEURON, n, 20, 1) for n in range(4))
    making = breeder(Space(genes, 0.5), depth=1, mutations=0, crossovers=40, population=40)
    plain, other = making._made(np.full(4, 0.5)), making._made(np.full(4, 0.5), (2,))
    third = making._made(np.array([0.9, 0.1, 0.6, 0.4]))
    for child in making.children([plain, other, third], dict.fromkeys([plain, other, third], 0.0))[:3]:
        assert not child.gone


def test_swaps_change_places_across_the_cut():
    gene = Gene(("a",), NEURON, 0, 6, 1)
    order = np.array([5, 3, 1, 0, 2, 4])  # the best first
    made = masks(Candidate((3,), (), (((0, 1),),)), (gene,), {"a": order})["a"]
    assert np.flatnonzero(made).tolist() == [2, 3, 5]  # 1, the worst that would stay, for 2, the second that would go
