"""The table of allocations: which matrix gets how much of the target sparsity. One line each (methods 17)."""

from pruning.allocations.allocation import Allocation, AllocationJob, LayerSparsities
from pruning.allocations.alpha import Alpha
from pruning.allocations.depth import Depth
from pruning.allocations.er import Er, Erk
from pruning.allocations.owl import Owl
from workloads.errors import unknown

# The same sparsity everywhere is no allocation.
ALLOCATIONS: dict[str, type[Allocation]] = {allocation.name: allocation for allocation in (Er, Erk, Owl, Alpha, Depth)}


def find_allocation(name: str) -> type[Allocation]:
    """Raises UserError with the nearest known name for an unknown allocation."""
    if name not in ALLOCATIONS:
        raise unknown("allocation", name, ALLOCATIONS)
    return ALLOCATIONS[name]


__all__ = ["ALLOCATIONS", "Allocation", "AllocationJob", "LayerSparsities", "find_allocation"]
