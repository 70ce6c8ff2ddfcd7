"""The table of weight quantizers: one line each. All use the grid of pruning/quantization_grid.py."""

from pruning.quantizers.awq import Awq
from pruning.quantizers.gptq import Gptq
from pruning.quantizers.lwc import Lwc
from pruning.quantizers.quantizer import Quantization, Quantizer, check_bits
from pruning.quantizers.rtn import Rtn
from workloads.plugins import Wanted, find

QUANTIZERS: dict[str, type[Quantizer]] = {quantizer.name: quantizer for quantizer in (Rtn, Gptq, Lwc, Awq)}


def find_quantizer(name: str) -> type[Quantizer]:
    """One of ours, of an installed package or of a file (workloads/plugins.py). Raises UserError with the nearest known
    name."""
    if name in QUANTIZERS:
        return QUANTIZERS[name]
    found: type[Quantizer] = find(Wanted("quantizers", Quantizer, QUANTIZERS, ("apply",)), name)
    return found


__all__ = ["QUANTIZERS", "Quantization", "Quantizer", "check_bits", "find_quantizer"]
