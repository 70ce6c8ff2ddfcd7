"""PyTorch's CPU kernels for one linear layer: dense, quantized, masked, structured. Each says which masks it is for and
what it cannot take.

Sources: torch 2.13: torch.nn.functional.linear (MKL, oneDNN), torch.sparse (MKL's CSR; BSR in blocks),
quantized::linear_dynamic by engine (x86, onednn), torch._weight_int8pack_mm, torch._weight_int4pack_mm_for_cpu (private
names). Timed is the multiplication with operands that are ready; int8 of the engines quantizes its inputs at every
call, and that is timed because nothing can leave it out.
"""

import platform
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from measurement.cpu import openvino_kernels
from measurement.cpu.masks import blocks_kept, kept_by_pattern, rows_kept
from measurement.cpu.numbers import FP32_TOLERANCE, QUANTIZED_INPUTS, to_int8_rows
from measurement.kernels import Int4, Named, Prepared, by_name, float_tolerance, quantize_int4
from measurement.problem import Operands, Problem
from workloads.patterns import DENSE, SMALLER, UNSTRUCTURED, kept_of_four

BLOCKS = "16x16 blocks"
NO_24 = (
    "PyTorch has no CPU kernel for 2:4: its semi-structured tensors are CUDA's, so such a mask runs dense here, or as "
    "the CSR of any mask"
)


class CpuKernel(Named, Protocol):
    """`masks`: the kind of mask it is for, as a row's pattern has it; DENSE for kernels that multiply every weight."""

    masks: ClassVar[str]

    def refuses(self, problem: Problem) -> str:
        """Why it cannot run the problem here; "" where it can."""

    def prepare(self, problem: Problem, operands: Operands) -> Prepared: ...


class Dense:
    """torch.nn.functional.linear in fp32 (MKL) or bf16 (oneDNN)."""

    name: ClassVar[str] = "dense"
    masks: ClassVar[str] = DENSE

    def refuses(self, problem: Problem) -> str:
        return ""

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        return linear(operands.inputs, operands.weight, problem.torch_dtype)


class Bf16:
    """The same in bf16, beside a dense layer of fp32."""

    name: ClassVar[str] = "bf16"
    masks: ClassVar[str] = DENSE

    def refuses(self, problem: Problem) -> str:
        return "the dense kernel is in bf16 already" if problem.dtype == "bf16" else ""

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        return linear(operands.inputs, operands.weight, torch.bfloat16)


def linear(inputs: Tensor, weight: Tensor, dtype: torch.dtype) -> Prepared:
    x, w = inputs.to(dtype), weight.to(dtype)
    tolerance = FP32_TOLERANCE if dtype == torch.float32 else float_tolerance(dtype)
    return Prepared(lambda: F.linear(x, w), x, w, tolerance, f"{str(dtype).removeprefix('torch.')} out")


class _DynamicInt8:
    """quantized::linear_dynamic: int8 weights with a scale a row, inputs quantized at every call, float32 results."""

    masks: ClassVar[str] = DENSE
    engine: ClassVar[str]

    def refuses(self, problem: Problem) -> str:
        if self.engine not in torch.backends.quantized.supported_engines:
            return (
                f"this PyTorch ({torch.__version__}, {platform.machine()}) was built without the engine {self.engine}"
            )
        return ""

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        x, (packed, weight) = operands.inputs, pack_int8(operands.weight, self.engine)
        call = torch.ops.quantized.linear_dynamic
        variant = f"float32 out, engine {self.engine}, inputs quantized in the call"
        return Prepared(lambda: call(x, packed, False), x, weight, QUANTIZED_INPUTS, variant)


def pack_int8(weight: Tensor, engine: str) -> tuple[Any, Tensor]:
    """(what quantized::linear_dynamic multiplies, the float32 weights that it stands for)."""
    codes, scales = to_int8_rows(weight)
    zeros = torch.zeros(len(scales), dtype=torch.long)
    quantized = torch._make_per_channel_quantized_tensor(codes, scales.double(), zeros, 0)
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = engine  # decides how weights are packed, and with it what multiplies them
    try:
        return torch.ops.quantized.linear_prepack(quantized, None), codes * scales[:, None]
    finally:
        torch.backends.quantized.engine = before


class Int8X86(_DynamicInt8):
    """By FBGEMM or oneDNN, as PyTorch's x86 engine chooses."""

    name: ClassVar[str] = "int8-x86"
    engine: ClassVar[str] = "x86"


class Int8Onednn(_DynamicInt8):
    name: ClassVar[str] = "int8-onednn"
    engine: ClassVar[str] = "onednn"


class Int8Weights:
    """torch._weight_int8pack_mm: int8 weights with a scale a row, bf16 inputs."""

    name: ClassVar[str] = "int8-weights"
    masks: ClassVar[str] = DENSE

    def refuses(self, problem: Problem) -> str:
        if problem.in_features % 16:  # the kernel reads past the ends of rows (torch 2.13)
            return f"int8 weights need inputs a multiple of 16, the layer has {problem.in_features}"
        return ""

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        x, (codes, scales) = operands.inputs.to(torch.bfloat16), to_int8_rows(operands.weight)
        scales = scales.to(torch.bfloat16)
        weight = codes * scales.float()[:, None]
        call = torch._weight_int8pack_mm
        return Prepared(lambda: call(x, codes, scales), x, weight, float_tolerance(torch.bfloat16), "bfloat16 out")


