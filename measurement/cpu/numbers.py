"""Weights in 8 bits, and how far a kernel's product may be from the exact one."""

import torch
from torch import Tensor

FP32_TOLERANCE = 1e-3
QUANTIZED_INPUTS = 1e-1  # inputs of 8 bits: steps of 9 / 255 of a standard deviation, at five of them


def to_int8_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(codes int8 (rows, cols), scales float32 (rows,)), symmetric."""
    scales = (weight.abs().amax(1) / 127).clamp(min=1e-12)
    return (weight / scales[:, None]).round().clamp(-127, 127).to(torch.int8), scales
