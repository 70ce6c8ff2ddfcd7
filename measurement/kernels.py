"""PyTorch's kernels for one linear layer: dense, 2:4 sparse, quantized. Each says what it cannot take, and runs the
rest.

Sources: torch 2.13's torch/sparse/semi_structured.py (shape constraints, class attributes _DTYPE_SHAPE_CONSTRAINTS),
torch/_meta_registrations.py (_int_mm, _scaled_mm, _weight_int4pack_mm, _cslt_sparse_mm) and the CUDA sources of these
operators. A 2:4 matrix is the first operand of the hardware's multiplication, so a layer runs as (W x^T)^T; cuSPARSELt
writes the result transposed at no cost, PyTorch's CUTLASS path copies it, and that copy is timed because a user pays
it.

What is timed: the multiplication with operands that are ready. Padding of tokens, quantization of inputs and scaling of
integer results are not in the time; `variant` says what was padded and which output type was written.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from measurement.problem import Operands, Problem, pad_rows, to_int8
from workloads.errors import unknown
from workloads.patterns import kept_of_four

Capability = tuple[int, int]
NO_UNSTRUCTURED = (
    "PyTorch has no kernel faster than its dense one for unstructured masks; sparse tensor cores take 2:4 only. "
    "Outside PyTorch, Flash-LLM (PVLDB 17, 2023) publishes 1.4x, 1.7x and 2.1x over cuBLAS at 70, 80 and 90 % zeros, 8 "
    "to 32 tokens, A100; MACKO (arXiv 2511.13061) 1.48x at 50 % zeros, decode of Llama-2-7B at one token, RTX 4090"
)


@dataclass(frozen=True)
class Prepared:
    """A kernel with operands on the device.

    `call()` runs it; `result(call())` is (tokens, out_features). `inputs` and `weight` are what it multiplies, in
    values
    exactly: y should be inputs W^T up to `tolerance` x the root mean square of y. `alternatives` are calls of the same
    result by other algorithms of the library, by name; the quickest is timed.
    """

    call: Callable[[], Tensor]
    inputs: Tensor
    weight: Tensor
    tolerance: float
    variant: str
    result: Callable[[Tensor], Tensor] = lambda output: output
    alternatives: Sequence[tuple[str, Callable[[], Tensor]]] = ()


class Named(Protocol):
    name: ClassVar[str]


AnyKernel = TypeVar("AnyKernel", bound=Named)


class Kernel(Named, Protocol):
    sparse: ClassVar[bool]

    def refuses(self, problem: Problem, capability: Capability) -> str:
        """Why this kernel cannot run the problem on a GPU of that compute capability; "" where it can."""

    def prepare(self, problem: Problem, operands: Operands) -> Prepared: ...


def too_old(capability: Capability, needed: Capability, what: str) -> str:
    if capability >= needed:
        return ""
    return f"{what} needs compute capability {needed[0]}.{needed[1]}, this GPU has {capability[0]}.{capability[1]}"


def not_multiple(problem: Problem, rows: int, cols: int, what: str) -> str:
    """Multiples also bound from below: no dimension is 0."""
    bad = problem.out_features % rows or problem.in_features % cols
    shape = f"{problem.out_features}x{problem.in_features}"
    return (
        f"{what} needs out_features a multiple of {rows} and in_features of {cols}, the layer is {shape}" if bad else ""
    )


def not_24(problem: Problem, what: str) -> str:
    if problem.pattern == "unstructured":
        return NO_UNSTRUCTURED
    if kept_of_four(problem.pattern) is None:
        return f"{what} takes masks that keep at most 2 of every 4 inputs; {problem.pattern} does not promise that"
    return ""


def float_tolerance(dtype: torch.dtype) -> float:
    """Half a unit in the last place at five standard deviations, and twice that for split sums."""
    return 2e-2 if dtype == torch.float16 else 5e-2


def padding(problem: Problem, rows: int) -> str:
    return f", tokens padded {problem.tokens} to {rows}" if rows != problem.tokens else ""


class Dense:
    """torch.nn.functional.linear in fp16 or bf16 (cuBLAS)."""

    name: ClassVar[str] = "dense"
    sparse: ClassVar[bool] = False

    def refuses(self, problem: Problem, capability: Capability) -> str:
        return too_old(capability, (8, 0) if problem.dtype == "bf16" else (7, 0), f"dense {problem.dtype}")

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        dtype = problem.torch_dtype
        x, w = operands.inputs.to(dtype), operands.weight.to(dtype)
        return Prepared(lambda: F.linear(x, w), x, w, float_tolerance(dtype), f"{problem.dtype} out")


class Cutlass24:
    """torch._sparse_semi_structured_mm: CUTLASS's Ampere kernels, through PyTorch's semi-structured tensor.

    PyTorch has built them for compute capability 8.x; elsewhere the call itself refuses, and its words are the reason.
    """

    name: ClassVar[str] = "cutlass24"
    sparse: ClassVar[bool] = True
    rows: ClassVar[int] = 32
    cols: ClassVar[int] = 64
    tokens: ClassVar[int] = 8

    def refuses(self, problem: Problem, capability: Capability) -> str:
        return (
            not_24(problem, "CUTLASS 2:4")
            or too_old(capability, (8, 0), "CUTLASS 2:4")
            or not_multiple(problem, self.rows, self.cols, "CUTLASS 2:4")
        )

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        from torch.sparse import SparseSemiStructuredTensorCUTLASS

        dtype = problem.torch_dtype
        w = operands.pruned.to(dtype).contiguous()
        x = pad_rows(operands.inputs.to(dtype), self.tokens)
        sparse = SparseSemiStructuredTensorCUTLASS.from_dense(w)
        packed, meta = sparse.packed, sparse.meta
        assert packed is not None
        assert meta is not None

        def call() -> Tensor:
            return torch._sparse_semi_structured_mm(packed, meta, x.t()).t().contiguous()

        variant = f"{problem.dtype} out, transposing copy timed{padding(problem, x.shape[0])}"
        return Prepared(call, x, w, float_tolerance(dtype), variant)


class _CuSparseLt:
    """What the three cuSPARSELt kernels share: compression once, then the library's default and its searched
    algorithm."""

    sparse: ClassVar[bool] = True
    what: ClassVar[str]
    multiple: ClassVar[int]  # of rows and columns of the sparse matrix
    tokens: ClassVar[int]  # dense operand padded to a multiple
    needs: ClassVar[Capability]

    def __init__(self, library: Any = None) -> None:
        self.library = library or CuSparseLtLibrary()

    def refuses(self, problem: Problem, capability: Capability) -> str:
        return (
            not_24(problem, self.what)
            or too_old(capability, self.needs, self.what)
            or not_multiple(problem, self.multiple, self.multiple, self.what)
            or self.library.missing()
        )

    def multiply(self, x: Tensor, w: Tensor, out: torch.dtype | None, tolerance: float, variant: str) -> Prepared:
        """`x` (tokens, in) padded and `w` (out, in) 2:4, both in the kernel's type."""
        compressed = self.library.compress(w)
        run = self.library.run
        default = lambda: run(compressed, x.t(), out, 0, 1, -1)  # noqa: E731
        alg, split, mode = self.library.search(compressed, x.t(), out)
        named: list[tuple[str, Callable[[], Tensor]]] = [("alg_id=0", default)]
        if (alg, split) != (0, 1):
            name = f"alg_id={alg}" + (f" split_k={split} mode={mode}" if split != 1 else "")
            named.append((name, lambda: run(compressed, x.t(), out, alg, split, mode)))
        return Prepared(default, x, w, tolerance, variant, alternatives=named)