class Int4Weights:
    """torch._weight_int4pack_mm_for_cpu: 4-bit weights, groups of 128 inputs with scale and zero point, bf16 inputs."""

    name: ClassVar[str] = "int4-weights"
    masks: ClassVar[str] = DENSE

    def refuses(self, problem: Problem) -> str:
        if problem.in_features % Int4.group or problem.out_features % 16:
            shape = f"{problem.out_features}x{problem.in_features}"
            return f"4-bit weights need rows a multiple of 16 and inputs of {Int4.group}, the layer is {shape}"
        return ""

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        x = operands.inputs.to(torch.bfloat16)
        codes, scales_zeros, weight = quantize_int4(operands.weight, Int4.group)
        packed = torch._convert_weight_to_int4pack_for_cpu(codes, Int4.tiles)
        call = torch._weight_int4pack_mm_for_cpu
        return Prepared(
            lambda: call(x, packed, Int4.group, scales_zeros),
            x, weight, float_tolerance(torch.bfloat16), f"bfloat16 out, groups of {Int4.group}",
        )  # fmt: skip


class Csr:
    """A masked matrix in compressed rows, float32 values and int32 indices (MKL): y^T = W x^T, inputs transposed
    before.

    MKL has no CSR of bf16, so values stay float32 beside a dense layer of bf16 as well."""

    name: ClassVar[str] = "csr"
    masks: ClassVar[str] = UNSTRUCTURED

    def refuses(self, problem: Problem) -> str:
        return "" if torch.backends.mkl.is_available() else "this PyTorch was built without MKL, whose CSR this is"

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        x, weight = operands.inputs, kept_by_pattern(operands.weight, problem.pattern, problem.density)
        wide = weight.to_sparse_csr()
        sparse = torch.sparse_csr_tensor(
            wide.crow_indices().int(), wide.col_indices().int(), wide.values(), wide.shape, check_invariants=False
        )
        if len(x) == 1:
            vector = x[0]
            return Prepared(
                lambda: torch.mv(sparse, vector), x, weight, FP32_TOLERANCE, "float32 out, int32 indices",
                result=lambda output: output[None],
            )  # fmt: skip
        columns = x.t().contiguous()
        return Prepared(
            lambda: torch.mm(sparse, columns), x, weight, FP32_TOLERANCE, "float32 out, int32 indices, transposed",
            result=lambda output: output.t(),
        )  # fmt: skip


class Bsr:
    """Whole blocks of 16 x 16 taken out: torch.nn.functional.linear on BSR with float32 values and int32 indices."""

    name: ClassVar[str] = "bsr"
    masks: ClassVar[str] = BLOCKS
    side: ClassVar[int] = 16

    def refuses(self, problem: Problem) -> str:
        if problem.out_features % self.side or problem.in_features % self.side:
            return f"blocks of {self.side} x {self.side} do not divide {problem.out_features}x{problem.in_features}"
        return ""

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        x, weight = operands.inputs, blocks_kept(operands.weight, self.side, problem.density)
        wide = weight.to_sparse_bsr((self.side, self.side))
        sparse = torch.sparse_bsr_tensor(
            wide.crow_indices().int(), wide.col_indices().int(), wide.values(), wide.shape, check_invariants=False
        )
        return Prepared(lambda: F.linear(x, sparse), x, weight, FP32_TOLERANCE, "float32 out, int32 indices")


class Smaller:
    """Structured pruning: what is left once whole outputs are taken out, in the type of the dense layer."""

    name: ClassVar[str] = "smaller"
    masks: ClassVar[str] = SMALLER

    def refuses(self, problem: Problem) -> str:
        return ""

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        weight = operands.weight[: rows_kept(problem.out_features, problem.density)]
        prepared = linear(operands.inputs, weight, problem.torch_dtype)
        return Prepared(
            prepared.call, prepared.inputs, prepared.weight, prepared.tolerance,
            f"{prepared.variant}, {len(weight)} of {problem.out_features} outputs left",
        )  # fmt: skip


class None24:
    """There is none, which its row says."""

    name: ClassVar[str] = "sparse24"
    masks: ClassVar[str] = "2:4"

    def refuses(self, problem: Problem) -> str:
        return NO_24

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        raise AssertionError("refused")


KERNELS: tuple[type[CpuKernel], ...] = (
    Dense, Bf16, Int8X86, Int8Onednn, Int8Weights, Int4Weights, Csr, Bsr, Smaller, None24,
    *openvino_kernels.KERNELS,
)  # fmt: skip
NAMES = tuple(kernel.name for kernel in KERNELS)


def find_kernels(names: Sequence[str]) -> list[CpuKernel]:
    """In the order asked for, the dense one first. Raises UserError for an unknown name."""
    return by_name("kernel of the CPU", KERNELS, ("dense", *names))


def pattern_of(kernel: CpuKernel, pattern: str) -> str:
    """The pattern of the kernel's row where a layer's mask is `pattern`, "" where the kernel is for other masks."""
    if kernel.masks == DENSE:
        return DENSE
    if kernel.masks == UNSTRUCTURED:
        return pattern if ":" in pattern or pattern == UNSTRUCTURED else ""
    if kernel.name == None24.name:
        return pattern if kept_of_four(pattern) else ""
    return ""
