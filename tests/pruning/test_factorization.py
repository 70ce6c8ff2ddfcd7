"""Products of factors: the operator written out, the errors that truncated SVDs leave, the sizes that are asked for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints.factored import product
from pruning.factorization import project, roots_of
from pruning.methods.factorized import BlockDense, BlockShuffle, Factorized, LowRank
from validation.conformance.factor_laws import module_of
from workloads.errors import NotForThisModel, UserError
from workloads.factors import Factors
from workloads.layers import Layer

ALL = [LowRank(), BlockDense(blocks=4), BlockShuffle(blocks=2), BlockShuffle(blocks=4)]
names = [f"{method.name}-{method.grid[0]}" for method in ALL]
each = pytest.mark.parametrize("method", ALL, ids=names)


def sizes_of(method: Factorized, rows: int, cols: int, width: int) -> Factors:
    columns, groups = method.grid
    return Factors((columns, width, cols // columns), (groups, rows // groups, columns * width // groups))


def drawn(rows: int, cols: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


def tail(matrix: np.ndarray, rank: int) -> float:
    """The sum of the squares of the singular values that a matrix of that rank leaves out."""
    return float((np.linalg.svd(matrix, compute_uv=False)[rank:] ** 2).sum())


def written_out(first: np.ndarray, second: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Channel by channel, as methods 8.1 says it."""
    (columns, width, cols), (groups, rows, _) = first.shape, second.shape
    channels = [first[k, i] @ x[k * cols : (k + 1) * cols] for k in range(columns) for i in range(width)]
    inner = np.zeros((groups, columns * width // groups))
    for m, value in enumerate(channels):
        inner[m % groups, m // groups] = value
    y = np.zeros(groups * rows)
    for block in range(groups):
        for s in range(rows):
            y[s * groups + block] = second[block, s] @ inner[block]
    return y


@given(st.sampled_from(ALL), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_operator_is_the_one_of_the_paper(method, a, b, rank, seed):
    columns, groups = method.grid
    sizes = sizes_of(method, a * groups, b * columns, rank * groups)
    draw = np.random.default_rng(seed)
    first, second, x = (draw.normal(size=shape) for shape in (sizes.first, sizes.second, b * columns))
    expected = written_out(first, second, x)
    pair = torch.from_numpy(first), torch.from_numpy(second)
    np.testing.assert_allclose(module_of(pair)(torch.from_numpy(x)[None])[0], expected, atol=1e-12)
    np.testing.assert_allclose(product(*pair).numpy() @ x, expected, atol=1e-12)
    assert product(*pair).shape == sizes.shape
    assert sizes.n_weights == first.size + second.size


def test_low_rank_leaves_the_singular_values_that_it_drops():
    weight = drawn(40, 24)
    made = product(*project(weight, sizes_of(LowRank(), 40, 24, 7)))
    assert np.linalg.matrix_rank(made.numpy()) == 7
    assert float((weight - made).square().sum()) == pytest.approx(tail(weight.numpy(), 7), rel=1e-5)


@pytest.mark.parametrize(("cols", "of_columns"), [(1, 40), (4, 40)])
def test_block_dense_approximates_each_block_of_columns_alone(cols, of_columns):
    weight = drawn(24, of_columns)
    made = product(*project(weight, sizes_of(BlockDense(blocks=cols), 24, of_columns, 3)))
    size = of_columns // cols
    for k in range(cols):
        part = slice(k * size, (k + 1) * size)
        left = float((weight - made)[:, part].square().sum())
        assert left == pytest.approx(tail(weight[:, part].numpy(), 3), rel=1e-5)
    other = weight.clone()
    other[:, size:] += 1  # beyond the first block
    again = product(*project(other, sizes_of(BlockDense(blocks=cols), 24, of_columns, 3)))
    assert torch.equal(again[:, :size], made[:, :size])


@pytest.mark.parametrize("blocks", [2, 4])
def test_block_shuffle_approximates_every_sub_matrix_alone(blocks):
    weight, rank = drawn(24, 40), 2
    made = product(*project(weight, sizes_of(BlockShuffle(blocks=blocks), 24, 40, rank * blocks)))
    for g in range(blocks):
        for k in range(blocks):
            part = slice(g, None, blocks), slice(k * 40 // blocks, (k + 1) * 40 // blocks)
            assert np.linalg.matrix_rank(made[part].numpy(), tol=1e-4) == rank
            left = float((weight - made)[part].square().sum())
            assert left == pytest.approx(tail(weight[part].numpy(), rank), rel=1e-5)


@each
@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (32, 32)])
def test_full_rank_is_the_matrix(method, shape):
    columns, groups = method.grid
    weight = drawn(*shape)
    full = groups * min(shape[0] // groups, shape[1] // columns)
    roots, _ = roots_of(torch.cov(drawn(shape[1], 200)), columns, 1e-9)
    for known in (None, roots):
        torch.testing.assert_close(product(*project(weight, sizes_of(method, *shape, full), known)), weight)


@each
def test_data_aware_factors_leave_the_least_of_the_output(method):
    columns, groups = method.grid
    weight, width = drawn(24, 16), 2 if columns > groups else 4
    x = drawn(300, 16, 1) * torch.linspace(0.1, 3, 16) + drawn(300, 1, 2)
    hessian = x.T @ x
    roots, damping = roots_of(hessian, columns, 1e-3)
    assert damping == 1e-3
    plain, aware = (product(*project(weight, sizes_of(method, 24, 16, width), known)) for known in (None, roots))
    size, added = 16 // columns, 1e-3 * float(hessian.diagonal().mean())
    for k in range(columns):
        part = slice(k * size, (k + 1) * size)
        moments = hessian[part, part].double() + added * torch.eye(size)
        root = np.linalg.cholesky(moments.numpy())
        for g in range(groups):
            target = weight[g::groups, part].double().numpy() @ root
            left = (weight - aware)[g::groups, part].double().numpy() @ root
            assert (left**2).sum() == pytest.approx(tail(target, width // groups), rel=1e-4)
    if columns == 1:
        errors = [float(((weight - made) @ x.T).square().sum()) for made in (aware, plain)]
        assert errors[0] < errors[1]


def test_moments_that_are_singular_get_more_damping():
    lower, damping = roots_of(torch.tensor([[1.0, 1.001], [1.001, 1.0]]), 1, 1e-4)
    assert damping == pytest.approx(1e-2)
    assert bool(torch.isfinite(lower[0]).all())
    with pytest.raises(UserError, match="cannot be factorised; raise `damping`"):
        roots_of(torch.tensor([[1.0, 9.0], [9.0, 1.0]]), 1, 1e-4)


def layer(rows: int, cols: int, block: int = 1, role: str = "up") -> Layer:
    return Layer(f"model.layers.{block}.{role}", role, block, rows, cols)


@pytest.mark.parametrize("shape", [(172, 64), (64, 172), (128, 128)])
def test_weights_are_those_of_the_published_table(shape):
    rows, cols = shape
    assert LowRank(rank=8).sizes(layer(*shape), 0).n_weights == 8 * (rows + cols)
    assert BlockDense(blocks=4, rank=8).sizes(layer(*shape), 0).n_weights == 8 * cols // 4 + 8 * rows
    published = BlockShuffle(blocks=2, width=min(shape) // 2).sizes(layer(*shape), 0)
    small, large = sorted(shape)
    assert published.n_weights == small * small // 2 + small * large // 2


@each
@given(st.floats(0, 0.99), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_ranks_come_nearest_to_the_share_asked_for(method, sparsity, a, b):
    columns, groups = method.grid
    shape = (16 * a * groups, 16 * b * columns)
    found = method.sizes(layer(*shape), sparsity)
    whole, per_step = shape[0] * shape[1], found.n_weights // found.first[1] * groups
    assert found.shape == shape
    assert found.n_weights <= whole
    near = abs(found.n_weights - (1 - sparsity) * whole) <= per_step / 2 + 1e-6
    assert near or found.first[1] == groups or found.n_weights + per_step > whole


def test_only_ffn_matrices_behind_the_first_block_are_taken():
    taken = {(role, block) for role in ("q", "o", "up", "fc2", "expert_down", "other") for block in range(3)
             if LowRank().takes(layer(8, 8, block, role))}  # fmt: skip
    assert taken == {(role, block) for role in ("up", "fc2", "expert_down") for block in (1, 2)}
    assert LowRank(dense_blocks=0).takes(layer(8, 8, 0))


@pytest.mark.parametrize(
    ("method", "shape", "message"),
    [
        (BlockDense(blocks=5), (8, 64), "5 blocks do not divide its 64 inputs; choose other `blocks`"),
        (BlockShuffle(blocks=4), (6, 64), "4 blocks do not divide its 6 outputs"),
        (LowRank(rank=60), (64, 64), "factors of width 60 hold 7,680 weights, the matrix 4,096; ask for less"),
        (LowRank(), (1, 64), "factors of width 1 hold 65 weights, the matrix 64"),
    ],
)
def test_sizes_that_cannot_be(method, shape, message):
    with pytest.raises(NotForThisModel, match=message):
        method.check_layer(layer(*shape))
