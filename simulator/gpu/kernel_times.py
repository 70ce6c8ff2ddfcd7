"""Time of one GEMM kernel on a GPU, tile by tile: waves over the SMs, main loop, L2, DRAM, clock under the power limit.

The GEMM is Y[m, n] = X[m, k] W[n, k]^T with m tokens, n out_features, k in_features. A thread block (CTA) computes one
tile of Y; a library is taken to run the fastest of its tiles and splits of k ("best candidate"), which is what an
exhaustive algorithm search finds and what a heuristic usually comes near.

What it leaves out, and where it is known to be off:
* The efficiencies describe library kernels of January 2026 (cuBLASLt, cuSPARSELt), so a weak kernel is predicted as
  weak: dense int8 on A100 reaches 60 % of its peak, on B200 20 %, and 2:4 then gains more than 2x. Other libraries
  differ by 10-40 %.
* Neighbouring shapes get kernels of different quality from the libraries (up to 1.5x below 20 us); that is not
  predictable here and is most of the stated error.
* Clocks are those of a burst of back-to-back launches with a warm L2 (Power, Memory in spec.py say how to change that).
* The fall of the largest cubes (16384 and up) is underestimated, by up to 18 % on Hopper.
* B200's measured times below 20 us come in steps of 2 us, which the launches have and the model has not.
* On RTX 4090, 2:4 kernels of one-byte types at k = 8192 and 512 to 1024 tokens take up to twice what is predicted.
* Clusters, stream-K, bias and activation are absent; energy values are effective figures, good for the clock alone.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

STEP_BYTES = 128  # k is walked in steps of one 128-byte line of X
MOST_PER_SM = 4  # k is not split where that makes more CTAs an SM
WHOLE_TILE = 128 * 128  # outputs of a tile that reaches the full MAC rate
OVERLAP = (
    4.0  # exponent of the soft maximum of times that overlap in an SM; infinity would hide the smaller one entirely
)
DRAM_OVERLAP = 2.0  # the same of the SMs' time and the DRAM's, which hide each other less well
L2_KNEE = 6.0  # how sharply the L2 starts missing once a footprint exceeds its usable size
THROTTLE_KNEE = 0.5  # how sharply the regulator steps in around its response time: over decades
SPLITS = np.array([1, 2, 3, 4, 6, 8, 12, 16], dtype=np.int64)
BOUNDS = ("tensor", "dram", "l2", "launch", "wave_tail")
TENSOR, DRAM, L2, LAUNCH, WAVE_TAIL = range(5)


class KernelRates(NamedTuple):
    """One kernel family on one GPU, all floats. numba's files beside this one name the class: rename both or neither,
    as an older installation's files would end the program."""

    sms: float
    clock_ghz: float
    macs_per_cycle: float  # one SM, 2:4 counted as the dense product, x efficiency
    x_bytes: float  # one value of X
    w_bytes: float  # one value of W; for 2:4 half of them and 2 bits of index for each kept one
    y_bytes: float
    dram_bytes_per_us: float
    l2_bytes: float
    l2_bytes_per_cycle: float
    l2_warm: float  # 1 or 0
    dynamic_w: float
    dram_pj_per_byte: float
    response_us: float
    launch_us: float
    pj_per_flop: float
    raster_tiles: float
    step_cycles: float
    fill_cycles: float
    reduce_us: float
    small_tile: float


class Estimate(NamedTuple):
    time_us: float
    bound: int  # index into BOUNDS
    clock_ghz: float
    dram_bytes: float


@njit(cache=True, nogil=True)
def miss_rate(footprint_bytes: float, l2_bytes: float) -> float:
    """Share of accesses that miss: 0 well below the usable L2, 1 well above (a cyclic stream under LRU has no
    middle)."""
    return 1.0 / (1.0 + (l2_bytes / footprint_bytes) ** L2_KNEE)


