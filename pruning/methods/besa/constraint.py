"""What BESA's learned budgets are held to: so many weights of a scope, or what its matrices may cost on a machine.

    weights   sum N_l s_l is given: every pruned weight counts alike
    cost      sum C_l(s_l) is given, C_l the curve of matrix l (workloads/cost_curve.py): a weight whose pruning saves
              p_l = -C_l'(s_l) / N_l is worth that much more, and budgets move to where least is lost for what is saved

    imbalance a share of a lane group's cost follows its fullest row, for which the others wait:
              C_l at (1 - i) mean(s) + i sum_g n_g m_g / n, m_g = -SOFT log mean_r exp(-s_r / SOFT) of the n_g rows of
              group g, a smooth least. A row's price is then p_l ((1 - i) + i n_g w_r), w_r = exp(-s_r / SOFT) over its
              group's sum: fuller rows are worth pruning, emptier ones are not, and they are pulled together

With the Lagrangian L(s) + lambda (cost - target) a budget's gradient per weight is loss - lambda p; lambda is such that
a step along it leaves the total as it is, to first order. What is left is shifted away after every step.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from checkpoints.discovery import LinearRef
from pruning.methods.besa.matrices import RankedMatrix, final_counts
from workloads.cost_curve import CostCurve
from workloads.errors import UserError

SOFT = 0.005  # of sparsity
Price = float | torch.Tensor  # of a matrix, or (rows,) of each row, with that mean


class Budgeted(Protocol):
    """A matrix with learned budgets (groups,)."""

    ref: LinearRef
    budgets: torch.Tensor
    target: float

    @property
    def n_weights(self) -> int: ...


class Weights:
    """So many weights of all matrices of a scope together."""

    def prices(self, matrices: Sequence[Budgeted]) -> Sequence[Price]:
        """Of pruning one weight of each, 1 on average."""
        return [1.0] * len(matrices)

    def restore(self, matrices: Sequence[Budgeted]) -> None:
        shift_to_target(matrices)

    def counts(self, matrices: Sequence[RankedMatrix]) -> list[torch.Tensor]:
        """(rows,) ranks pruned of every matrix, as learned."""
        return final_counts(matrices)


class Costs(Weights):
    """What the matrices of a scope cost with their targets, they may cost together. `curves` by name. Raises UserError
    for an `imbalance` where no rows wait."""

    def __init__(self, curves: Mapping[str, CostCurve], imbalance: float = 0.0):
        self._curves, self._imbalance = curves, imbalance
        if imbalance and all(curve.rows_in_step == 1 for curve in curves.values()):
            raise UserError("besa: imbalance is of machines whose rows wait for each other; on this one none does")

    def prices(self, matrices: Sequence[Budgeted]) -> Sequence[Price]:
        saved = [self._curve(b).saved_by(self._cost_at(b)) for b in matrices]
        mean = sum(saved) / sum(b.n_weights for b in matrices)
        plain = [s / b.n_weights / mean if mean > 0 else 1.0 for s, b in zip(saved, matrices, strict=True)]
        if not self._imbalance:
            return plain
        return [price * self._shares(b) for price, b in zip(plain, matrices, strict=True)]

    def _shares(self, matrix: Budgeted) -> torch.Tensor:
        """(rows,) of a row's price over its matrix's."""
        waits = [len(rows) * torch.softmax(-rows / SOFT, 0) for rows in self._groups(matrix)]
        return (1 - self._imbalance + self._imbalance * torch.cat(waits)).to(matrix.budgets.dtype)

    def _cost_at(self, matrix: Budgeted, shift: float = 0.0) -> float:
        """The sparsity at which the matrix costs what it does, all budgets shifted."""
        mean = _mean(matrix, shift)
        if not self._imbalance:
            return mean
        rows = sum(len(rows) * least(rows) for rows in self._groups(matrix, shift))
        return (1 - self._imbalance) * mean + self._imbalance * rows / len(matrix.budgets)

    def _groups(self, matrix: Budgeted, shift: float = 0.0) -> Sequence[torch.Tensor]:
        return (matrix.budgets.double() + shift).clamp(0, 1).split(self._curve(matrix).rows_in_step)

    def restore(self, matrices: Sequence[Budgeted]) -> None:
        """All budgets move by one constant, within [0, 1], until their cost is no higher than it may be."""
        wanted = sum(self._curve(b).at(b.target) for b in matrices)
        low, high = -1.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            if sum(self._curve(b).at(self._cost_at(b, middle)) for b in matrices) <= wanted:
                high = middle
            else:
                low = middle
        for matrix in matrices:
            matrix.budgets.add_(high).clamp_(0, 1)

    def counts(self, matrices: Sequence[RankedMatrix]) -> list[torch.Tensor]:
        """Each matrix what its own budgets come to, rounded up to whole weights."""
        found = []
        for matrix in matrices:
            wanted, given = matrix.wanted(), matrix.target
            if not matrix.in_runs:
                matrix.target = math.ceil(float(wanted.double().mean()) * matrix.n_weights - 1e-6) / matrix.n_weights
            found += final_counts([matrix], [wanted])
            matrix.target = given
        return found

    def _curve(self, matrix: Budgeted) -> CostCurve:
        return self._curves[matrix.ref.layer.name]


def constraint_of(imbalance: float, curves: Mapping[str, CostCurve] | None) -> Weights:
    """Raises UserError for an imbalance without costs."""
    if curves is not None:
        return Costs(curves, imbalance)
    if imbalance:
        raise UserError("besa: imbalance is of what matrices cost on a machine; give a `cost`, or leave it out")
    return Weights()


def least(budgets: torch.Tensor) -> float:
    """A smooth least of a group's: between that and the mean, and both where all are equal."""
    return float(-SOFT * (torch.logsumexp(-budgets / SOFT, 0) - math.log(len(budgets))))


def weighed(count: int, values: Price, price: Price) -> float:
    """So many times the mean of values (rows,) times their price."""
    if isinstance(price, torch.Tensor):
        return count * float((values * price).mean())
    return (float(values.mean()) if isinstance(values, torch.Tensor) else values) * count * price


def tie(budgets: torch.Tensor, lanes: int) -> None:
    """Budgets (rows,) of each `lanes` rows in turn become their mean, so that no lane of an array waits for another."""
    for rows in budgets.split(lanes):
        rows.fill_(float(rows.double().mean()))


def _mean(matrix: Budgeted, shift: float = 0.0) -> float:
    return float((matrix.budgets.double() + shift).clamp(0, 1).mean())


def shift_to_target(matrices: Sequence[Budgeted]) -> None:
    """All budgets move by one constant, within [0, 1], until the matrices prune their targets together."""
    weights = torch.tensor([b.n_weights for b in matrices], dtype=torch.float64)
    target = float(sum(b.n_weights * b.target for b in matrices) / weights.sum())
    flat = torch.cat([b.budgets.double().cpu() for b in matrices])
    shares = torch.cat(
        [torch.full((len(b.budgets),), b.n_weights / len(b.budgets), dtype=torch.float64) for b in matrices]
    )
    shares /= shares.sum()
    low, high = -1.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if float((flat + middle).clamp(0, 1) @ shares) < target:
            low = middle
        else:
            high = middle
    for matrix in matrices:
        matrix.budgets.add_(low).clamp_(0, 1)
