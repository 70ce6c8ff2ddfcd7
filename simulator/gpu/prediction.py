"""Dense and 2:4 times of GEMMs on a GPU, with what bounds them and the stated error."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from simulator.gpu import confidence
from simulator.gpu.kernel_times import BOUNDS, KernelRates, best_candidates
from simulator.gpu.sizes import whole_numbers
from simulator.gpu.spec import Error, GpuSpec, KernelFamily, Precision
from workloads.errors import UserError, unknown
from workloads.verdicts import verdict

DTYPES = ("fp16", "bf16", "int8", "fp8")
HARDWARE_LIMIT = 2.0  # 2:4 doubles the MAC rate and at best halves the bytes


@dataclass(frozen=True)
class Kernel:
    """The best candidate of each GEMM; arrays (shapes,). NaN and "" where the kernel cannot run.

    bound: what limits the kernel. launch: the empty kernel is longer than all the work; else dram, or the largest part
    of the SMs'
    time: tensor (MAC rate at the clock reached), l2 (bytes, latency, start and end of tiles, split-k sums) or wave_tail
    (SMs idle in the last wave, padding of edge tiles).
    """

    time_us: np.ndarray
    bound: np.ndarray
    tile: np.ndarray  # "tokens x features / split-k"
    clock_mhz: np.ndarray  # after the power limit
    dram_bytes: np.ndarray


@dataclass(frozen=True)
class Prediction:
    """Arrays (shapes,). speedup = dense / sparse24; speedup_capped stops at 2, what 2:4 itself can give: more than that
    means that the library's dense kernel is weak. reason says why there is no 2:4 time, else "". The errors: nine of
    ten predictions stay within. extrapolated: what lies outside the data, else "". verdict: faster, slower or not
    distinguishable.
    """

    m: np.ndarray
    n: np.ndarray
    k: np.ndarray
    dtype: str
    dense: Kernel
    sparse24: Kernel
    speedup: np.ndarray
    speedup_capped: np.ndarray
    reason: np.ndarray
    dense_error_p90: np.ndarray
    sparse24_error_p90: np.ndarray
    speedup_error_p90: np.ndarray
    extrapolated: np.ndarray
    verdict: np.ndarray
    error: Error

    def columns(self) -> dict[str, Any]:
        """One value or array a column, units in the names; bound, tile and clock without a prefix are the 2:4
        kernel's."""
        return {
            "dense_us": self.dense.time_us,
            "sparse24_us": self.sparse24.time_us,
            "speedup": self.speedup,
            "speedup_capped": self.speedup_capped,
            "bound": self.sparse24.bound,
            "dense_bound": self.dense.bound,
            "tile": self.sparse24.tile,
            "dense_tile": self.dense.tile,
            "clock_mhz": self.sparse24.clock_mhz,
            "dense_clock_mhz": self.dense.clock_mhz,
            "dense_error_p90": self.dense_error_p90,
            "sparse24_error_p90": self.sparse24_error_p90,
            "speedup_error_p90": self.speedup_error_p90,
            "verdict": self.verdict,
            "extrapolated": self.extrapolated,
            "error_basis": self.error.basis,
            "reason": self.reason,
        }


def predict(spec: GpuSpec, m: ArrayLike, n: ArrayLike, k: ArrayLike, dtype: str = "fp16") -> Prediction:
    """Times of Y[m, n] = X[m, k] W[n, k]^T with W dense and with W 2:4; sizes are integers or integer arrays that
    broadcast.

    Raises UserError for sizes that are not whole numbers from 1 to 2^24 and for a dtype the GPU lacks.
    The model and its approximations stand in simulator/gpu/kernel_times.py; bias, activation and compression of W are
    not in it.
    """
    precision = precision_of(spec, dtype)
    ms, ns, ks = whole_numbers(m=m, n=n, k=k)
    allowed, reason = sparse24_rules(ns, ks, precision)
    dense = run_kernel(ms, ns, ks, rates_of(spec, precision, sparse24=False), tiles_of(spec, sparse24=False))
    padded = sparse24_tokens(ms, precision)
    sparse = run_kernel(
        padded, ns, ks, rates_of(spec, precision, sparse24=True), tiles_of(spec, sparse24=True), allowed
    )
    speedup = dense.time_us / sparse.time_us
    capped = np.minimum(speedup, HARDWARE_LIMIT)
    octaves, beyond = confidence.outside(spec.coverage, ms, ns, ks)
    errors = {
        what: confidence.error_p90(precision.error, what, ms, octaves) for what in ("dense", "sparse24", "speedup")
    }
    return Prediction(
        m=ms, n=ns, k=ks, dtype=dtype, dense=dense, sparse24=sparse, speedup=speedup, speedup_capped=capped,
        reason=reason,
        dense_error_p90=errors["dense"],
        sparse24_error_p90=np.where(allowed, errors["sparse24"], np.nan),
        speedup_error_p90=np.where(allowed, errors["speedup"], np.nan),
        extrapolated=confidence.extrapolated(spec.coverage, beyond),
        verdict=verdict(speedup, errors["speedup"]),
        error=precision.error,
    )  # fmt: skip


