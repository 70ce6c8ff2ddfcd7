"""Random masks: cycles that follow from binomials, beside the model's on one drawn mask; no code of the model is used.

Every figure has the standard error that one drawn mask has around its expectation, where it is easily told; an error of
two of them is nothing to explain.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from scipy.stats import binom, norm

from simulator.accelerators.vitcod.attention.cycle import simulate as simulate_attention
from simulator.accelerators.vitcod.attention.spec import VitcodAttentionSpec
from simulator.machine.spec import load_spec
from validation.comparison import Comparison, error_of, number, percent, table
from validation.comparisons import orderstats as stats
from validation.comparisons.draws import eie_entries_pmf, folds_drawn, paired_largest
from validation.runs import FREE_MEMORY, ROOMY, random_mask, run

SEED = 21
QUANTILES = (np.arange(101) + 0.5) / 101
FAR = 3
HEAD = ("quantity", "kept", "expected", "model", "error", "standard error")


@dataclass(frozen=True)
class Expected:
    what: str
    kept: str
    expected: float
    model: float
    deviation: float | None = None  # of the model's figure around the expected one, for one mask

    @property
    def error(self) -> float:
        return error_of(self.model, self.expected)


def seed_of(density: float) -> tuple[int, int]:
    """Masks of different densities are drawn apart: one drawn high does not put the next one high too."""
    return SEED, round(1000 * density)


def comparison(name: str, says: str, found: Sequence[Expected]) -> Comparison:
    rows = [
        (e.what, e.kept, number(round(e.expected, 4)), number(round(e.model, 4)), percent(e.error, sign=True),
         percent(e.deviation / e.expected) if e.deviation else "-")
        for e in found
    ]  # fmt: skip
    errors = tuple(e.error for e in found)
    known = [
        abs(e.error) / (e.deviation / e.expected) for e in found if e.deviation and e.deviation / e.expected > 1e-6
    ]
    far = sum(times > FAR for times in known)
    says += f" Of {len(known)} figures with a standard error, {far} are more than {FAR} of them off."
    return Comparison(name, "random masks: binomial expectations", "statistics", errors, says, [table(HEAD, rows)])


def share_of(density: float) -> str:
    return f"{100 * density:.0f} %"


def total(pmf: np.ndarray, times: int, factor: float = 1.0) -> tuple[float, float]:
    """Mean and deviation of the sum of `times` independent ones, times `factor`."""
    return factor * times * stats.mean(pmf), factor * times**0.5 * stats.deviation(pmf)


def vitcod(side: int = 4096) -> Comparison:
    found = []
    for height in (64, 8):
        for density in (0.3, 0.5, 0.7):
            for tile_rows in (64, 128):
                sets = (
                    "engines.dense_thresholds=[1.0]", f"array.height={height}", f"mapping.tile_rows={tile_rows}",
                    "mapping.tile_cols=512", "buffers.weight_kib=1024", "buffers.index_kib=1024",
                )  # fmt: skip
                row = stats.rounds(stats.binomial(512, density), height)
                tile = stats.largest(stats.summed(row, tile_rows // 64), 64)
                expected, deviation = total(tile, side // tile_rows * (side // 512))
                model = run("vitcod", sets, random_mask(side, side, density, seed_of(density))).sparse.compute_cycles
                what = f"64 lanes x {height}, tiles of {tile_rows} x 512: fullest lane"
                found.append(Expected(what, share_of(density), expected, model, deviation))
    says = (
        f"Compute cycles of {side} x {side} and one token, all columns in the sparser engine, tile sides prescribed: a "
        "lane adds up ceil(Binomial(512, kept) / height) of its rows, and a tile takes the largest of 64 lanes."
    )
    return comparison("vitcod", says, found)


def attention(heads: int = 400) -> Comparison:
    found = []
    sets = (
        "attention.encoder_ratio=1.0", "attention.global_above=64", "dram.bandwidth_gbps=1e9",
        *(f"buffers.{name}_kib=65536" for name in ("query", "key", "value", "index", "output")),
    )  # fmt: skip
    spec = load_spec("vitcod-attention", VitcodAttentionSpec, sets)
    for density in (0.05, 0.1, 0.3):
        kept = np.random.default_rng(seed_of(density)).random((heads, 64, 64)) < density
        model = simulate_attention(spec, kept)
        sddmm = total(stats.largest(stats.binomial(64, density), 64), heads, factor=8)
        spmm = total(stats.largest(stats.binomial(512, density), 8), heads)
        share = share_of(density)
        found.append(
            Expected("SDDMM: a key a lane, 8 cycles a position", share, sddmm[0], model.sddmm_cycles, sddmm[1])
        )
        found.append(Expected("SpMM: 8 queries a lane, 8 kinds of lanes", share, spmm[0], model.spmm_cycles, spmm[1]))
    says = (
        f"{heads} heads of 64 queries x 64 keys, 64 features, one tile a head: the largest of 64 Binomial(64, kept), "
        "and of 8 Binomial(512, kept)."
    )
    return comparison("vitcod-attention", says, found)


def vitcod_paper(side: int = 4096) -> Comparison:
    found = []
    shapes = [(side, side), (43 * side // 16, side), (side, 43 * side // 16)]
    for density in (0.3, 0.5, 0.7, 0.9):
        for rows, cols in shapes if density == 0.5 else shapes[:1]:
            widths = [min(rows, cols - start) for start in range(0, cols, rows)]
            patches = [[paper_patch(rows, width, density, shift) for shift in norm.ppf(QUANTILES)] for width in widths]
            expected = float(sum(np.mean(patch) for patch in patches))
            deviation = float(sum(np.var(patch) for patch in patches)) ** 0.5
            mask = random_mask(rows, cols, density, (SEED, rows, cols, round(1000 * density)))
            model = run("vitcod-paper", (), mask).sparse.cycles
            found.append(Expected(f"{rows} x {cols}", share_of(density), expected, model, deviation))
    says = (
        "BESA's formula, averaged over the number of dense columns (those of Binomial(outputs, kept) above the ratio, "
        "itself nearly normal), at the expected number of entries beside them."
    )
    return comparison("vitcod-paper", says, found)


def paper_patch(rows: int, cols: int, density: float, shift: float = 0.0, width: int = 64, height: int = 64) -> float:
    """Cycles of a patch; `shift`: by how many deviations the number of dense columns is off its mean."""
    counts = np.arange(rows + 1)
    pmf = binom.pmf(counts, rows, density)
    ratio, best = 0.5, float("inf")
    for _ in range(5):
        above = counts > ratio * rows
        chance = min(1.0, pmf[above].sum())
        dense_cols = cols * chance + shift * (cols * chance * (1 - chance)) ** 0.5
        in_dense = dense_cols * (pmf * counts)[above].sum() / chance if chance else 0.0
        beside = cols * rows * density - in_dense
        dense_width = int(width * (dense_cols * rows / (beside + dense_cols * rows)))
        dense = cols * dense_cols / (dense_width * height) if dense_width else 0.0
        sparse = beside / ((width - dense_width) * height) if dense_width < width else beside
        best = min(best, max(dense, sparse))
        share = in_dense / (cols * rows * density)
        if 0.4 < share < 0.6:
            break
        ratio += 0.1 if share >= 0.6 else -0.1
    return best


def sparten(rows: int = 2048, cols: int = 4096) -> Comparison:
    found = []
    chunks, kept_shares = cols // 128, (0.2, 0.5, 0.8)
    one = ("array.clusters=1", FREE_MEMORY, *ROOMY)
    for density in kept_shares:
        mask, share = random_mask(rows, cols, density, seed_of(density)), share_of(density)
        chunk = stats.at_least(stats.binomial(128, density), 1)
        for balancing, units, pmf in (
            ("none", rows // 32, stats.largest(chunk, 32)),
            ("gb-s", rows // 64, stats.largest(stats.summed(chunk, 2), 32)),
        ):
            expected, deviation = total(pmf, units * chunks)
            model = run("sparten", (*one, f"array.balancing={balancing}"), mask).sparse.compute_cycles
            found.append(Expected(f"{balancing}, one cluster: slowest of 32 units", share, expected, model, deviation))
        mean, deviation = paired_largest(128, density, 32, seed=SEED)
        model = run("sparten", (*one, "array.balancing=gb-h"), mask).sparse.compute_cycles
        times = rows // 64 * chunks
        what = "gb-h, one cluster: slowest of 32 pairs (drawn)"
        found.append(Expected(what, share, times * mean, model, times**0.5 * deviation))
        block = stats.largest(stats.summed(stats.largest(chunk, 32), 4), 32)
        expected, deviation = total(block, rows // 1024 * chunks // 4)
        model = run("sparten", ("array.balancing=none", FREE_MEMORY, *ROOMY), mask).sparse.compute_cycles
        found.append(Expected("none, 32 clusters: slowest of 32 x 4 chunks", share, expected, model, deviation))
    for kept, nonzero in ((0.5, 0.5), (0.3, 0.6), (0.9, 0.2), (0.1, 0.1)):
        mask = random_mask(rows, cols, kept, seed_of(kept))
        inputs = stats.binomial(128, nonzero)
        mean = sum(
            inputs[a] * stats.mean(stats.largest(stats.at_least(stats.binomial(a, kept), 1), 32)) for a in range(129)
        )
        model = run("sparten", (*one, "array.balancing=none"), mask, density=nonzero).sparse.compute_cycles
        what = f"none, one cluster, {share_of(nonzero)} of inputs nonzero"
        found.append(Expected(what, share_of(kept), rows // 32 * chunks * mean, model))
    says = (
        f"Compute cycles of {rows} x {cols} and one token. A unit's chunk takes max(1, Binomial(128, kept)); pairs of "
        "whole-filter density (gb-s) are taken as unrelated within a chunk, which they nearly are; pairs of a chunk "
        "(gb-h) are drawn 20,000 times. With sparse inputs the expectation is exact (given the inputs of a chunk, "
        "units are independent), the model's an approximation of its own."
    )
    return comparison("sparten", says, found)


def eie(rows: int = 4096, cols: int = 4096) -> Comparison:
    found = []
    for density in (0.05, 0.1, 0.5):
        mask, share = random_mask(rows, cols, density, seed_of(density)), share_of(density)
        entries = eie_entries_pmf(rows // 64, density)
        busy = stats.at_least(entries, 1)
        expected, deviation = total(stats.largest(busy, 64), cols)
        model = run("eie", (*ROOMY, "array.fifo_depth=1"), mask).sparse.compute_cycles
        found.append(Expected("queue of 1: slowest of 64 PEs, every column", share, expected, model, deviation))
        mean, spread = total(busy, cols)
        at = np.linspace(mean - 8 * spread, mean + 8 * spread, 20001)
        slowest = at[0] + float(np.trapezoid(1 - ndtr((at - mean) / spread) ** 64, at))
        model = run("eie", (*ROOMY, f"array.fifo_depth={cols}"), mask).sparse.compute_cycles
        found.append(Expected("endless queue: fullest of 64 PEs", share, slowest, model, spread / 2))
    says = (
        f"Compute cycles of {rows} x {cols} and one token. Entries of a PE's column, padding zeros of 4-bit runs "
        "included, from the exact distribution over the places of 64 weights; a whole row of columns is taken as "
        "normal. The published depth of 8 lies between the two and has no such form: the twin and the published times "
        "stand for it."
    )
    return comparison("eie", says, found)


def sigma(rows: int = 4096, cols: int = 4096) -> Comparison:
    found = []
    free = ("buffers.weight_bytes_per_cycle=0", "buffers.activation_bytes_per_cycle=0")
    for density in (0.1, 0.3, 0.45, 0.7):
        mask = random_mask(rows, cols, density, seed_of(density))
        mean, deviation = folds_drawn(rows, cols, density, 16384, seed=SEED)
        found.append(Expected("folds of whole rows, 16384 multipliers (drawn)", share_of(density), mean,
                              run("sigma", free, mask).sparse.extra["folds"], deviation))  # fmt: skip
    for density in (0.2, 0.5):
        counts = np.arange(cols // 4 + 1)
        pieces = stats.mapped(stats.binomial(cols // 4, density), 1 + -(-np.maximum(counts - 128, 0) // 127))
        expected, deviation = total(pieces, rows)
        sets = ("array.num_ms=128", "array.dn_bw=128", *free)
        model = run("sigma", sets, random_mask(rows, cols // 4, density, seed_of(density))).sparse.extra["folds"]
        if density == 0.5:
            what = f"folds of split rows of {cols // 4}, 128 multipliers"
            found.append(Expected(what, share_of(density), expected, model, deviation))
    tokens, density, few = 10**6, 0.1, 20
    mask = random_mask(few, 700, density, seed_of(density))
    columns = binom(700, 1 - (1 - density) ** few)
    one = run("sigma", ("array.num_ms=16384", "array.dn_bw=1", *free), mask, tokens).sparse
    sent = (one.extra["distribution_cycles"] - mask.nnz) / tokens
    what = "distinct inputs that one port sends a token"
    found.append(Expected(what, share_of(density), columns.mean(), sent, columns.std()))
    says = (
        "Row counts drawn from the binomial and packed greedily 40 times; pieces of split rows and distinct inputs of "
        "a port in closed form."
    )
    return comparison("sigma", says, found)


def dstc(rows: int = 2048, cols: int = 4096) -> Comparison:
    found = []
    for density in (0.02, 0.1, 0.3, 0.5, 0.7):
        mask, share = random_mask(rows, cols, density, seed_of(density)), share_of(density)
        column = stats.rounds(stats.binomial(16, density), 8)
        expected, deviation = total(column, rows // 16 * cols)
        model = run("dstc", ("array.otcs=1",), mask, 16).sparse.compute_cycles
        found.append(Expected("steps of 16 x 1 columns, one core", share, expected, model, deviation))
        expected, deviation = total(stats.largest(stats.summed(column, 64), 4), rows // 64 * cols // 64)
        model = run("dstc", (), mask, 16).sparse.compute_cycles
        found.append(Expected("slowest of 4 cores every 64 inputs", share, expected, model, deviation))
    for nonzero in (0.05, 0.2, 0.5):
        mask = random_mask(rows, cols, 0.5, seed_of(nonzero))
        share_of_steps = 1 - (1 - nonzero) ** 16
        column = stats.rounds(stats.binomial(16, 0.5), 8)
        expected, deviation = total(column, rows // 16 * cols, share_of_steps)
        model = run("dstc", ("array.otcs=1",), mask, 16, density=nonzero).sparse.compute_cycles
        found.append(
            Expected(f"one core, {share_of(nonzero)} of inputs nonzero", share_of(0.5), expected, model, deviation)
        )
    says = (
        f"Compute cycles of {rows} x {cols} and 16 tokens: ceil(Binomial(16, kept) / 8) steps a column, "
        f"{stats.mean(column):.3g} of 2 at 50 %; four cores wait for each other every 64 inputs; an input counts "
        "unless all 16 tokens have a zero there (the model rounds the expected cycles of every tile up)."
    )
    return comparison("dstc", says, found)


def highlight(masks: int = 1500) -> Comparison:
    found = []
    for density, runs in ((0.03, 2), (0.05, 1), (0.05, 2)):
        rng = np.random.default_rng((SEED, runs, round(100 * density)))
        block = stats.binomial(8, density)
        holds = sum(
            binom.pmf(full, 4, 1 - block[0]) * (block[1:5].sum() / block[1:].sum()) ** full for full in range(3)
        )
        probability = holds ** (8 * runs)
        hits = 0
        for _ in range(masks):
            layer = run("highlight", (), random_mask(8, 32 * runs, density, int(rng.integers(0, 2**31)))).sparse
            hits += layer.mapping.startswith("4:8 in blocks x 2:4 of blocks")
        deviation = (masks * probability * (1 - probability)) ** 0.5
        what = f"masks of 8 x {32 * runs} held by 4:8 x 2:4"
        found.append(Expected(what, share_of(density), masks * probability, hits, deviation))
    says = (
        f"Of {masks} random masks, how many run at the sparsest pair of ranks: two of four blocks of eight with any "
        "weight, none with more than four. Anything of a layer's size, at any density a model keeps, runs dense."
    )
    return comparison("highlight", says, found)


def vegeta(rows: int = 2048, cols: int = 4096) -> Comparison:
    found = []
    for density in (0.02, 0.05, 0.1, 0.2, 0.5):
        one, two = (binom.cdf(n, 4, density) ** 16 for n in (1, 2))
        cover = np.array([0.0, one, two - one, 0.0, 1 - two])
        fillings = stats.rounds(stats.summed(cover, 512), 32)
        expected, deviation = total(fillings, rows // 512 * cols // 64, 16)
        model = run("vegeta", (), random_mask(rows, cols, density, seed_of(density)), 16).sparse.compute_cycles
        found.append(Expected("fillings of 32 lanes, 512 rows packed", share_of(density), expected, model, deviation))
    says = (
        f"Compute cycles of {rows} x {cols} and 16 tokens: a row of a tile takes 1, 2 or 4 lanes as the fullest of its "
        "16 fours keeps at most 1, 2 or more; 512 rows' lanes fill the engine 32 at a time."
    )
    return comparison("vegeta", says, found)


def bitwave(rows: int = 1024, cols: int = 2048) -> Comparison:
    rng = np.random.default_rng(SEED)
    weights = rng.integers(0, 128, (rows, cols)) * rng.choice([-1, 1], (rows, cols))
    found = []
    for density in (0.05, 0.2, 0.5, 1.0):
        mask = random_mask(rows, cols, density, seed_of(density))
        columns = np.arange(8)
        group = sum(binom.pmf(k, 8, density) * binom.pmf(columns, 7, 1 - 0.5**k) for k in range(9))
        step = stats.at_least(stats.largest(np.asarray(group), 32), 1)
        expected, deviation = total(step, rows // 32 * cols // 8)
        model = run("bitwave", (), mask, 16, weight_bits=8, weights=weights).sparse.compute_cycles
        found.append(Expected("steps of 32 groups of 8", share_of(density), expected, model, deviation))
    says = (
        f"Compute cycles of {rows} x {cols} and 16 tokens, magnitudes uniform over 7 bits: of k kept weights a bit "
        "column is empty with probability 2^-k; the slowest of 32 groups counts, at least a cycle."
    )
    return comparison("bitwave", says, found)


ALL: dict[str, Callable[[], Comparison]] = {
    "vitcod-paper": vitcod_paper,
    "vitcod": vitcod,
    "vitcod-attention": attention,
    "sparten": sparten,
    "eie": eie,
    "sigma": sigma,
    "dstc": dstc,
    "highlight": highlight,
    "vegeta": vegeta,
    "bitwave": bitwave,
}
