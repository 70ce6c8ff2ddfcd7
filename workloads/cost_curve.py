"""What a matrix costs as its share of zeros grows: the curve that budgets which are learned see of a machine."""

from dataclasses import dataclass, replace

import numpy as np

from workloads.choices import Choice
from workloads.cost_table import CostTable
from workloads.errors import UserError

ROWS_IN_STEP = "rows_in_step"  # of a table's facts


@dataclass(frozen=True)
class CostCurve:
    """Linear between `sparsities`, rising from 0; `costs` at them, none higher than the one before. Beyond the last it
    stays. `rows_in_step`: of each so many rows in turn all wait for the fullest; 1: none does."""

    sparsities: np.ndarray
    costs: np.ndarray
    rows_in_step: int = 1

    def at(self, sparsity: float) -> float:
        return float(np.interp(sparsity, self.sparsities, self.costs))

    def saved_by(self, sparsity: float, reach: float = 0.04) -> float:
        """How much cost one more unit of sparsity saves there: the mean slope within `reach` to both sides, so that a
        step of the curve is seen before it is stood on."""
        low, high = max(0.0, sparsity - reach), min(1.0, sparsity + reach)
        return (self.at(low) - self.at(high)) / (high - low)


@dataclass(frozen=True)
class Priced:
    """The curves of a table, by matrix, and what a bundle records of it."""

    curves: dict[str, CostCurve]
    facts: dict[str, object]

    @property
    def dense(self) -> float:
        return sum(curve.at(0) for curve in self.curves.values())

    def cost(self, sparsity: float) -> float:
        """With the same sparsity everywhere."""
        return sum(curve.at(sparsity) for curve in self.curves.values())

    def even(self, share: float) -> float:
        """The sparsity that, the same everywhere, costs `share` of dense. Raises UserError for a share out of reach."""
        top = max(float(curve.sparsities[-1]) for curve in self.curves.values())
        if not self.cost(top) <= share * self.dense <= self.dense:
            raise UserError(
                f"`budget` {share:g} of the dense cost cannot be met: unstructured masks reach "
                f"{self.cost(top) / self.dense:.3f} to 1 there; ask for a share between, or name another machine"
            )
        low, high = 0.0, top
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.cost(middle) > share * self.dense else (low, middle)
        return high


def priced(table: CostTable, bits: dict[str, int] | None = None) -> Priced:
    """Curves over the unstructured choices of a table, of a matrix with `bits` over those with so many. Matrices that a
    machine runs as one share its cost by their weights, taken as equal. A choice that is slower than one of fewer zeros
    costs what that one does. Raises UserError for a table without such choices."""
    curves = {}
    for unit, row in zip(table.units, table.costs, strict=True):
        for name in unit.layers:
            curve = _curve(table.choices, row / len(unit.layers), (bits or {}).get(name))
            curves[name] = replace(curve, rows_in_step=table.facts.get(ROWS_IN_STEP, 1))
    return Priced(curves, {"sha256": table.sha256, "measure": table.measure, **table.facts})


def _curve(choices: tuple[Choice, ...], costs: np.ndarray, bits: int | None) -> CostCurve:
    places = [j for j, one in enumerate(choices) if one.pattern is None and one.bits == bits and not np.isnan(costs[j])]
    places.sort(key=lambda j: choices[j].zeros)
    if len(places) < 2:
        raise UserError("learned budgets need costs at several sparsities; add `unstructured` to the choices")
    sparsities = np.array([choices[j].zeros for j in places])
    return CostCurve(sparsities, np.minimum.accumulate(costs[places]))
