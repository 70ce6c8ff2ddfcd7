"""Products of float32 matrices on the CPU: by oneDNN where it is as exact as MKL, which on other processors than
Intel's does without AVX-512 and reaches less than half its rate.

torch hands float32 products to oneDNN only where it may lower their precision. With AVX-512 alone oneDNN makes no use
of that; with AMX it rounds the operands to bfloat16. So what it gives is looked at once, against float64, and only a
processor where it is float32's own precision takes this way.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

EXACT = 1e-6  # relative error of a sum of 512 float32 products; operands in bfloat16 give 3e-3
SIDE = 512


@contextmanager
def quick_products() -> Iterator[None]:
    """Within this context, in all threads, float32 products are made by oneDNN where that loses nothing."""
    matmul = getattr(torch.backends.mkldnn, "matmul", None)  # since torch 2.9
    if matmul is None or matmul.fp32_precision != "none" or not as_exact():
        yield
        return
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = "none"


@cache
def as_exact() -> bool:
    """Whether oneDNN's float32 products are as exact as float32 allows, on this processor."""
    matmul, draw = torch.backends.mkldnn.matmul, torch.Generator().manual_seed(0)  # type: ignore[attr-defined]
    left, right = (torch.randn(SIDE, SIDE, generator=draw) for _ in range(2))
    matmul.fp32_precision = "bf16"
    try:
        made = left @ right
    finally:
        matmul.fp32_precision = "none"
    wanted = left.double() @ right.double()
    return float((made - wanted).norm() / wanted.norm()) < EXACT
