"""What a pruning method, a quantizer or an allocation of your own is made of. Needs torch."""

from pruning.allocations import Allocation, AllocationJob, LayerSparsities
from pruning.block_job import BlockJob, Decision
from pruning.evidence.needs import Need
from pruning.methods.method import Evidence, PruningMethod, feature_norm_or_ones
from pruning.quantizers import Quantizer

__all__ = [
    "Allocation", "AllocationJob", "BlockJob", "Decision", "Evidence", "LayerSparsities", "Need", "PruningMethod",
    "Quantizer", "feature_norm_or_ones",
]  # fmt: skip
