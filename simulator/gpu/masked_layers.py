"""Layers at one token by a kernel for masks without a pattern, where one is asked for: `--set kernel=macko`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from simulator.gpu.operators.spmv import spmv, spmv_of_mask
from simulator.gpu.spec import GpuSpec
from simulator.machine.spec import parse_override
from workloads.errors import UserError
from workloads.mask import PackedMask
from workloads.verdicts import verdict

KERNEL = "kernel="
DENSE_KERNEL = "cublas"


def asked_kernel(overrides: Sequence[str]) -> tuple[str, list[str]]:
    """(the kernel that settings key=value ask for, "" for none; the other settings). The last one wins."""
    asked = [each for each in overrides if each.startswith(KERNEL)]
    if asked and not asked[-1].removeprefix(KERNEL):
        raise UserError(f"`{KERNEL}` names no kernel; such as {KERNEL}macko")
    kernel = str(parse_override(asked[-1])[1]) if asked else ""
    return kernel, [each for each in overrides if not each.startswith(KERNEL)]


def check_kernel(gpu: GpuSpec, kernel: str, dtype: str) -> None:
    """Raises UserError for a kernel that the GPU has not, or not for this type."""
    spmv(gpu, 1, 1, 1.0, kernel)
    if dtype not in ("fp16", "bf16"):
        raise UserError(f"`{KERNEL}{kernel}` is for fp16 and bf16, not for dtype = {dtype}")


def masked_figures(gpu: GpuSpec, kernel: str, shape: tuple[int, int], mask: PackedMask | None) -> dict[str, Any]:
    """Times of one token in a model, beside cuBLAS's of the same measured loop; shape: outputs, inputs; mask None: all
    weights are kept, and cuBLAS runs them."""
    dense = spmv(gpu, *shape, 1.0, DENSE_KERNEL, alone=False)
    own = spmv_of_mask(gpu, mask, kernel, alone=False) if mask is not None else dense
    dense_us, own_us = float(dense.latency_us[0]), float(own.latency_us[0])
    speedup, error = dense_us / own_us, float(own.latency_error_p90[0])
    both = (1 + error) * (1 + float(dense.latency_error_p90[0])) - 1 if mask is not None else None
    return {
        "kernel": own.kernel,
        "latency_us": own_us,
        "dense_latency_us": dense_us,
        "speedup": speedup,
        "latency_error_p90": error,
        "speedup_error_p90": both,
        "verdict": "same kernel" if both is None else str(verdict(np.array([speedup]), np.array([both]))[0]),
        "extrapolated": str(own.extrapolated[0]),
        "bound": str(own.bound[0]),
        "mapping": f"{own.kernel}, one token in a model",
        "clock_mhz": gpu.chip.clock_mhz,
        "feasible": True,
        "reason": "",
    }
