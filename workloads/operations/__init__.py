"""What a model executes, one operation at a time.

Linears, convolutions and attention carry masks; the operations of a whole decoder carry sizes, from which a phase gives
their FLOP and bytes.
"""

from workloads.operations.attention import Attention
from workloads.operations.base import DecoderOperation, Operation
from workloads.operations.linear import (
    Convolution,
    Linear,
    Values,
    Weights,
    linear_of,
    linears_in_memory,
    linears_of,
    without_mask,
)

__all__ = [
    "Attention",
    "Convolution",
    "DecoderOperation",
    "Linear",
    "Operation",
    "Values",
    "Weights",
    "linear_of",
    "linears_in_memory",
    "linears_of",
    "without_mask",
]