def precision_of(spec: GpuSpec, dtype: str) -> Precision:
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    precision: Precision | None = getattr(spec, "fp16" if dtype == "bf16" else dtype)
    if precision is None:
        known = [name for name in DTYPES if getattr(spec, "fp16" if name == "bf16" else name) is not None]
        raise UserError(f"this GPU's tensor cores have no {dtype}; they have: {', '.join(known)}")
    return precision


def sparse24_tokens(m: np.ndarray, precision: Precision) -> np.ndarray:
    """What m is padded to for the 2:4 kernel: multiples of 8 with 2-byte values, of 16 with 1-byte values."""
    pad = 16 // precision.input_bytes
    return -(-m // pad) * pad


def sparse24_rules(n: np.ndarray, k: np.ndarray, precision: Precision) -> tuple[np.ndarray, np.ndarray]:
    """(shapes,) bool and reasons. PyTorch 2.13's cuSPARSELt back end (torch/sparse/semi_structured.py) never pads the
    sparse
    matrix: its sides must be multiples of 16 with 2-byte values, of 32 with 1-byte values. Tokens it pads, to 8 and 16.
    """
    step = 32 // precision.input_bytes
    allowed = (n % step == 0) & (k % step == 0)
    reason = np.full(n.shape, "", dtype=object)
    for i in np.flatnonzero(~allowed):
        reason[i] = f"2:4 needs n and k in multiples of {step}, not {n[i]} x {k[i]}"
    return allowed, reason


def compressed_bytes(input_bytes: float) -> float:
    """Bytes a weight of a 2:4 matrix: half of the values and 2 bits of index for each (NVIDIA's 2:4 format)."""
    return input_bytes / 2 + 0.5 * 2 / 8


def rates_of(spec: GpuSpec, precision: Precision, sparse24: bool) -> KernelRates:
    family: KernelFamily = precision.sparse24 if sparse24 else precision.dense
    values = float(precision.input_bytes)
    return KernelRates(
        sms=float(spec.chip.sms),
        clock_ghz=spec.chip.clock_mhz / 1e3,
        macs_per_cycle=precision.macs_per_cycle * (2.0 if sparse24 else 1.0) * family.efficiency,
        x_bytes=values,
        w_bytes=compressed_bytes(values) if sparse24 else values,
        y_bytes=float(precision.output_bytes),
        dram_bytes_per_us=spec.memory.bandwidth_gbps * 1e3 * family.memory_efficiency,
        l2_bytes=spec.memory.l2_mib * 2**20 * family.l2_usable,
        l2_bytes_per_cycle=float(family.l2_bytes_per_cycle),
        l2_warm=float(spec.memory.l2_warm),
        dynamic_w=float(spec.power.limit_w - spec.power.static_w),
        dram_pj_per_byte=float(spec.power.dram_pj_per_byte),
        response_us=float(family.response_us),
        launch_us=float(family.launch_us),
        pj_per_flop=float(family.pj_per_flop),
        raster_tiles=float(family.raster_tiles),
        step_cycles=float(family.step_cycles),
        fill_cycles=float(family.fill_cycles),
        reduce_us=float(family.reduce_us),
        small_tile=float(family.small_tile),
    )


def tiles_of(spec: GpuSpec, sparse24: bool) -> np.ndarray:
    """(candidates, 2) int64: tokens, features."""
    tiles = spec.tiles
    tokens, features = (
        (tiles.sparse24_tokens, tiles.sparse24_features) if sparse24 else (tiles.dense_tokens, tiles.dense_features)
    )
    pairs = [(t, f) for t in tokens for f in features if t * f <= tiles.max_outputs]
    if not pairs:
        raise UserError(
            f"tiles.max_outputs = {tiles.max_outputs} is below every tile; raise it to {tokens[0] * features[0]}"
        )
    return np.array(pairs, dtype=np.int64)


def run_kernel(
    m: np.ndarray, n: np.ndarray, k: np.ndarray, p: KernelRates, tiles: np.ndarray, allowed: np.ndarray | None = None
) -> Kernel:
    numbers, choices = best_candidates(m, n, k, p, tiles)
    bound = np.array(BOUNDS, dtype=object)[choices[:, 0]]
    tile = np.array([f"{tm}x{tn}/{split}" for _, tm, tn, split in choices.tolist()], dtype=object)
    if allowed is not None:
        numbers[~allowed] = np.nan
        bound[~allowed] = tile[~allowed] = ""
    return Kernel(numbers[:, 0], bound, tile, numbers[:, 1] * 1e3, numbers[:, 2])