class CuSparseLtLibrary:
    """The three calls into cuSPARSELt; tests put an emulation in their place. Results come out as (tokens, out)."""

    def missing(self) -> str:
        if torch.backends.cusparselt.is_available():
            return ""
        return f"this PyTorch ({torch.__version__}) was built without cuSPARSELt"

    def compress(self, weight: Tensor) -> Tensor:
        return torch._cslt_compress(weight)

    def run(
        self, compressed: Tensor, dense: Tensor, out: torch.dtype | None, alg: int, split: int, mode: int
    ) -> Tensor:
        return torch._cslt_sparse_mm(
            compressed, dense, out_dtype=out, transpose_result=True, alg_id=alg, split_k=split, split_k_mode=mode
        )

    def search(self, compressed: Tensor, dense: Tensor, out: torch.dtype | None) -> tuple[int, int, int]:
        """(algorithm, split_k, split mode) the library finds quickest; its default where it cannot search."""
        try:
            return self._found(compressed, dense, out)
        except RuntimeError:
            return 0, 1, -1

    def _found(self, compressed: Tensor, dense: Tensor, out: torch.dtype | None) -> tuple[int, int, int]:
        try:
            found = torch._C._cusparselt.mm_search(compressed, dense, None, None, out, True)  # type: ignore[attr-defined]
            return int(found[0]), int(found[1]), int(found[2])
        except (AttributeError, TypeError):  # other versions: the older call
            return int(torch._cslt_sparse_mm_search(compressed, dense, out_dtype=out, transpose_result=True)), 1, -1


