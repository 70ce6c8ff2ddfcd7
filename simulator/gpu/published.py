"""Published GPU figures, each with its source, to hold predictions against; and what unstructured SpMM is reported to
cost.

None of these figures was used to fit a preset. Cards and kernels differ: `note` says where a figure is not like for
like.
"""

from dataclasses import dataclass

from workloads.errors import UserError

SPARSEGPT = "SparseGPT (arXiv 2301.00774), tables 7 and 8: OPT-175B, 2048 tokens, CUTLASS 2:4 against cuBLAS"
WANDA = "Wanda (arXiv 2306.11695): LLaMA-65B, 2:4"
TUTORIAL = "PyTorch tutorial semi_structured_sparse: one Linear, A100 80GB, CUTLASS"
BLOG = "PyTorch blog 2024-06-20, training with semi-structured sparsity: ViT-L, A100 80GB"
SAMPLES_57 = "NVIDIA/CUDALibrarySamples issue 57: A100, CUDA 11.5"
SAMPLES_203 = "NVIDIA/CUDALibrarySamples issue 203: H100, 8192 cubed, 1.20 to 1.22"
CUTLASS_408 = "NVIDIA/cutlass issue 408: A100 SXM4, 1410 MHz locked, 400 W"
CUTLASS_1335 = "NVIDIA/cutlass issue 1335: H100, dense kernel"
TORCHAO_4730 = "pytorch/ao pull request 4730: row-wise FP8 2:4, H100 class"
VLLM_5144 = "vllm-project/vllm pull request 5144: CUTLASS FP8, H100"
SLIDESPARSE = "SlideSparse (arXiv 2603.05232, vllmbench): A100 PCIe, Qwen2.5-7B"


@dataclass(frozen=True)
class PublishedGemm:
    """One GEMM of a publication; times in us, None where not given (a ratio alone gives `speedup`)."""

    source: str
    gpu: str  # the preset it is held against
    dtype: str
    m: int
    n: int
    k: int
    dense_us: float | None = None
    sparse24_us: float | None = None
    speedup: float | None = None
    note: str = ""

    @property
    def published_speedup(self) -> float | None:
        if self.speedup is not None or self.dense_us is None or self.sparse24_us is None:
            return self.speedup
        return self.dense_us / self.sparse24_us


def cube_us(side: int, tflops: float) -> float:
    return 2.0 * side**3 / tflops * 1e-6


_FORM = "the form of the A100 is not given; SXM assumed"
_ROWWISE = "another kernel (row-wise scales); card assumed"
GEMMS = (
    PublishedGemm(SPARSEGPT, "a100-sxm", "fp16", 2048, 12288, 12288, 2840, 1590, note=_FORM),
    PublishedGemm(SPARSEGPT, "a100-sxm", "fp16", 2048, 49152, 12288, 10260, 6150, note=_FORM),
    PublishedGemm(SPARSEGPT, "a100-sxm", "fp16", 2048, 12288, 49152, 10230, 6640, note=_FORM),
    PublishedGemm(WANDA, "a100-sxm", "fp16", 2048, 8192, 8192, speedup=1.63, note="card and tokens not given"),
    PublishedGemm(WANDA, "a100-sxm", "fp16", 2048, 22016, 8192, speedup=1.61, note="card and tokens not given"),
    PublishedGemm(WANDA, "a100-sxm", "fp16", 2048, 8192, 22016, speedup=1.49, note="card and tokens not given"),
    PublishedGemm(TUTORIAL, "a100-sxm", "fp16", 3072, 3072, 10240, 870, 630, note=_FORM),
    PublishedGemm(BLOG, "a100-sxm", "fp16", 13008, 4096, 1024, 538, 387, note=_FORM),
    PublishedGemm(SAMPLES_57, "a100-sxm", "fp16", 4096, 4096, 4096, 608, 545.8, note="libraries of 2021"),
    PublishedGemm(CUTLASS_408, "a100-sxm", "fp16", 16384, 16384, 16384, cube_us(16384, 302), cube_us(16384, 484)),
    PublishedGemm(CUTLASS_1335, "h100-sxm", "bf16", 768, 4096, 4096, 45.7, note="form assumed"),
    PublishedGemm(SAMPLES_203, "h100-sxm", "fp16", 8192, 8192, 8192, speedup=1.21, note="dtype and form assumed"),
    PublishedGemm(TORCHAO_4730, "h100-sxm", "fp8", 64, 4096, 4096, sparse24_us=7.15, note=_ROWWISE),
    PublishedGemm(TORCHAO_4730, "h100-sxm", "fp8", 2048, 4096, 4096, sparse24_us=45.5, note=_ROWWISE),
    PublishedGemm(TORCHAO_4730, "h100-sxm", "fp8", 4096, 4096, 4096, sparse24_us=96.2, note=_ROWWISE),
    PublishedGemm(TORCHAO_4730, "h100-sxm", "fp8", 64, 11008, 4096, sparse24_us=13.3, note=_ROWWISE),
    PublishedGemm(TORCHAO_4730, "h100-sxm", "fp8", 2048, 11008, 4096, sparse24_us=122.5, note=_ROWWISE),
    PublishedGemm(TORCHAO_4730, "h100-sxm", "fp8", 4096, 11008, 4096, sparse24_us=248.9, note=_ROWWISE),
    PublishedGemm(VLLM_5144, "h100-sxm", "fp8", 1, 12288, 4096, 21.6, note="form assumed"),
    PublishedGemm(VLLM_5144, "h100-sxm", "fp8", 1, 4096, 4096, 8.2, note="form assumed"),
    PublishedGemm(VLLM_5144, "h100-sxm", "fp8", 1, 22016, 4096, 36.8, note="form assumed"),
    PublishedGemm(VLLM_5144, "h100-sxm", "fp8", 1, 4096, 11008, 20.4, note="form assumed"),
    PublishedGemm(SLIDESPARSE, "a100-pcie", "fp16", 64, 37888, 3584, 194.6, 123.5),
)

