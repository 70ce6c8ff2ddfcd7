"""What a quantizer is: a class of its own file, with `apply`."""

from collections.abc import Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pruning.component import Component
from pruning.quantization_grid import BITS, QuantizationGrid
from workloads.errors import UserError, unwritten

if TYPE_CHECKING:
    from pruning.block_job import BlockJob, Decision


@dataclass(frozen=True)
class Quantizer(Component):
    """What every quantizer can be told. symmetric: zero points in the middle of the codes. order: prune-first puts on
    the grid what pruning left; quantize-first the dense weights, and prunes the result (methods 18.6)."""

    symmetric: bool = False
    order: Literal["prune-first", "quantize-first"] = "prune-first"

    @property
    def needs(self) -> Set[str]:
        """What a run must gather for it (pruning/evidence/needs.py)."""
        return frozenset()

    def apply(self, job: "BlockJob", decisions: "dict[str, Decision]") -> "dict[str, Decision]":
        """The decisions with `quantized` set: the weights of a block, as pruning left them, on their grids."""
        raise unwritten(self, "apply")


@dataclass(frozen=True)
class Quantization:
    """A quantizer and what it quantizes to."""

    quantizer: Quantizer
    bits: int
    group_size: int

    @property
    def facts(self) -> dict[str, Any]:
        """What a bundle records of it."""
        return {
            "quantizer": self.quantizer.name,
            "bits": self.bits,
            "group_size": self.group_size,
            **self.quantizer.facts,
        }

    def grid(self, scale_dtype: Any) -> QuantizationGrid:
        return QuantizationGrid(self.bits, self.group_size, self.quantizer.symmetric, scale_dtype)


def check_bits(bits: int, group_size: int) -> None:
    if bits not in BITS:
        raise UserError(f"`bits` must be {BITS[0]} to {BITS[-1]}, not {bits}")
    if group_size < 0:
        raise UserError(f"`group_size` counts inputs that share a scale (0 = the whole row), it cannot be {group_size}")
