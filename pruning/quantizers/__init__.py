"""The table of weight quantizers: one line each. All use the grid of pruning/quantization_grid.py."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pruning.evidence.needs import Need
from pruning.quantization_grid import BITS, QuantizationGrid
from pruning.quantizers import awq, gptq, lwc, rtn
from workloads.errors import UserError, unknown

if TYPE_CHECKING:
    from pruning.block_job import BlockJob, Decision


@dataclass(frozen=True)
class Quantizer:
    """Puts the weights of a block, as the pruning decisions left them, on their grids: (parameters, job, decisions) ->
    decisions with `quantized` set. `needs_of` as in Method."""

    name: str
    parameters_type: type
    needs_of: Callable[[Any], frozenset[Need]]
    apply: "Callable[[Any, BlockJob, dict[str, Decision]], dict[str, Decision]]"
    documentation: str


QUANTIZERS = {
    module.NAME: Quantizer(module.NAME, module.Parameters, module.needs, module.apply, module.__doc__ or "")
    for module in (rtn, gptq, lwc, awq)
}


@dataclass(frozen=True)
class Quantization:
    """A quantizer with its settings."""

    quantizer: Quantizer
    bits: int
    group_size: int
    parameters: Any

    @property
    def facts(self) -> dict[str, Any]:
        """What a bundle records of it."""
        return {
            "quantizer": self.quantizer.name,
            "bits": self.bits,
            "group_size": self.group_size,
            **vars(self.parameters),
        }

    def grid(self, scale_dtype: Any) -> QuantizationGrid:
        return QuantizationGrid(self.bits, self.group_size, self.parameters.symmetric, scale_dtype)


def find_quantizer(name: str) -> Quantizer:
    """Raises UserError with the nearest known name for an unknown quantizer."""
    if name not in QUANTIZERS:
        raise unknown("quantizer", name, QUANTIZERS)
    return QUANTIZERS[name]


def check_bits(bits: int, group_size: int) -> None:
    if bits not in BITS:
        raise UserError(f"--bits must be {BITS[0]} to {BITS[-1]}, not {bits}")
    if group_size < 0:
        raise UserError(f"--group-size counts inputs that share a scale (0 = the whole row), it cannot be {group_size}")
