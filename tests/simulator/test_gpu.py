"""The GEMM model: closed forms, a slow twin that deals tiles onto SMs, laws."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.gpu.kernel_times import (
    BOUNDS,
    MOST_PER_SM,
    SPLITS,
    KernelRates,
    best_candidates,
    dram_traffic,
    estimate,
    limit,
    limited_clock_ghz,
    miss_rate,
)  # fmt: skip

# Nothing but MACs costs anything: 10 SMs, 1 GHz, 1024 MACs a cycle each, endless memory and power.
IDEAL = KernelRates(
    sms=10.0, clock_ghz=1.0, macs_per_cycle=1024.0, x_bytes=2.0, w_bytes=2.0, y_bytes=2.0, dram_bytes_per_us=1e30,
    l2_bytes=1e30, l2_bytes_per_cycle=1e30, l2_warm=1.0, dynamic_w=1e30, dram_pj_per_byte=0.0, response_us=0.0,
    launch_us=4.0, pj_per_flop=0.0, raster_tiles=1.0, step_cycles=0.0, fill_cycles=0.0, reduce_us=0.0,
    small_tile=0.0,
)  # fmt: skip
REAL = IDEAL._replace(
    dram_bytes_per_us=1.3e6, l2_bytes=2e7, l2_bytes_per_cycle=40.0, dynamic_w=200.0, dram_pj_per_byte=40.0,
    response_us=100.0, pj_per_flop=10.0, raster_tiles=2.0, step_cycles=300.0, fill_cycles=1500.0, reduce_us=10.0,
    small_tile=0.05,
)  # fmt: skip
TILES = np.array([(t, f) for t in (16, 64, 128) for f in (64, 128)], dtype=np.int64)
sizes = st.integers(1, 5000)


def best_us(m: int, n: int, k: int, p: KernelRates) -> float:
    one = [np.array([value], dtype=np.int64) for value in (m, n, k)]
    return float(best_candidates(*one, p, TILES)[0][0, 0])


def test_one_full_wave_is_the_mac_time_and_one_more_tile_is_a_wave_more():
    tile_us = 128 * 128 * 4096 / 1024 * 1e-3
    assert estimate(128, 1280, 4096, 128, 128, 1, IDEAL).time_us == pytest.approx(4 + tile_us)
    over = estimate(128, 1281, 4096, 128, 128, 1, IDEAL)
    assert over.time_us == pytest.approx(4 + 2 * tile_us)
    assert estimate(129, 1280, 4096, 128, 128, 1, IDEAL).time_us == pytest.approx(4 + 2 * tile_us)


def test_split_k_fills_idle_sms_and_pays_its_sum():
    whole = estimate(128, 128, 5120, 128, 128, 1, IDEAL).time_us
    assert estimate(128, 128, 5120, 128, 128, 8, IDEAL).time_us - 4 == pytest.approx((whole - 4) / 8)
    paid = IDEAL._replace(reduce_us=3.0, l2_bytes_per_cycle=64.0)
    free = IDEAL._replace(l2_bytes_per_cycle=64.0)
    partial_sums_us = 4 * 2 * 8 * 128 * 128 / (10 * 64.0) * 1e-3  # fp32, written and read, by 10 SMs
    extra = estimate(128, 128, 5120, 128, 128, 8, paid).time_us - estimate(128, 128, 5120, 128, 128, 8, free).time_us
    assert extra == pytest.approx(3.0)
    only_sum = free._replace(macs_per_cycle=1e30, x_bytes=1e-30, w_bytes=1e-30, y_bytes=1e-30)
    assert estimate(128, 128, 5120, 128, 128, 8, only_sum).time_us == pytest.approx(4 + partial_sums_us, rel=1e-6)


def test_dram_bound_time_is_bytes_over_bandwidth():
    slow = IDEAL._replace(dram_bytes_per_us=1e3, l2_bytes=1.0)
    got = estimate(16, 4096, 4096, 16, 128, 1, slow)
    assert BOUNDS[got.bound] == "dram"
    assert got.time_us == pytest.approx(4 + 2 * (16 * 4096 + 4096 * 4096 + 16 * 4096) / 1e3, rel=1e-3)


@pytest.mark.parametrize(
    ("bound", "shape", "changes"),
    [
        ("launch", (16, 64, 64), {}),
        ("tensor", (1280, 1280, 4096), {}),
        ("wave_tail", (128, 128, 65536), {}),
        ("l2", (1280, 1280, 4096), {"l2_bytes_per_cycle": 4.0}),
        ("l2", (1280, 1280, 4096), {"step_cycles": 5000.0}),
        ("dram", (1280, 1280, 4096), {"l2_bytes": 1.0, "dram_bytes_per_us": 1.0}),
    ],
)
def test_the_bound_is_what_was_made_slow(bound, shape, changes):
    assert BOUNDS[estimate(*shape, 128, 128, 1, IDEAL._replace(**changes)).bound] == bound


def test_warm_l2_reads_nothing_and_a_cold_one_everything_once():
    roomy = IDEAL._replace(l2_bytes=1e12)
    once = 2.0 * (256 * 512 + 1024 * 512 + 256 * 1024)
    assert dram_traffic(256, 1024, 512, 128, 128, roomy) == pytest.approx(0, abs=1)
    assert dram_traffic(256, 1024, 512, 128, 128, roomy._replace(l2_warm=0.0)) == pytest.approx(once, rel=1e-6)


def test_w_is_read_again_for_each_group_of_token_tiles():
    none = IDEAL._replace(l2_bytes=1.0, sms=1.0)  # no L2 to speak of, features never fewer than SMs
    m, n, k = 1024, 2048, 512
    for raster, passes in ((1, 8), (2, 4), (8, 1), (64, 1)):
        expected = 2.0 * (m * k + passes * n * k + m * n)
        assert dram_traffic(m, n, k, 128, 128, none._replace(raster_tiles=float(raster))) == pytest.approx(expected)
    # 64 SMs are four times the 16 feature tiles: four token tiles share a walk even with raster_tiles = 1
    wide = none._replace(sms=64.0)
    assert dram_traffic(m, n, k, 128, 128, wide) == pytest.approx(2.0 * (m * k + 2 * n * k + m * n))


def test_miss_rate_has_a_knee_at_the_usable_size():
    assert miss_rate(1.0, 1.0) == 0.5
    assert miss_rate(0.5, 1.0) < 0.02
    assert miss_rate(2.0, 1.0) > 0.98


def test_the_limited_clock_draws_the_limit():
    p = REAL._replace(response_us=0.0)
    flops, dram_bytes, cycles = 2.0 * 4096**3, 3e8, 8e5
    clock = limited_clock_ghz(flops, dram_bytes, cycles, p)
    seconds = cycles / clock * 1e-9
    joules = (p.pj_per_flop * clock / p.clock_ghz * flops + p.dram_pj_per_byte * dram_bytes) * 1e-12
    assert clock < p.clock_ghz
    assert joules / seconds == pytest.approx(p.dynamic_w)
    assert limited_clock_ghz(flops, dram_bytes, cycles, p._replace(dynamic_w=1e6)) == p.clock_ghz


def test_a_kernel_far_shorter_than_the_regulator_keeps_its_clock():
    flops, cycles = 2.0 * 4096**3, 8e5
    assert limited_clock_ghz(flops, 0.0, cycles, REAL._replace(response_us=1e12)) == pytest.approx(
        REAL.clock_ghz, rel=1e-3
    )
    assert limited_clock_ghz(flops, 0.0, cycles, REAL._replace(response_us=1e-9)) == pytest.approx(
        limited_clock_ghz(flops, 0.0, cycles, REAL._replace(response_us=0.0)), rel=1e-6
    )


def twin_us(m: int, n: int, k: int, tile_m: int, tile_n: int, split: int, p: KernelRates) -> float:
    """Tiles dealt round robin onto SMs, k walked step by step; the power limit and DRAM left out."""
    tiles = [(a, b, c) for a in range(0, m, tile_m) for b in range(0, n, tile_n) for c in range(split)]
    busy = [0.0] * int(p.sms)
    part_k = -(-k // split)
    for number, _ in enumerate(tiles):
        macs = loads = waits = 0.0
        for _step in range(-(-part_k // 64)):
            full = tile_m * tile_n >= 128 * 128
            macs += (
                tile_m
                * tile_n
                * 64
                / p.macs_per_cycle
                * (1 if full else (128 * 128 / (tile_m * tile_n)) ** p.small_tile)
            )
            loads += (tile_m * p.x_bytes + tile_n * p.w_bytes) * 64 / p.l2_bytes_per_cycle
            waits += 64 * p.x_bytes / 128 * p.step_cycles
        loop = float(np.linalg.norm([macs, loads, waits], ord=4))
        busy[number % int(p.sms)] += loop + tile_m * tile_n * p.y_bytes / p.l2_bytes_per_cycle + p.fill_cycles
    fixed = p.launch_us
    if split > 1:
        fixed += p.reduce_us + 2 * 4 * split * m * n / (len(busy) * p.l2_bytes_per_cycle * p.clock_ghz * 1e3)
    return fixed + max(busy) / p.clock_ghz * 1e-3


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 12),
    st.integers(1, 40),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([(64, 64), (128, 64)]),
)
def test_whole_tiles_agree_with_the_twin(token_tiles, feature_tiles, steps, split, tile):
    p = REAL._replace(dram_bytes_per_us=1e30, dynamic_w=1e30)
    m, n, k = token_tiles * tile[0], feature_tiles * tile[1], steps * 64
    assert estimate(m, n, k, *tile, split, p).time_us == pytest.approx(twin_us(m, n, k, *tile, split, p))


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, sizes)
def test_the_best_candidate_is_the_smallest_of_all(m, n, k):
    every = [
        estimate(m, n, k, int(t), int(f), int(s), REAL).time_us
        for t, f in TILES for s in SPLITS if s == 1 or -(-m // t) * -(-n // f) * s <= MOST_PER_SM * REAL.sms
    ]  # fmt: skip
    assert best_us(m, n, k, REAL) == min(every)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, sizes, st.floats(1.0, 4.0))
def test_more_of_anything_is_never_slower(m, n, k, factor):
    base = best_us(m, n, k, REAL)
    for field in ("dram_bytes_per_us", "l2_bytes_per_cycle", "macs_per_cycle", "dynamic_w", "l2_bytes"):
        more = REAL._replace(**{field: getattr(REAL, field) * factor})
        assert best_us(m, n, k, more) <= base * (1 + 1e-12), field
    for field in ("launch_us", "fill_cycles", "step_cycles", "pj_per_flop", "reduce_us", "w_bytes"):
        worse = REAL._replace(**{field: getattr(REAL, field) * factor})
        assert best_us(m, n, k, worse) >= base * (1 - 1e-12), field
    assert best_us(m, n, k, REAL._replace(l2_warm=0.0)) >= base * (1 - 1e-12)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, sizes)
def test_the_floors_hold(m, n, k):
    time_us = best_us(m, n, k, REAL)
    assert time_us > REAL.launch_us
    peak_us = m * n * k / (REAL.sms * REAL.macs_per_cycle) / REAL.clock_ghz * 1e-3
    assert time_us > peak_us
    assert math.isfinite(time_us)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, sizes, st.sampled_from("mnk"), st.integers(1, 3000))
def test_more_work_is_never_faster(m, n, k, which, more):
    grown = {"m": (m + more, n, k), "n": (m, n + more, k), "k": (m, n, k + more)}[which]
    assert best_us(*grown, REAL) >= best_us(m, n, k, REAL) * (1 - 1e-9)


@pytest.mark.parametrize(
    ("times", "bound"),
    [
        # launch, DRAM, SMs, of which useful MACs, of which computed with padding
        ((4.0, 1.0, 3.0, 1.0, 1.0), "launch"),
        ((24.0, 5.0, 28.0, 20.0, 21.0), "tensor"),
        ((24.0, 30.0, 28.0, 20.0, 21.0), "dram"),
        ((4.0, 5.0, 48.0, 10.0, 15.0), "l2"),
        ((4.0, 5.0, 48.0, 10.0, 40.0), "wave_tail"),
    ],
)
def test_launch_limits_only_what_is_shorter_than_an_empty_kernel(times, bound):
    assert BOUNDS[limit(*times)] == bound