@njit(cache=True, nogil=True)
def dram_traffic(m: int, n: int, k: int, tile_m: int, tile_n: int, p: KernelRates) -> float:
    """Bytes from and to DRAM: X once, W once for each group of token tiles that walks over the features together, Y
    once.

    A group is `raster_tiles` wide, or as wide as one tile on every SM makes it where the features are fewer than the
    SMs. The next group finds W in the L2 if W and the group's part of X fit.
    """
    x_bytes, w_bytes, y_bytes = m * k * p.x_bytes, n * k * p.w_bytes, m * n * p.y_bytes
    first = miss_rate(x_bytes + w_bytes + y_bytes, p.l2_bytes) if p.l2_warm > 0.0 else 1.0
    token_tiles = math.ceil(m / tile_m)
    together = min(max(p.raster_tiles, p.sms / math.ceil(n / tile_n)), token_tiles)
    again = miss_rate(w_bytes + min(together * tile_m, m) * k * p.x_bytes, p.l2_bytes)
    passes = token_tiles / together
    return x_bytes * first + w_bytes * (first + (passes - 1) * again) + y_bytes * first


@njit(cache=True, nogil=True)
def limited_clock_ghz(flops: float, dram_bytes: float, cycles: float, p: KernelRates) -> float:
    """The clock at which the card stays within its power limit, at most the full clock.

    Energy a FLOP grows linearly with the clock (the voltage follows it, half of V^2 f in the range of interest), so
    power = pj_flop * FLOPs / cycles * f^2 / f_full + pj_dram * bytes / cycles * f; solved for f. The shorter a kernel
    is than the regulator's response, the nearer it stays to the full clock.
    """
    full = p.clock_ghz
    square_w = p.pj_per_flop * flops / (full * cycles) * 1e-3  # W at 1 GHz
    linear_w = p.dram_pj_per_byte * dram_bytes / cycles * 1e-3
    if square_w * full * full + linear_w * full <= p.dynamic_w:
        return full
    limited = 2.0 * p.dynamic_w / (linear_w + math.sqrt(linear_w * linear_w + 4.0 * square_w * p.dynamic_w))
    throttled = 1.0 / (1.0 + (p.response_us * full * 1e3 / cycles) ** THROTTLE_KNEE)
    return 1.0 / ((1.0 - throttled) / full + throttled / limited)


@njit(cache=True, nogil=True)
def limit(launch_us: float, dram_us: float, sm_us: float, useful_us: float, computed_us: float) -> int:
    """What limits a kernel, an index into BOUNDS: launch where the empty kernel is longer than all the work; else the
    DRAM or the SMs, whichever takes longer; of the SMs' time the largest part: MACs that are asked for (useful), idle
    SMs and padding (computed above useful), or bytes, latency, start, end and split-k sums (the rest)."""
    if launch_us > max(dram_us, sm_us):
        return LAUNCH
    if dram_us >= sm_us:
        return DRAM
    if useful_us >= max(computed_us - useful_us, sm_us - computed_us):
        return TENSOR
    return WAVE_TAIL if computed_us - useful_us >= sm_us - computed_us else L2