class CuSparseLt24(_CuSparseLt):
    """torch._cslt_sparse_mm in fp16 or bf16."""

    name: ClassVar[str] = "cusparselt24"
    what: ClassVar[str] = "cuSPARSELt 2:4"
    multiple: ClassVar[int] = 16
    tokens: ClassVar[int] = 8
    needs: ClassVar[Capability] = (8, 0)

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        dtype = problem.torch_dtype
        x = pad_rows(operands.inputs.to(dtype), self.tokens)
        w = operands.pruned.to(dtype).contiguous()
        return self.multiply(x, w, None, float_tolerance(dtype), f"{problem.dtype} out{padding(problem, x.shape[0])}")


class Int8Sparse24(_CuSparseLt):
    """torch._cslt_sparse_mm on int8 operands, int32 results: exact, like the dense int8 kernel beside it."""

    name: ClassVar[str] = "int8-24"
    what: ClassVar[str] = "cuSPARSELt 2:4 int8"
    multiple: ClassVar[int] = 32
    tokens: ClassVar[int] = 16
    needs: ClassVar[Capability] = (8, 0)

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        x, w = pad_rows(to_int8(operands.inputs), self.tokens), to_int8(operands.pruned).contiguous()
        return self.multiply(x, w, torch.int32, 0.0, f"int32 out{padding(problem, x.shape[0])}")


class Fp8Sparse24(_CuSparseLt):
    """torch._cslt_sparse_mm on e4m3 operands with unit scales.

    torch._scaled_mm on a sparse tensor passes its scale as a tensor, which the operator reads back to the host at every
    call; a fused scale would cost nothing, so none is passed here.
    """

    name: ClassVar[str] = "fp8-24"
    what: ClassVar[str] = "cuSPARSELt 2:4 fp8"
    multiple: ClassVar[int] = 32
    tokens: ClassVar[int] = 16
    needs: ClassVar[Capability] = (8, 9)

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        x = pad_rows(operands.inputs.to(torch.float8_e4m3fn), self.tokens)
        w = operands.pruned.to(torch.float8_e4m3fn).contiguous()
        out = problem.torch_dtype
        return self.multiply(
            x,
            w,
            out,
            float_tolerance(torch.bfloat16),
            f"{problem.dtype} out, unit scales{padding(problem, x.shape[0])}",
        )


class Int8:
    """torch._int_mm: int8 operands, int32 results. On CUDA it takes no fewer than 17 tokens, so fewer are padded to
    32."""

    name: ClassVar[str] = "int8"
    sparse: ClassVar[bool] = False

    def refuses(self, problem: Problem, capability: Capability) -> str:
        return too_old(capability, (7, 5), "_int_mm") or not_multiple(problem, 8, 8, "_int_mm")

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        x, w = to_int8(operands.inputs), to_int8(operands.weight).contiguous()
        x = pad_rows(x, 1, 32 if problem.tokens <= 16 else 0)
        return Prepared(lambda: torch._int_mm(x, w.t()), x, w, 0.0, f"int32 out{padding(problem, x.shape[0])}")


class Fp8:
    """torch._scaled_mm: e4m3 operands, per-tensor scales (1), fast accumulation as inference engines set it."""

    name: ClassVar[str] = "fp8"
    sparse: ClassVar[bool] = False

    def refuses(self, problem: Problem, capability: Capability) -> str:
        return too_old(capability, (8, 9), "_scaled_mm in fp8") or not_multiple(problem, 16, 16, "_scaled_mm in fp8")

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        x = operands.inputs.to(torch.float8_e4m3fn)
        w = operands.weight.to(torch.float8_e4m3fn).contiguous()
        one = torch.ones((), device=x.device)
        out, fast = problem.torch_dtype, x.device.type != "cpu"

        def call() -> Tensor:
            return torch._scaled_mm(x, w.t(), one, one, out_dtype=out, use_fast_accum=fast)

        return Prepared(
            call, x, w, float_tolerance(torch.bfloat16), f"{problem.dtype} out, unit scales, fast accumulation"
        )


