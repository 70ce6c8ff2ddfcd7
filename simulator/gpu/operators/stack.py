"""What a serving stack adds to the kernels of a step: the host that launches them, and gaps between them.

    step = max(sum of kernels + gap * kernels, launch * kernels) + host a step

A host that launches faster than the kernels run is hidden behind them; in a CUDA graph nothing is launched one by one.
The times of kernels here hold their own launch on the GPU (their fixed part), so gaps are small.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Stack:
    """launch_us: the host's time for one kernel; gap_us: the GPU idle between two; step_us: the host's part of a step
    that nothing hides (scheduler, sampling). `fuses`: norms, additions, rotary embedding and activations are compiled
    into the kernels beside them, and take the time of their bytes alone."""

    launch_us: float
    gap_us: float
    step_us: float
    source: str
    fuses: bool = False


# Orders of magnitude that studies may set otherwise: hosts differ by more than GPUs do.
STACKS = {
    "cuda-graph": Stack(0.0, 0.0, 200.0, "assumed: one graph a step, sampling outside it"),
    "compiled": Stack(0.0, 0.0, 200.0, "torch.compile with CUDA graphs; that elementwise kernels are fused was "
                      "chosen on gpt-fast's published rates of Llama-3.1-8B", True),
    "static-batch": Stack(0.0, 0.0, 1200.0, "TensorRT-LLM 0.5, static batches: what its published rates have beyond "
                          "kernels at 80 % of the bandwidth and 70 % of the peak"),
    "eager": Stack(7.0, 1.0, 200.0, "PyTorch's eager launch, 5 to 10 us on the host (assumed)"),
    "eager-2023": Stack(40.0, 1.0, 0.0, "vLLM of 2023 (Splitwise): decode of Llama-2-70B over 8 GPUs, batch 1, 560 us "
                        "a layer on a DGX A100 and 372 on a DGX H100, with 12 kernels in it"),
}  # fmt: skip


def step_us(kernels_us: ArrayLike, kernels: ArrayLike, stack: Stack) -> np.ndarray:
    """kernels_us: the sum of a step's kernels; kernels: how many they are; both may be arrays."""
    busy = np.asarray(kernels_us, dtype=float) + stack.gap_us * np.asarray(kernels)
    return np.maximum(busy, stack.launch_us * np.asarray(kernels)) + stack.step_us
