"""What a predicted operator is: its time, what it is made of, and how far it may be off."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np

from simulator.gpu.confidence import short
from simulator.gpu.operator_parameters import REGIMES, Data, Kernel, Operators, Residuals
from simulator.gpu.spec import GpuSpec
from workloads.errors import UserError

WEIGHT_BITS = (16, 8, 4)
Fitted = TypeVar("Fitted", bound=Kernel)
Quantities = Mapping[str, np.ndarray]


class Parts(NamedTuple):
    """(shapes,) us each; what stands side by side overlaps, so the total is less than the sum.

    fixed: launch, latency, merging. walk: CTAs one after the other, each at the pace of one. memory: bytes at the
    rate of the DRAM, or of the L2. compute: products.
    """

    total: np.ndarray
    fixed: np.ndarray
    walk: np.ndarray
    memory: np.ndarray
    compute: np.ndarray


class Rates(NamedTuple):
    """A card in the units of the formulas."""

    sms: float
    clock_ghz: float
    flops_per_us: float  # 16-bit products, sums in fp32
    bytes_per_us: float
    l2_bytes: float
    l2_warm: bool


@dataclass(frozen=True)
class Timing:
    """Arrays (shapes,). bound: fixed, walk, memory or compute, as `Parts` says. latency_error_p90 = e: nine of ten true
    values lie between latency_us / (1 + e) and latency_us * (1 + e). extrapolated: what lies outside the data, else "".
    """

    latency_us: np.ndarray
    bound: np.ndarray
    latency_error_p90: np.ndarray
    extrapolated: np.ndarray
    kernel: str
    basis: str


def rates_of(gpu: GpuSpec) -> Rates:
    clock_ghz = gpu.chip.clock_mhz / 1e3
    return Rates(
        sms=float(gpu.chip.sms),
        clock_ghz=clock_ghz,
        flops_per_us=2e3 * gpu.fp16.macs_per_cycle * gpu.chip.sms * clock_ghz,
        bytes_per_us=gpu.memory.bandwidth_gbps * 1e3,
        l2_bytes=gpu.memory.l2_mib * 2**20,
        l2_warm=gpu.memory.l2_warm,
    )


def operators_of(gpu: GpuSpec) -> Operators:
    """Raises UserError where the description has none."""
    if gpu.operators is None:
        raise UserError("this GPU's description has no section `operators`: its GEMMs alone are predicted")
    return gpu.operators


def chosen(kernels: Mapping[str, Fitted], name: str, operation: str) -> tuple[str, Fitted]:
    """The kernel of this name or of this label in the data; the first for "". Raises UserError."""
    if not kernels:
        raise UserError(f"this GPU's description has no kernel for {operation}")
    if not name:
        return next(iter(kernels.items()))
    for key, kernel in kernels.items():
        if name in (key, kernel.label):
            return key, kernel
    raise UserError(f"{operation} has no kernel {name!r}; this GPU has {', '.join(kernels)}")


def check_weight_bits(bits: int) -> None:
    if bits not in WEIGHT_BITS:
        raise UserError(f"weight_bits = {bits}: kernels are known for weights of 16, 8 and 4 bits")


def of_fewer_bits(timing: Timing, error_p90: float, bits: int) -> Timing:
    """Of weight-only kernels: the error no less than `error_p90`, and what was not measured named."""
    said = [f"weights of {bits} bits{'; ' if part else ''}{part}" for part in timing.extrapolated]
    return replace(
        timing,
        latency_error_p90=np.maximum(timing.latency_error_p90, error_p90),
        extrapolated=np.array(said, dtype=object),
    )


def soft_max(exponent: float, *times: np.ndarray) -> np.ndarray:
    """The larger of times that overlap, rounded off where they are about equal."""
    largest = np.maximum(np.maximum.reduce(times), 1e-12)
    return largest * np.sum([(time / largest) ** exponent for time in times], axis=0) ** (1 / exponent)


def stream_us(moved: np.ndarray, rates: Rates, efficiency: float, l2_usable: float, l2_time: float) -> np.ndarray:
    """(shapes,) us to move so many bytes. Where the L2 is warm and holds them, in l2_time of the DRAM's time."""
    dram_us = moved / (rates.bytes_per_us * efficiency)
    if not rates.l2_warm:
        return dram_us
    missed = 1 / (1 + (rates.l2_bytes * l2_usable / np.maximum(moved, 1)) ** 4)
    return dram_us * (missed + (1 - missed) * l2_time)


def parts_of(
    roof_us: np.ndarray,
    total: np.ndarray,
    fixed: np.ndarray | float,
    walk: np.ndarray | float = 0.0,
    memory: np.ndarray | float = 0.0,
    compute: np.ndarray | float = 0.0,
) -> Parts:
    """With the total no less than the roofline: bytes once over DRAM, products at the peak rate, by the data sheet."""
    whole = np.maximum(total, roof_us)
    return Parts(whole, *(np.broadcast_to(np.asarray(part, dtype=float), whole.shape)
                          for part in (fixed, walk, memory, compute)))  # fmt: skip


def regimes_of(parts: Parts) -> np.ndarray:
    """(shapes,) index into REGIMES: fixed where that is half of the time or more, else the largest of the others."""
    others = np.argmax(np.stack([parts.walk, parts.memory, parts.compute]), axis=0) + 1
    return np.where(2 * parts.fixed >= parts.total, 0, others)


def timing_of(name: str, data: Data, error: Residuals, parts: Parts, quantities: Quantities) -> Timing:
    regimes = regimes_of(parts)
    octaves, said = outside(data, quantities)
    inside = np.array([_p90(error, regime) for regime in REGIMES])[regimes]
    if not data.card:
        said = np.array([f"card as set not measured{'; ' if part else ''}{part}" for part in said], dtype=object)
    return Timing(
        latency_us=parts.total,
        bound=np.array(REGIMES, dtype=object)[regimes],
        latency_error_p90=np.expm1(inside + octaves * error.octave),
        extrapolated=said,
        kernel=name,
        basis=error.basis,
    )


def _p90(error: Residuals, regime: str) -> float:
    """Of a regime that no data shows: the worst of the others."""
    return error.p90[list(error.regimes).index(regime)] if regime in error.regimes else max(error.p90)


def outside(data: Data, quantities: Quantities) -> tuple[np.ndarray, np.ndarray]:
    """(shapes,) octaves by which the quantity farthest outside the data lies outside, 0 inside; and which, in words."""
    count = len(next(iter(quantities.values())))
    octaves = np.zeros(count)
    said: list[list[str]] = [[] for _ in range(count)]
    for name, (low, high) in data.ranges.items():
        value = np.maximum(np.asarray(quantities[name], dtype=float), 1e-9)
        far = np.maximum(np.log2(low / value), np.log2(value / high))
        octaves = np.maximum(octaves, far)
        for i in np.flatnonzero(far > 1e-9):
            side, bound = ("below", low) if value[i] < low else ("above", high)
            said[i].append(f"{name} {short(value[i])} {side} {short(bound)}")
    return octaves, np.array([", ".join(parts) for parts in said] or [], dtype=object)
