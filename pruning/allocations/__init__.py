"""The table of sparsity allocators: which matrix gets how much of the target. One line each (methods 17)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pruning.allocations import alpha, depth, er, owl
from pruning.allocations.allocation import AllocationJob, LayerSparsities
from workloads.errors import unknown


@dataclass(frozen=True)
class Allocator:
    """(parameters, job) -> LayerSparsities. Raises UserError for a target it cannot reach."""

    name: str
    needs_calibration: bool
    parameters_type: type
    allocate: Callable[[Any, AllocationJob], LayerSparsities]
    documentation: str


# The same sparsity everywhere is no allocation. ER and ERK differ for convolutions only: two names, one rule.
ALLOCATORS = {
    name: Allocator(name, module.NEEDS_CALIBRATION, module.Parameters, module.allocate, module.__doc__ or "")
    for name, module in {"er": er, "erk": er, "owl": owl, "alpha": alpha, "depth": depth}.items()
}


@dataclass(frozen=True)
class Allocation:
    """An allocator with its settings."""

    allocator: Allocator
    parameters: Any

    @property
    def facts(self) -> dict[str, Any]:
        """What a bundle records of it."""
        return {"allocator": self.allocator.name, **vars(self.parameters)}


def find_allocator(name: str) -> Allocator:
    """Raises UserError with the nearest known name for an unknown allocator."""
    if name not in ALLOCATORS:
        raise unknown("allocator", name, ALLOCATORS)
    return ALLOCATORS[name]


__all__ = ["ALLOCATORS", "Allocation", "AllocationJob", "Allocator", "LayerSparsities", "find_allocator"]
