"""Linears as a framework runs them: the tile model of one GEMM (simulator/gpu/kernel_times.py) with a cold L2, as the
weights of a model never stay there, and parameters fitted to layers' GEMMs by PyTorch's own choice of kernel.

`predict` (simulator/gpu/prediction.py) is for the fastest kernel of a library, back to back. A card without data of
layers, and fp8 and int8 on any card, take the parameters of that with the L2 cold.

weight_bits 8 or 4 with 16-bit inputs (weight-only): fewer bytes of W at a lower share of the bandwidth, fitted to three
published decode rates of whole models; the products run at 16 bits and a little slower, which is assumed.
"""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from simulator.gpu import confidence
from simulator.gpu.kernel_times import BOUNDS, KernelRates, best_candidates
from simulator.gpu.operator_parameters import REGIMES, LinearKernel, WeightOnly, parameters_of
from simulator.gpu.operators.timing import (
    Parts,
    Timing,
    check_weight_bits,
    chosen,
    of_fewer_bits,
    operators_of,
    regimes_of,
    timing_of,
)
from simulator.gpu.prediction import precision_of, rates_of, tiles_of
from simulator.gpu.sizes import whole_numbers
from simulator.gpu.spec import GpuSpec, KernelFamily, Precision, cold
from workloads.errors import UserError

OF_GEMM = dict(zip(BOUNDS, ("compute", "memory", "walk", "fixed", "walk"), strict=True))
BEST = "gemm"  # the name of the parameters of `predict`


def linear(
    gpu: GpuSpec, m: ArrayLike, n: ArrayLike, k: ArrayLike, dtype: str = "fp16", weight_bits: int = 16,
    group_size: int = 0, kernel: str = "",
) -> Timing:  # fmt: skip
    """Y[m, n] = X[m, k] W[n, k]^T, m tokens; integers or integer arrays that broadcast. group_size: weights that share
    a 16-bit scale and, at 4 bits, a zero point, 0 for a whole row. kernel: "layers", measured in decoder layers of 2023
    (Vidur; the default where there is data), "torch", PyTorch's linear of 2025 alone, or "gemm".

    Raises UserError for sizes that are none and for types that the GPU lacks."""
    precision = precision_of(gpu, dtype)
    ms, ns, ks = whole_numbers(m=m, n=n, k=k)
    operators = operators_of(gpu)
    fitted = operators.linear if dtype in ("fp16", "bf16") else {}
    of_gemm = kernel == BEST or not (fitted or kernel)
    name, found = (BEST, None) if of_gemm else chosen(fitted, kernel, f"linears of {dtype}")
    rates = cold_rates(gpu, precision, family_of(found) if found else precision.dense)
    if weight_bits != 16:
        rates = weight_only_rates(rates, operators.weight_only, dtype, weight_bits, group_size)
    parts = linear_parts(rates, tiles_of(gpu, sparse24=False), ms, ns, ks)
    if found:
        timing = timing_of(name, found.data, found.error, parts, {"m": ms, "n": ns, "k": ks})
    else:
        timing = of_best_kernel(gpu, precision, parts, ms, ns, ks)
    return timing if weight_bits == 16 else of_weight_only(timing, operators.weight_only, weight_bits)


def cold_rates(gpu: GpuSpec, precision: Precision, family: KernelFamily) -> KernelRates:
    return rates_of(cold(gpu), dataclasses.replace(precision, dense=family), sparse24=False)


def linear_parts(rates: KernelRates, tiles: np.ndarray, m: np.ndarray, n: np.ndarray, k: np.ndarray) -> Parts:
    """m, n, k int64. The whole time stands under what binds."""
    numbers, choices = best_candidates(m, n, k, rates, tiles)
    bound = np.array([OF_GEMM[each] for each in BOUNDS])[choices[:, 0]]
    total = numbers[:, 0]
    return Parts(total, *(np.where(bound == regime, total, 0.0) for regime in REGIMES))


def of_best_kernel(
    gpu: GpuSpec, precision: Precision, parts: Parts, m: np.ndarray, n: np.ndarray, k: np.ndarray
) -> Timing:
    """With the error that the preset states of the library's best kernel at so many tokens."""
    octaves, said = confidence.outside(gpu.coverage, m, n, k)
    return Timing(
        latency_us=parts.total,
        bound=np.array(REGIMES, dtype=object)[regimes_of(parts)],
        latency_error_p90=confidence.error_p90(precision.error, "dense", m, octaves),
        extrapolated=confidence.extrapolated(gpu.coverage, said),
        kernel=BEST,
        basis=f"of the best library kernel: {precision.error.basis}",
    )


def of_weight_only(timing: Timing, weights: WeightOnly, bits: int) -> Timing:
    return dataclasses.replace(of_fewer_bits(timing, weights.error_p90, bits), basis=f"{weights.basis}; {timing.basis}")


def family_of(kernel: LinearKernel) -> KernelFamily:
    """The tile model's names; what it calls launch is our fixed time."""
    values = {name: getattr(kernel, name) for name in parameters_of(LinearKernel) if name != "fixed_us"}
    return KernelFamily(launch_us=kernel.fixed_us, **values)


def weight_only_rates(rates: KernelRates, weights: WeightOnly, dtype: str, bits: int, group_size: int) -> KernelRates:
    check_weight_bits(bits)
    if dtype not in ("fp16", "bf16"):
        raise UserError(f"weight_bits = {bits} goes with 16-bit inputs, not with {dtype}")
    share = weights.int8_memory if bits == 8 else weights.int4_memory
    beside = (32 if bits == 4 else 16) / group_size if group_size else 0.0
    return rates._replace(
        w_bytes=(bits + beside) / 8,
        dram_bytes_per_us=rates.dram_bytes_per_us * share,
        macs_per_cycle=rates.macs_per_cycle * weights.compute,
    )