# Median 2:4 speedup over the linears of Llama-3.2-1B and 3B, Qwen2.5-7B and 14B (SlideSparse, all 16 shapes); the Qwen
# half is not in the data a preset was fitted on.
MEDIAN_SHAPES = (
    (3072, 2048), (2048, 2048), (16384, 2048), (2048, 8192), (5120, 3072), (3072, 3072), (16384, 3072), (3072, 8192),
    (4608, 3584), (3584, 3584), (37888, 3584), (3584, 18944), (7168, 5120), (5120, 5120), (27648, 5120), (5120, 13824),
)  # fmt: skip
MEDIAN_TOKENS = (64, 256, 1024, 2048, 4096, 16384)
MEDIAN_SPEEDUPS = {
    ("a100-pcie", "fp16"): (1.39, 1.36, 1.43, 1.56, 1.66, 1.61),
    ("a100-pcie", "int8"): (1.25, 1.46, 1.84, 1.97, 2.03, 2.05),
    ("h100-pcie", "bf16"): (0.97, 1.06, 1.39, 1.51, 1.60, 1.58),
    ("h100-pcie", "fp8"): (1.12, 0.95, 1.30, 1.47, 1.47, 1.64),
}

FLASH_LLM = "Flash-LLM (VLDB 2024), A100, kernel benchmark of the repository (TFLOPS read off its plot)"
SPINFER = "SpInfer (EuroSys 2025), RTX 4090 and A6000: faster than cuBLAS from 30 % sparsity, 8 to 32 tokens"
# (tokens) -> (sparsity, lowest and highest speedup over cuBLAS of the plotted matrices)
_FLASH_LLM_SPEEDUPS = {
    8: ((0.7, 18 / 12.5, 21 / 13.7), (0.8, 25 / 13.5, 22 / 12.5), (0.9, 27 / 12.5, 32 / 13.7)),
    16: ((0.7, 35 / 25, 42 / 27), (0.8, 42 / 25, 51 / 27), (0.9, 52 / 25, 64 / 27)),
    32: ((0.7, 66 / 49, 81 / 53), (0.8, 77 / 49, 94 / 53), (0.9, 91 / 49, 112 / 53)),
}
SPMM_MAX_TOKENS = 32


@dataclass(frozen=True)
class SpmmCost:
    """Time of an unstructured SpMM as a multiple of cuBLAS on the dense matrix, lowest to highest published; below 1 is
    faster.

    published is False where no figure covers the case; then both bounds are NaN.
    """

    low: float
    high: float
    published: bool
    source: str


def spmm_published(tokens: int, sparsity: float) -> SpmmCost:
    """What published kernels for unstructured masks (fp16) cost against cuBLAS; PyTorch itself ships none that is
    faster.

    70 to 90 % sparsity: Flash-LLM's plotted range at the nearest token count, between its sparsities linearly. 30 to 70
    %: arithmetic on the two formats, as SpInfer gives no table: at best the bound of SpInfer's bitmap, 16 (1 - s) + 1
    bits a weight against 16; at worst Flash-LLM's 32 (1 - s) bits, from 50 % on no slower than cuBLAS.
    Outside 30-90 % or above 32 tokens nothing is published: these kernels multiply densely and save only bytes.
    Raises UserError for a sparsity outside 0..1 or tokens below 1.
    """
    if not 0 <= sparsity <= 1:
        raise UserError(f"sparsity is a fraction in 0..1, not {sparsity}; 0.7 prunes 70 %")
    if tokens < 1:
        raise UserError(f"tokens = {tokens}: at least 1")
    if tokens > SPMM_MAX_TOKENS or not 0.3 <= sparsity <= 0.9:
        return SpmmCost(float("nan"), float("nan"), False, "no published SpMM figure for this case")
    bitmap = (16 * (1 - sparsity) + 1) / 16
    if sparsity < 0.7:
        return SpmmCost(bitmap, max(1.0, 2 * (1 - sparsity)), True, f"{SPINFER}; {FLASH_LLM}")
    curve = _FLASH_LLM_SPEEDUPS[min(_FLASH_LLM_SPEEDUPS, key=lambda n: abs(n - tokens))]
    (s0, *first), (s1, *second) = curve[:2] if sparsity <= 0.8 else curve[1:]
    share = (sparsity - s0) / (s1 - s0)
    low, high = sorted(a + share * (b - a) for a, b in zip(sorted(first), sorted(second), strict=True))
    return SpmmCost(1 / high, 1 / low, True, FLASH_LLM)
