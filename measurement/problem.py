"""One GEMM to be timed, and the random numbers it runs on.

y = x W^T with x (tokens, in_features) and W (out_features, in_features). Numbers are drawn, never zeros: the power a
GPU draws, and with it the clock it holds, depends on the bits that toggle.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from workloads.patterns import kept_of_four

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
INT8_SPREAD = 32.0  # standard deviation of int8 operands: nearly the whole range is used, few values clip


@dataclass(frozen=True)
class Problem:
    """GEMM m = tokens, n = out_features, k = in_features. `dtype` ("fp16" or "bf16", on CPUs "fp32" or "bf16") is that
    of the dense layer and of every kernel that does not bring a type of its own; `pattern` that of the mask asked for,
    `density` the share of weights that it keeps, for kernels whose time depends on it (else 1)."""

    out_features: int
    in_features: int
    tokens: int
    dtype: str
    pattern: str = "2:4"
    density: float = 1.0

    @property
    def torch_dtype(self) -> torch.dtype:
        return DTYPES[self.dtype]

    def __str__(self) -> str:
        return f"{self.out_features}x{self.in_features}, {self.tokens} tokens"


@dataclass(frozen=True)
class Operands:
    """Float32 numbers on the device: `inputs` (tokens, in_features), `weight` and its 2:4 version (out_features,
    in_features)."""

    inputs: Tensor
    weight: Tensor
    pruned: Tensor


def draw(problem: Problem, device: str, seed: int = 0) -> Operands:
    """Standard normal operands; `pruned` keeps the two largest of every four weights along the inputs.

    Where the mask's own pattern is sparser (1:4), it keeps as many as that allows. Time does not depend on which
    weights are kept: the sparse tensor core fetches by two-bit index whatever it says.
    """
    weight, inputs = draw_whole(problem, device, seed)
    pruned = keep_of_four(weight, kept_of_four(problem.pattern) or 2) if problem.in_features % 4 == 0 else weight
    return Operands(inputs, weight, pruned)


def draw_whole(problem: Problem, device: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(weight, inputs), standard normal."""
    generator = torch.Generator(device=device).manual_seed(seed)
    shape = (problem.out_features, problem.in_features)
    weight = torch.randn(shape, generator=generator, device=device)
    return weight, torch.randn((problem.tokens, problem.in_features), generator=generator, device=device)


def keep_of_four(weight: Tensor, kept: int) -> Tensor:
    """`weight` with only the `kept` largest magnitudes of every four inputs. (rows, cols), cols a multiple of 4."""
    groups = weight.reshape(-1, 4)
    order = groups.abs().argsort(dim=1, descending=True)[:, :kept]
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, order, True)
    return (groups * mask).reshape(weight.shape)


def follows_24(weight: Tensor) -> bool:
    """At most two non-zeros in every four inputs."""
    return weight.shape[1] % 4 == 0 and bool(((weight.reshape(-1, 4) != 0).sum(1) <= 2).all())


def to_int8(values: Tensor) -> Tensor:
    return (values * INT8_SPREAD).round().clamp(-127, 127).to(torch.int8)


def pad_rows(values: Tensor, multiple: int, least: int = 0) -> Tensor:
    """Rows of zeros below, up to a multiple of `multiple` and at least `least`. Contiguous."""
    rows = max(-(-values.shape[0] // multiple) * multiple, least)
    if rows == values.shape[0]:
        return values.contiguous()
    padded = torch.zeros((rows, values.shape[1]), dtype=values.dtype, device=values.device)
    padded.narrow(0, 0, values.shape[0]).copy_(values)
    return padded
