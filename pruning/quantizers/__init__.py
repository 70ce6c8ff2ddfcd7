"""The table of weight quantizers: one line each. All use the grid of pruning/quantization_grid.py."""

from pruning.quantizers.awq import Awq
from pruning.quantizers.gptq import Gptq
from pruning.quantizers.lwc import Lwc
from pruning.quantizers.quantizer import Quantization, Quantizer, check_bits
from pruning.quantizers.rtn import Rtn
from workloads.errors import unknown

QUANTIZERS: dict[str, type[Quantizer]] = {quantizer.name: quantizer for quantizer in (Rtn, Gptq, Lwc, Awq)}


def find_quantizer(name: str) -> type[Quantizer]:
    """Raises UserError with the nearest known name for an unknown quantizer."""
    if name not in QUANTIZERS:
        raise unknown("quantizer", name, QUANTIZERS)
    return QUANTIZERS[name]


__all__ = ["QUANTIZERS", "Quantization", "Quantizer", "check_bits", "find_quantizer"]