@njit(cache=True, nogil=True)
def estimate(m: int, n: int, k: int, tile_m: int, tile_n: int, split: int, p: KernelRates) -> Estimate:
    """One candidate: CTA tile (tile_m tokens, tile_n features), k in `split` parts.

    MACs run the slower the smaller the tile is (WHOLE_TILE). Cycles of a tile = soft maximum of MACs, L2-to-SM bytes
    and step latency over its part of k, plus writing it out, plus start and end; every SM works through ceil(tiles /
    SMs) of them. Edge tiles compute whole, but load and store only what exists. That time and the DRAM's overlap;
    launch and the sum over the parts of a split k are added.
    """
    part_k = math.ceil(k / split / 64) * 64
    token_tiles, feature_tiles = math.ceil(m / tile_m), math.ceil(n / tile_n)
    tiles = token_tiles * feature_tiles * split
    waves = math.ceil(tiles / p.sms)
    real_m, real_n = min(tile_m, m), min(tile_n, n)

    rate = p.macs_per_cycle * min(1.0, tile_m * tile_n / WHOLE_TILE) ** p.small_tile
    mac_cycles = tile_m * tile_n * part_k / rate
    load_cycles = (real_m * p.x_bytes + real_n * p.w_bytes) * part_k / p.l2_bytes_per_cycle
    wait_cycles = part_k * p.x_bytes / STEP_BYTES * p.step_cycles
    loop_cycles = (mac_cycles**OVERLAP + load_cycles**OVERLAP + wait_cycles**OVERLAP) ** (1.0 / OVERLAP)
    store_cycles = real_m * real_n * p.y_bytes / p.l2_bytes_per_cycle
    cycles = waves * (loop_cycles + store_cycles + p.fill_cycles)

    dram_bytes = dram_traffic(m, n, k, tile_m, tile_n, p)
    clock_ghz = limited_clock_ghz(2.0 * m * n * k, dram_bytes, cycles, p)
    sm_us = cycles / clock_ghz * 1e-3
    dram_us = dram_bytes / p.dram_bytes_per_us
    body_us = (sm_us**DRAM_OVERLAP + dram_us**DRAM_OVERLAP) ** (1.0 / DRAM_OVERLAP)
    split_us = 0.0
    if split > 1:  # fp32 partial sums are written and read once, by a kernel on all SMs
        split_us = p.reduce_us + 8.0 * split * m * n / (p.sms * p.l2_bytes_per_cycle * p.clock_ghz * 1e3)
    useful_us = 1.0 * m * n * k / (p.sms * p.macs_per_cycle) / clock_ghz * 1e-3
    computed_us = waves * mac_cycles / clock_ghz * 1e-3
    bound = limit(p.launch_us, dram_us, sm_us + split_us, useful_us, computed_us)
    return Estimate(p.launch_us + split_us + body_us, bound, clock_ghz, dram_bytes)


@njit(cache=True, nogil=True)
def shortest_cover(sides: np.ndarray, size: int) -> int:
    """The least of `sides` that is no shorter than size, else the longest."""
    found = sides.max()
    for side in sides:
        if size <= side < found:
            found = side
    return int(found)


@njit(cache=True, nogil=True)
def best_candidates(
    m: np.ndarray, n: np.ndarray, k: np.ndarray, p: KernelRates, tiles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The fastest candidate of each GEMM.

    m, n, k: (shapes,) int64; tiles: (candidates, 2) int64, tokens x features. A side longer than the shortest that
    covers all tokens or features is not looked at: it only pads more.
    Returns times (shapes, 3) float64: us, clock in GHz, DRAM bytes; choices (shapes, 4) int64: bound, tile_m, tile_n,
    split.
    """
    numbers = np.empty((len(m), 3))
    choices = np.empty((len(m), 4), dtype=np.int64)
    for i in range(len(m)):
        numbers[i, 0] = np.inf
        most_m, most_n = shortest_cover(tiles[:, 0], m[i]), shortest_cover(tiles[:, 1], n[i])
        for t in range(len(tiles)):
            tile_m, tile_n = tiles[t, 0], tiles[t, 1]
            if tile_m > most_m or tile_n > most_n:
                continue
            whole = math.ceil(m[i] / tile_m) * math.ceil(n[i] / tile_n)
            for split in SPLITS:
                if split > 1 and whole * split > MOST_PER_SM * p.sms:
                    break
                one = estimate(m[i], n[i], k[i], tile_m, tile_n, split, p)
                if one.time_us < numbers[i, 0]:
                    numbers[i, 0], numbers[i, 1], numbers[i, 2] = one.time_us, one.clock_ghz, one.dram_bytes
                    choices[i, 0], choices[i, 1], choices[i, 2], choices[i, 3] = one.bound, tile_m, tile_n, split
    return numbers, choices