class Int4:
    """torch._weight_int4pack_mm: weights in 4 bits, groups of 128 inputs with scale and zero point, bf16 inputs."""

    name: ClassVar[str] = "int4"
    sparse: ClassVar[bool] = False
    group: ClassVar[int] = 128
    tiles: ClassVar[int] = 8  # inner k tiles of 16: one 16-byte load a lane

    def refuses(self, problem: Problem, capability: Capability) -> str:
        if problem.dtype != "bf16":
            return f"_weight_int4pack_mm takes bf16 inputs only, not {problem.dtype}; give `dtype` bf16"
        return too_old(capability, (8, 0), "_weight_int4pack_mm") or not_multiple(
            problem, 8, max(self.group, self.tiles * 16), "_weight_int4pack_mm"
        )

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        x = operands.inputs.to(torch.bfloat16)
        codes, scales_zeros, weight = quantize_int4(operands.weight, self.group)
        if x.device.type != "cpu":  # even inputs in the upper half of a byte
            upper, lower = codes.unflatten(1, (-1, 2)).unbind(-1)
            packed = torch._convert_weight_to_int4pack((upper << 4 | lower).to(torch.uint8).contiguous(), self.tiles)
            multiply = torch._weight_int4pack_mm
        else:
            packed = torch._convert_weight_to_int4pack_for_cpu(codes, self.tiles)
            multiply = torch._weight_int4pack_mm_for_cpu
        variant = f"bf16 out, groups of {self.group}"
        return Prepared(
            lambda: multiply(x, packed, self.group, scales_zeros), x, weight, float_tolerance(torch.bfloat16), variant
        )


def quantize_int4(weight: Tensor, group: int) -> tuple[Tensor, Tensor, Tensor]:
    """(codes int32 (rows, cols) 0..15, scales and zeros bf16 (cols / group, rows, 2), weights they stand for, float32).

    weight = (code - 8) scale + zero, scale and zero from the minimum and maximum of each group, as the kernel reads
    them.
    """
    rows, cols = weight.shape
    groups = weight.reshape(rows, cols // group, group)
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    scale = ((high - low).clamp(min=1e-6) / 15).to(torch.bfloat16)
    zero = (low + scale.float() * 8).to(torch.bfloat16)
    codes = ((groups - zero.float()) / scale.float() + 8).round().clamp(0, 15)
    stood_for = ((codes - 8) * scale.float() + zero.float()).reshape(rows, cols)
    both = torch.cat([scale, zero], -1).transpose(0, 1).contiguous()
    return codes.reshape(rows, cols).to(torch.int32), both, stood_for


KERNELS: tuple[type[Kernel], ...] = (Dense, CuSparseLt24, Cutlass24, Int8, Int8Sparse24, Fp8, Fp8Sparse24, Int4)
NAMES = tuple(kernel.name for kernel in KERNELS)


def find_kernels(names: Sequence[str]) -> list[Kernel]:
    """In the order asked for. Raises UserError for an unknown name."""
    return by_name("kernel", KERNELS, names)


def by_name(what: str, kernels: Sequence[type[AnyKernel]], names: Sequence[str]) -> list[AnyKernel]:
    """Each once, in the order asked for. Raises UserError for an unknown name."""
    table = {kernel.name: kernel for kernel in kernels}
    for name in names:
        if name not in table:
            raise unknown(what, name, table)
    return [table[name]() for name in dict.fromkeys(names)]


def reference_error(prepared: Prepared, output: Tensor, most_tokens: int = 256) -> float:
    """Largest deviation from the reference, over the reference's root mean square; inf where shapes differ or NaN
    occurs.

    Float32 reference with float32 sums, float64 for exact kernels (tolerance 0); on at most `most_tokens` tokens,
    evenly spread, every output of each.
    """
    result = prepared.result(output)
    if result.shape != (prepared.inputs.shape[0], prepared.weight.shape[0]):
        return float("inf")
    count = result.shape[0]
    some = torch.linspace(0, count - 1, min(count, most_tokens), device=result.device).long()
    exact = torch.float64 if prepared.tolerance == 0 else torch.float32
    expected = prepared.inputs.float()[some].to(exact) @ prepared.weight.to(exact).t()
    worst = (result[some].to(exact) - expected).abs().max() / expected.square().mean().sqrt().clamp(min=1e-30)
    value = float(worst)
    return value if value == value else float("inf")
