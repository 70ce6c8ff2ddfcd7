"""Blocks that are pruned or unified, against a slow loop over blocks, and ADMM against its formulas and plain ways."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.rules import keep_by_layer
from pruning.second_order.unified import Blocks, choose, costs, projected, unify
from tests.pruning.second_order.test_groups import measured, problem
from workloads.errors import UserError

SHAPES = st.sampled_from([(1, 1), (1, 4), (4, 1), (3, 3), (2, 5), (8, 8), (16, 1)])


def cut(shape, block, pruned, unified):
    number = -(-shape[0] // block[0]) * -(-shape[1] // block[1])
    gone = int(pruned * number)
    return Blocks(shape, *block, (gone, min(int(unified * number), number - gone)))


def twin(weight, a, blocks):
    """Block after block: (cost of pruning, of unifying, magnitude) and the slices."""
    rows, cols = weight.shape
    found = []
    for top in range(0, rows, blocks.height):
        for left in range(0, cols, blocks.width):
            place = slice(top, min(top + blocks.height, rows)), slice(left, min(left + blocks.width, cols))
            w, share = weight[place].double(), a[place[1]].double().expand(weight[place].shape)
            mean = (share * w.abs()).sum() / share.sum()
            found.append(((share * w**2).sum(), (share * (w.abs() - mean) ** 2).sum(), mean, place))
    return found


def drawn(shape, seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw), torch.rand(shape[1], generator=draw) + 0.1


@given(SHAPES, st.integers(0, 999), st.floats(0, 0.6), st.floats(0, 0.6))
@settings(max_examples=60, deadline=None)
def test_the_projection_is_that_of_a_loop_over_blocks(block, seed, pruned, unified):
    weight, a = drawn((9, 14), seed)
    blocks = cut((9, 14), block, pruned, unified)
    made, kinds = projected(weight, a, blocks)
    expected, found = weight.double().clone(), twin(weight, a, blocks)
    order = sorted(range(len(found)), key=lambda b: (found[b][0], b))
    gone = order[: blocks.counts[0]]
    left = [b for b in range(len(found)) if b not in gone]
    if block != (1, 1):  # where every block costs nothing to unify, roundings decide in the loop
        same = sorted(left, key=lambda b: (found[b][1], b))[: blocks.counts[1]]
        for b in same:
            w = expected[found[b][3]]
            expected[found[b][3]] = torch.where(w < 0, -found[b][2], found[b][2])
    for b in gone:
        expected[found[b][3]] = 0
    torch.testing.assert_close(made, expected, rtol=1e-12, atol=1e-12)
    assert int(kinds.pruned.sum()) == blocks.counts[0]
    assert int(kinds.unified.sum()) == blocks.counts[1]


@given(SHAPES, st.integers(0, 999), st.floats(0, 0.6), st.floats(0, 0.4))
@settings(max_examples=60, deadline=None)
def test_projecting_twice_is_projecting_once(block, seed, pruned, unified):
    weight, a = drawn((9, 14), seed)
    weight[weight.abs() < 0.2] = 0
    blocks = cut((9, 14), block, pruned, unified)
    once, kinds = projected(weight, a, blocks)
    twice, again = projected(once, a, blocks)
    assert torch.equal(once, twice)
    assert torch.equal(kinds.pruned, again.pruned)
    assert torch.equal(kinds.unified, again.unified)


@given(SHAPES, st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_pruning_a_block_never_costs_less_than_unifying_it(block, seed):
    weight, a = drawn((9, 14), seed)
    found = costs(weight, a, cut((9, 14), block, 0, 0))
    assert bool((found.pruning >= found.unifying).all())
    assert bool((found.unifying >= 0).all())


@given(SHAPES, st.integers(0, 999), st.floats(0.01, 3))
@settings(max_examples=40, deadline=None)
def test_no_other_magnitude_costs_less(block, seed, other):
    weight, a = drawn((9, 14), seed)
    blocks = cut((9, 14), block, 0, 0)
    found = costs(weight, a, blocks)
    off = a.double() * (weight.double().abs() - blocks.spread(found.magnitude * other)) ** 2
    assert bool((blocks.cut(off).sum(2) >= found.unifying - 1e-12).all())


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.9])
def test_blocks_of_one_weight_without_unified_ones_are_unstructured_pruning(sparsity):
    weight, a = drawn((20, 30), 4)
    weight[3] = weight[2]  # ties
    blocks = cut((20, 30), (1, 1), sparsity, 0)
    for importance in (torch.ones(30), a):
        made, _ = projected(weight, importance, blocks)
        keep = keep_by_layer(weight.double().square() * importance, sparsity)
        assert torch.equal(made.float(), torch.where(keep, weight, 0.0))


def test_ties_go_to_the_first_block():
    blocks = Blocks((2, 8), 1, 4, (1, 2))
    kinds = choose(costs(torch.ones(2, 8), torch.ones(8), blocks), blocks)
    assert kinds.pruned.tolist() == [[True, False], [False, False]]
    assert kinds.unified.tolist() == [[False, True], [True, False]]


def test_the_formulas():
    """As they stand, V (out, in), blocks settled after half of six iterations."""
    weight, _, hessian = problem(8, 12)
    blocks = cut((8, 12), (2, 3), 0.25, 0.5)
    h, w = hessian.double(), weight.double()
    d = torch.diag(h.diagonal().sqrt() + 1e-8)
    g = torch.linalg.inv(d) @ h @ torch.linalg.inv(d)
    g = g + 0.05 * g.diagonal().mean() * torch.eye(12, dtype=torch.float64)
    inverse, v0 = torch.linalg.inv(g + 0.7 * torch.eye(12, dtype=torch.float64)), w @ d
    v, u, kinds, tried = v0, torch.zeros_like(v0), None, []
    for step in range(6):
        made, kinds = projected((v + u) @ torch.linalg.inv(d), d.diagonal() ** 2, blocks, kinds if step >= 3 else None)
        off = w - made
        tried.append((float((off @ h * off).sum()), made))
        u = u + v - made @ d
        v = (v0 @ g + 0.7 * (made @ d - u)) @ inverse
    found = unify(weight, hessian, blocks, True, 0.7, 0.05, 6)
    error, expected = min(tried, key=lambda pair: pair[0])
    torch.testing.assert_close(found.weight.double(), expected, rtol=1e-5, atol=1e-6)
    whole = float((w @ h * w).sum())
    assert found.error == pytest.approx(error / whole, rel=1e-6)
    assert found.plain_error == pytest.approx(tried[0][0] / whole, rel=1e-6)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("block", [(1, 8), (4, 4), (8, 1)])
def test_admm_leaves_less_error_than_the_plain_ways(weighted, block):
    """Than projecting once, and than pruning as many blocks by their magnitude and touching nothing else; measured on
    the inputs themselves."""
    weight, inputs, hessian = problem(32, 24, 3)
    both, alone = cut((32, 24), block, 0.25, 0.25), cut((32, 24), block, 0.25, 0)
    whole = measured(weight, torch.zeros_like(weight), inputs)
    for blocks in (both, alone):
        found = unify(weight, hessian, blocks, weighted, 1.0, 0.01, 30)
        plain, _ = projected(weight, hessian.diagonal() if weighted else torch.ones(24), blocks)
        error, of_plain = (measured(weight, made.float(), inputs) for made in (found.weight, plain))
        assert error < 0.9 * of_plain
        assert found.error == pytest.approx(error / whole, rel=1e-3)
        assert found.plain_error == pytest.approx(of_plain / whole, rel=1e-3)
    by_magnitude, _ = projected(weight, torch.ones(24), alone)
    assert found.error < 0.9 * measured(weight, by_magnitude.float(), inputs) / whole


@given(SHAPES, st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_what_admm_gives_holds_the_blocks(block, seed):
    weight, _, hessian = problem(9, 14, seed)
    blocks = cut((9, 14), block, 0.3, 0.4)
    found = unify(weight, hessian, blocks, True, 1.0, 0.01, 6)
    values = blocks.cut(found.weight.abs())
    real = blocks.cut(torch.ones(9, 14)) > 0
    assert not bool(values[found.kinds.pruned].any())
    high, low = values.amax(2), torch.where(real, values, torch.inf).amin(2)
    assert torch.equal(high[found.kinds.unified], low[found.kinds.unified])
    assert int(found.kinds.pruned.sum()), int(found.kinds.unified.sum()) == blocks.counts


def test_inputs_that_were_always_zero():
    weight, _, hessian = problem(4, 8)
    hessian[2:4], hessian[:, 2:4] = 0, 0
    for weighted in (True, False):
        found = unify(weight, hessian, cut((4, 8), (1, 2), 0.25, 0.5), weighted, 1.0, 0.01, 10)
        assert bool(torch.isfinite(found.weight).all())
        assert found.error <= found.plain_error


def test_the_same_whatever_the_number_of_threads(monkeypatch):
    weight, _, hessian = problem(1100, 20)
    found = []
    for workers in ("1", "3"):
        monkeypatch.setenv("PRUNESIM_THREADS", workers)
        found.append(unify(weight, hessian, cut((1100, 20), (4, 4), 0.3, 0.3), True, 1.0, 0.01, 4).weight)
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rho": 0.0}, "rho above 0 and at least 1 iteration, not 0 and 5"),
        ({"iterations": 0}, "at least 1 iteration"),
        ({"percdamp": -1.0}, "damping -1 is no share"),
        ({"hessian": torch.eye(5)}, "needs a Hessian of 6 x 6, not 5 x 5"),
    ],
)
def test_refusals(change, message):
    weight, _, hessian = problem(4, 6)
    asked = {"rho": 1.0, "percdamp": 0.01, "iterations": 5, "weighted": True, "hessian": hessian} | change
    with pytest.raises(UserError, match=message):
        unify(weight, blocks=cut((4, 6), (1, 2), 0.3, 0.3), **asked)
