"""ADMM under a given mask against least squares by explicit inverses, row by row, and its own formulas written out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.second_order.admm import admm
from tests.pruning.second_order.test_groups import measured, problem
from workloads.errors import UserError


def best(weight: torch.Tensor, hessian: torch.Tensor, mask: torch.Tensor, percdamp: float) -> torch.Tensor:
    """w G_:K (G_KK)^-1 of every row, G = H + percdamp diag(H), float64."""
    full = hessian.double() + percdamp * torch.diag(hessian.diagonal().double())
    made = torch.zeros(weight.shape, dtype=torch.float64)
    for r, row in enumerate(mask):
        kept = torch.nonzero(row).squeeze(1)
        made[r, kept] = weight[r].double() @ full[:, kept] @ torch.linalg.inv(full[kept][:, kept])
    return made


def twin(weight, hessian, mask, rho, percdamp, iterations):
    """As the formulas stand, V (in, out)."""
    h, m = hessian.double(), mask.double().T
    d = h.diagonal().sqrt() + 1e-8
    g = torch.diag(1 / d) @ h @ torch.diag(1 / d)
    g = g + percdamp * g.diagonal().mean() * torch.eye(len(g), dtype=torch.float64)
    v0 = (weight.double() @ torch.diag(d)).T
    k = torch.linalg.inv(g + rho * torch.eye(len(g), dtype=torch.float64))
    b, v, u = g @ v0, v0, torch.zeros_like(v0)
    for _ in range(iterations):
        z = (v + u) * m
        u = u + v - z
        v = k @ (b + rho * (z - u))
    return ((v + u) * m).T @ torch.diag(1 / d)


def masks(rows: int, cols: int, seed: int, structured: bool) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    mask = torch.rand(cols if structured else (rows, cols), generator=draw) < 0.5
    mask[..., 0] = True
    return mask


@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize(("rho", "percdamp"), [(1.0, 0.1), (10.0, 0.1), (0.3, 0.02)])
def test_the_formulas(structured, rho, percdamp):
    weight, _, hessian = problem(700, 12)  # more rows than a chunk
    mask = masks(700, 12, 1, structured)
    made = admm(weight, hessian, mask, rho, percdamp, 5)
    expected = twin(weight, hessian, mask.expand(700, 12), rho, percdamp, 5)
    torch.testing.assert_close(made.double(), expected, rtol=1e-5, atol=1e-6)


@given(st.integers(0, 999), st.booleans())
@settings(max_examples=25, deadline=None)
def test_it_comes_to_least_squares(seed, structured):
    weight, _, hessian = problem(3, 8, seed)
    mask = masks(3, 8, seed + 1, structured)
    made = admm(weight, hessian, mask, 0.3, 0.01, 2000)
    expected = best(weight, hessian, mask.expand(3, 8), 0.01)
    torch.testing.assert_close(made.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert not made[~mask.expand(3, 8)].any()


def test_twenty_iterations_leave_less_error_than_none():
    weight, inputs, hessian = problem(16, 32, 3)
    mask = masks(16, 32, 4, False)
    plain = measured(weight, weight * mask, inputs)
    few, many = (measured(weight, admm(weight, hessian, mask, iterations=n), inputs) for n in (20, 500))
    assert many <= few < plain


def test_nothing_pruned_changes_nothing():
    weight, _, hessian = problem(4, 6)
    made = admm(weight, hessian, torch.ones(6, dtype=torch.bool))
    torch.testing.assert_close(made, weight, rtol=1e-6, atol=1e-7)


def test_inputs_that_were_always_zero():
    weight, _, hessian = problem(4, 6)
    hessian[2], hessian[:, 2] = 0, 0
    made = admm(weight, hessian, torch.tensor([True, False, True, True, True, False]))
    assert bool(torch.isfinite(made).all())
    torch.testing.assert_close(made[:, 2], weight[:, 2])


def test_the_same_whatever_the_number_of_threads(monkeypatch):
    weight, _, hessian = problem(1100, 20)
    mask = masks(1100, 20, 0, False)
    found = []
    for workers in ("1", "3"):
        monkeypatch.setenv("PRUNESIM_THREADS", workers)
        found.append(admm(weight, hessian, mask))
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keep": torch.ones(5, dtype=torch.bool)}, r"the mask has shape \(5,\), the weight \(4, 6\)"),
        ({"rho": 0.0}, "rho above 0 and at least 1 iteration, not 0 and 20"),
        ({"iterations": 0}, "at least 1 iteration"),
        ({"percdamp": -1.0}, "damping -1 is no share"),
        ({"hessian": torch.eye(5)}, "needs a Hessian of 6 x 6, not 5 x 5"),
        ({"hessian": torch.full((6, 6), float("nan"))}, "not finite"),
        ({"weight": torch.full((4, 6), float("inf"))}, "not finite"),
    ],
)
def test_refusals(change, message):
    weight, _, hessian = problem(4, 6)
    given_ = {"weight": weight, "hessian": hessian, "keep": torch.ones(6, dtype=torch.bool)} | change
    with pytest.raises(UserError, match=message):
        admm(**given_)
