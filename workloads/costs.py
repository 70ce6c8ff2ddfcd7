"""What an operation costs on a target: the little that whoever budgets time, energy or traffic learns of a machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workloads.errors import UserError

MOVED = ("weight_bytes", "metadata_bytes", "scale_bytes", "activation_bytes", "output_bytes")


@dataclass(frozen=True)
class Cost:
    """`energy_pj` and `moved_bytes` (over the chip's border) are None where the target does not count them. Costs add
    up, and a part that is not counted leaves the sum uncounted."""

    latency_us: float
    energy_pj: float | None = None
    moved_bytes: float | None = None

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.latency_us + other.latency_us,
            _sum(self.energy_pj, other.energy_pj),
            _sum(self.moved_bytes, other.moved_bytes),
        )


def cost_of(row: Mapping[str, Any]) -> Cost:
    """Of a result row. Raises UserError where the target could not run it."""
    if not row["feasible"]:
        raise UserError(f"{row['layer']} cannot run on {row['target']}, so it has no cost: {row['reason']}")
    parts = [_known(row.get(name)) for name in MOVED]
    counted = [part for part in parts if part is not None]
    return Cost(row["latency_us"], _known(row.get("energy_pj")), sum(counted) if counted else None)


def dense_cost_of(row: Mapping[str, Any]) -> Cost:
    """Of the same operation unpruned on the same target. Raises UserError where there is no such baseline."""
    latency_us = _known(row.get("dense_latency_us"))
    if latency_us is None:
        raise UserError(f"{row['layer']} has no dense baseline on {row['target']}: {row['reason'] or 'none is known'}")
    return Cost(latency_us, _known(row.get("dense_energy_pj")), _known(row.get("dense_bytes")))


def _known(value: Any) -> Any:
    """None for what is missing, however a table says so."""
    return value if value is not None and value == value else None


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other
