"""The table of allocations: which matrix gets how much of the target sparsity. One line each (methods 17)."""

from pruning.allocations.allocation import Allocation, AllocationJob, LayerSparsities
from pruning.allocations.alpha import Alpha
from pruning.allocations.depth import Depth
from pruning.allocations.er import Er, Erk
from pruning.allocations.owl import Owl
from workloads.plugins import Wanted, find

# The same sparsity everywhere is no allocation.
ALLOCATIONS: dict[str, type[Allocation]] = {allocation.name: allocation for allocation in (Er, Erk, Owl, Alpha, Depth)}


def find_allocation(name: str) -> type[Allocation]:
    """One of ours, of an installed package or of a file (workloads/plugins.py). Raises UserError with the nearest known
    name."""
    if name in ALLOCATIONS:
        return ALLOCATIONS[name]
    found: type[Allocation] = find(Wanted("allocations", Allocation, ALLOCATIONS, ("allocate",)), name)
    return found


__all__ = ["ALLOCATIONS", "Allocation", "AllocationJob", "LayerSparsities", "find_allocation"]
