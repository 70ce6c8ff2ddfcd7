"""How a value is printed for a person: one heading and one kind for each column of the tables.

A column "X@name" is the column `name` of X, a method or a target, and stands below X where headings have two rows. A column
"name_spread" beside "name" is printed behind it: 1.59x ± 0.02.

Rounding never changes the verdict: 0.9996 is not printed as 1.00x, nor a sparsity of 99.98 % as 100.0. What is
slower than dense, or takes more energy, says so in words, because colour does not survive a printer or a colour-blind reader.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from reports.words.settings import settings_text
from reports.words.units import unit_of
from workloads.verdicts import UNCLEAR

MISSING = "\N{EN DASH}"
NO_BASELINE = "baseline does not fit"
Kind = Literal[
    "text", "settings", "count", "cycles", "speedup", "energy_ratio", "edp_ratio", "ratio", "share", "perplexity", "number",
    "quantity", "error", "yes",
]  # fmt: skip
WORSE = {"speedup": "slower", "energy_ratio": "more energy", "edp_ratio": "higher EDP"}  # what a ratio below 1 means


@dataclass(frozen=True)
class Heading:
    text: str
    kind: Kind
    meaning: str = ""
    group: str = ""

    @property
    def flat(self) -> str:
        """The heading where there is one row of headings."""
        return f"{self.group} {self.text}".strip()

    @property
    def numeric(self) -> bool:
        return self.kind not in ("text", "settings", "yes")


_PUBLISHED = "dense cycles as the publication's own program prints them / cycles; what the publication would claim"
_SEEDS = "runs that differ in their seed alone; ± is the sample standard deviation over them"
_COMPUTE = "the speedup if neither memory nor buffers made the array wait"
_PREDICTED = "nine of ten predictions are off by at most this share, on shapes outside the fit"
_OFF = "predicted / given - 1: above 0 the prediction is too high"
_ENERGY = "dense energy / energy on the same target with the same tokens; sums over the same layers"
_EDP = "dense (energy x latency) / (energy x latency), both of the whole: energy ratio x speedup"

HEADINGS = {
    "model": Heading("Model", "text"),
    "method": Heading("Method", "text"),
    "pattern": Heading("Pattern", "text"),
    "target": Heading("Target", "text"),
    "target_paper": Heading("Paper-level target", "text"),
    "target_cycle": Heading("Cycle-level target", "text"),
    "settings": Heading("Settings", "settings", "what is set differently from the target's preset"),
    "settings_paper": Heading("Its settings", "settings"),
    "settings_cycle": Heading("Its settings", "settings"),
    "activation_density": Heading("Nonzero activations (%)", "share", "assumed, not measured"),
    "level": Heading("Level", "text"),
    "source": Heading("Source", "text"),
    "tokens": Heading("Tokens", "count", "tokens that pass through a layer together (m of the GEMM)"),
    "block": Heading("Block", "count"),
    "role": Heading("Role", "text"),
    "layer": Heading("Layer", "text"),
    "layers": Heading("Layers counted", "count", "layers whose times are in the sums"),
    "shapes": Heading("Shape (out x in)", "text"),
    "infeasible_layers": Heading("Layers left out", "count", "layers the target cannot run; they are in no sum"),
    "extrapolated_layers": Heading(
        "Layers extrapolated", "count", "layers whose predicted times lie outside the data that predictions rest on"
    ),
    "extrapolated": Heading("Extrapolated", "text", "what lies outside the data that the prediction rests on"),
    "verdict": Heading("Against dense", "text", "not distinguishable: the band of the speedup's error holds 1.0"),
    "no_baseline_layers": Heading(
        "Layers without baseline", "count", "layers that run masked, while unpruned they do not fit: no speedup"
    ),
    "sparsity": Heading("Sparsity (%)", "share", "zeros / weights"),
    "dense_cycles": Heading("Dense cycles", "cycles"),
    "cycles": Heading("Cycles", "cycles"),
    "ideal_cycles": Heading("Ideal cycles", "cycles", "kept MACs / MAC units"),
    "imbalance_cycles": Heading("Imbalance cycles", "cycles", "lost to uneven lanes, rounding and zeros computed"),
    "stall_cycles": Heading("Stall cycles", "cycles", "the array waits for DRAM or for its buffers"),
    "buffer_stall_cycles": Heading(
        "Of them buffer stalls", "cycles", "the part that on-chip buffers of limited width cause"
    ),
    "folds": Heading("Folds", "count", "times the multipliers are filled with kept weights"),
    "distribution_cycles": Heading("Distribution cycles", "cycles", "the distribution network is busy, over all folds"),
    "mean_dense_cycles": Heading("Dense cycles per layer", "cycles"),
    "mean_cycles": Heading("Cycles per layer", "cycles"),
    "mean_published_dense_cycles": Heading("Published dense cycles per layer", "cycles"),
    "time_share": Heading("Share of time (%)", "share", "of all counted layers of the model"),
    "speedup": Heading("Speedup", "speedup", "dense time / time on the same target with the same tokens"),
    "compute_speedup": Heading("Compute-only speedup", "speedup", _COMPUTE),
    "published_speedup": Heading("Against published baseline", "ratio", _PUBLISHED),
    "stall_share": Heading(
        "Stalled (%)", "share", "share of cycles in which the array waits for DRAM or for its buffers"
    ),
    "buffer_stall_share": Heading(
        "On buffers (%)", "share", "share of cycles in which the array waits for its buffers"
    ),
    "energy_ratio": Heading("Energy ratio", "energy_ratio", _ENERGY),
    "edp_ratio": Heading("EDP ratio", "edp_ratio", _EDP),
    "mac_pj": Heading("MACs", "quantity", "multiply-accumulates of kept weights"),
    "idle_pj": Heading("Idle MAC slots", "quantity", "zeros multiplied, idle lanes, filling and draining"),
    "register_pj": Heading("Registers", "quantity", "operand registers of the MACs"),
    "buffer_pj": Heading("Buffers", "quantity", "on-chip buffers, reads and writes"),
    "dram_pj": Heading("DRAM", "quantity"),
    "energy_pj": Heading("Energy", "quantity", "sum of the five parts; no leakage, control or network"),
    "dense_energy_pj": Heading("Dense energy", "quantity", "of the unpruned layers"),
    "latency_us": Heading("Latency", "quantity", "cycles / clock, or the time of the kernels"),
    "dense_latency_us": Heading("Dense latency", "quantity", "of the unpruned layers on the same target"),
    "mean_latency_us": Heading("Latency per layer", "quantity"),
    "mean_dense_latency_us": Heading("Dense latency per layer", "quantity"),
    "latency_error_p90": Heading("Error of a layer's time, 90 % within (%)", "share", _PREDICTED),
    "kernel": Heading("Kernel", "text", "of the library: sparse24 multiplies 2:4 matrices"),
    "mapping": Heading("How it runs", "text"),
    "layers_alike": Heading("Layers alike", "count", "layers of this role and shape, all with these figures"),
    "edp_pj_us": Heading("EDP", "quantity", "energy-delay product: energy x latency of the whole model"),
    "area_mm2": Heading("Area (mm²)", "quantity", "MACs and buffers; no control, network or PHY"),
    "design": Heading("Design", "count", "the number of the design in the figure"),
    "design_settings": Heading("Settings", "text"),
    "front": Heading(
        "Pareto front of latency and",
        "text",
        "no other design of the method is at least as good in both and better in one",
    ),
    "constant": Heading("Constant", "text"),
    "value": Heading("Value", "number"),
    "unit": Heading("Unit", "text"),
    "node_nm": Heading("Node (nm)", "count", "process node the value holds for; none: it has no node"),
    "constant_source": Heading("Where it is from", "text"),
    "bound_compute_share": Heading("Compute bound (%)", "share", "share of the time in layers bound by compute"),
    "bound_imbalance_share": Heading("Imbalance bound (%)", "share", "share of the time in layers bound by imbalance"),
    "bound_memory_share": Heading("Memory bound (%)", "share", "share of the time in layers bound by DRAM"),
    "bound_buffer_share": Heading("Buffer bound (%)", "share", "share of the time in layers bound by on-chip buffers"),
    "bound_tensor_share": Heading(
        "Tensor core bound (%)", "share", "share of the time in kernels bound by their MAC rate"
    ),
    "bound_dram_share": Heading("DRAM bound (%)", "share", "share of the time in kernels bound by DRAM"),
    "bound_l2_share": Heading("L2 bound (%)", "share", "share of the time in kernels bound by the L2 and latencies"),
    "bound_launch_share": Heading("Launch bound (%)", "share", "share of the time in kernels bound by their launch"),
    "bound_wave_tail_share": Heading(
        "Wave tail bound (%)", "share", "share of the time in kernels whose last wave is short"
    ),
    "slowest_role": Heading("Slowest role", "text", "the role that takes most of the time"),
    "slowest_role_share": Heading("Its share of time (%)", "share"),
    "bound": Heading("Bound by", "text"),
    "utilisation": Heading("Utilisation (%)", "share", "useful MACs / (cycles x MAC units)"),
    "perplexity": Heading("Perplexity", "perplexity", "lower is better"),
    "target_perplexity": Heading("", "perplexity", "lower is better"),
    "dense_perplexity": Heading("Dense perplexity", "perplexity", "the unpruned model on the same text"),
    "paper_dense_cycles": Heading("Paper: dense cycles per layer", "cycles"),
    "paper_cycles": Heading("Paper: cycles per layer", "cycles"),
    "paper_speedup": Heading("Paper: speedup", "speedup"),
    "cycle_dense_cycles": Heading("Cycle: dense cycles per layer", "cycles"),
    "cycle_cycles": Heading("Cycle: cycles per layer", "cycles"),
    "cycle_speedup": Heading("Cycle: speedup", "speedup"),
    "cycle_compute_speedup": Heading("Cycle: compute-only speedup", "speedup", _COMPUTE),
    "cycle_stall_share": Heading("Cycle: stalled (%)", "share"),
    "where": Heading("Layers", "text"),
    "dtype": Heading("Type", "text"),
    "reference": Heading("Held against", "text"),
    "dense_us": Heading("Dense", "quantity", "time of the dense kernel"),
    "sparse24_us": Heading("2:4", "quantity", "time of the 2:4 kernel"),
    "dense_error": Heading("Dense", "error", _OFF),
    "sparse24_error": Heading("2:4", "error", _OFF),
    "speedup_error": Heading("Speedup", "error", _OFF),
    "stated_p90": Heading("2:4 stated (%)", "share", _PREDICTED),
    "at_tokens": Heading("", "speedup", "dense time / time"),
    "crossing": Heading(
        "Passes 1.0 at (tokens)", "text", "interpolated in log tokens between the counts that were run"
    ),
    "published_low": Heading("Published, from", "ratio", "speedup over cuBLAS on the dense matrix"),
    "published_high": Heading("to", "ratio", "speedup over cuBLAS on the dense matrix"),
    "published_source": Heading("Where it is from", "text"),
    "feasible": Heading("Feasible", "yes"),
    "reason": Heading("Reason", "text"),
    "evaluation_text": Heading("Evaluation text", "text"),
    "text": Heading("Evaluation text", "text"),
    "windows": Heading("Windows", "count"),
    "seq_len": Heading("Tokens a window", "count"),
    "seed": Heading("Seed", "count"),
    "seeds": Heading("Seeds", "count", _SEEDS),
    "seed_range": Heading("Seeds", "text", _SEEDS),
    "weight_bits": Heading("Weight bits", "number", "bits of a stored weight; none given: as in the checkpoint"),
}
_KERNEL_BOUND_SHARES = [f"bound_{bound}_share" for bound in ("tensor", "dram", "l2", "launch", "wave_tail")]
# In a column that stands below the name of a method, where room is short.
SHORT = {
    "mean_latency_us": "µs", "mean_dense_latency_us": "µs", "mean_cycles": "cycles", "mean_published_dense_cycles": "published", "sparsity": "sparsity (%)", "speedup": "speedup",
    "published_speedup": "vs published",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """`text` for the eye; `sort` for ordering (None = missing); `worse` marks a ratio below 1: worse than dense."""

    text: str
    sort: float | str | None
    worse: bool = False


def heading(column: str) -> Heading:
    group, _, name = column.rpartition("@")
    found = HEADINGS.get(name, Heading(name.replace("_", " "), "text"))
    if (unit := unit_of(name)) and unit[0] in HEADINGS:
        found = replace(HEADINGS[unit[0]], text=f"{HEADINGS[unit[0]].text} ({unit[1].text})")
    return replace(found, group=group, text=SHORT.get(name, found.text)) if group else found


def cell(column: str, value: Any, spread: float | None = None) -> Cell:
    """The value as this column prints it, with its spread where there is one."""
    kind = heading(column).kind
    if pd.isna(value) or value == "":
        return Cell(MISSING, None)
    if kind == "text":
        return Cell(str(value), str(value))
    if kind == "settings":
        return Cell(settings_text(str(value)), str(value))
    if kind == "yes":
        return Cell("yes" if value else "no", "yes" if value else "no")
    number = float(value)
    text = _PRINTERS[kind](number)
    if spread is not None and not pd.isna(spread):
        text = with_spread(text, kind, float(spread))
    worse = kind in WORSE and number < 1
    return Cell(text + (f" ({WORSE[kind]})" if worse else ""), number, worse)


def cells(table: pd.DataFrame, columns: Iterable[str]) -> Iterator[list[Cell]]:
    """Line by line, the cells of the chosen columns."""
    columns = list(columns)
    spreads = [table.get(f"{column}_spread", pd.Series(None, table.index, dtype=object)) for column in columns]
    words = [_words(table, column) for column in columns]
    lines = zip(*(table[column] for column in columns), *spreads, strict=True)
    for said, values in zip(zip(*words, strict=True), lines, strict=True):
        pairs = zip(values[: len(columns)], values[len(columns) :], strict=True)
        line = [cell(column, *pair) for column, pair in zip(columns, pairs, strict=True)]
        yield [
            _worded(made, value, word) if word else made for made, value, word in zip(line, values, said, strict=False)
        ]


def _words(table: pd.DataFrame, column: str) -> list[str]:
    """What is said of each line's speedup in place of slower or faster; "" where the number speaks for itself. A speedup of a part of
    the line, NAME, has its verdict in NAME_verdict."""
    if column != "speedup":
        verdicts = table.get(f"{column}_verdict", pd.Series("", table.index))
        return [UNCLEAR if said == UNCLEAR else "" for said in verdicts]
    empty = pd.Series("", table.index)
    unclear = table.get("verdict", empty) == UNCLEAR
    if "no_baseline_layers" in table:
        bare = table["no_baseline_layers"].fillna(0) > 0
    else:
        bare = table.get("feasible", empty).eq(True) & (table.get("reason", empty).fillna("") != "")
    bare &= table["speedup"].isna()
    return [NO_BASELINE if out else UNCLEAR if blurred else "" for out, blurred in zip(bare, unclear, strict=True)]


def _worded(made: Cell, value: Any, word: str) -> Cell:
    if word == NO_BASELINE:
        return Cell(NO_BASELINE, None)
    return Cell(f"{times_text(float(value))} ({word})", made.sort) if made.sort is not None else made


def filled(table: pd.DataFrame, columns: Iterable[str]) -> list[str]:
    """Of these columns, the ones in which at least one line has a value; a count of left-out layers and what only
    some machines wait for must exceed 0, a count of seeds 1, and activations must not all be dense."""
    nothing: dict[str, tuple] = {"infeasible_layers": (None, 0), "seeds": (None, 1), "seed_range": (None, "1")}
    nothing |= {"no_baseline_layers": (None, 0), "extrapolated_layers": (None, 0), "activation_density": (None, 1)}
    zero = ("bound_buffer_share", "buffer_stall_share", "buffer_stall_cycles", *_KERNEL_BOUND_SHARES)
    nothing |= dict.fromkeys(zero, (None, 0))
    return [
        c
        for c in columns
        if c in table and any(cell(c, v).sort not in nothing.get(c, (None,)) for v in table[c].unique())
    ]


def spans(heads: Iterable[Heading]) -> list[tuple[str, int]]:
    """(group, columns it spans) from left to right; [] when no group has two columns, and one row of headings does."""
    merged: list[tuple[str, int]] = []
    for head in heads:
        if merged and head.group and merged[-1][0] == head.group:
            merged[-1] = head.group, merged[-1][1] + 1
        else:
            merged.append((head.group, 1))
    return merged if any(width > 1 for _, width in merged) else []


def with_spread(text: str, kind: Kind, spread: float) -> str:
    """The printed value with its spread; one too small to be seen is not printed as 0."""
    least = 0.1 if kind == "cycles" else 0.01
    said = _PRINTERS[kind](spread) if kind in ("cycles", "perplexity") else f"{spread:.2f}"
    if spread == 0:
        said = "0"
    elif spread < least / 2:
        said = f"<{least}"
    return f"{text} ± {said}"


def speedup_text(value: float) -> str:
    """1.24x, 12.3x, 0.87x (slower)."""
    return times_text(value) + (" (slower)" if value < 1 else "")


def times_text(value: float) -> str:
    """1.24x, 12.3x, 0.87x: three digits, never rounded onto or past 1."""
    if value >= 100:
        return f"{value:,.0f}x"
    decimals = 1 if value >= 10 else 2
    if value < 1:
        decimals = 2 if value >= 0.1 else 3
        while decimals < 9 and float(f"{value:.{decimals}f}") in (0.0, 1.0) and value > 0:
            decimals += 1
    return f"{value:.{decimals}f}x"


def _share(value: float) -> str:
    """A share 0..1 as percent without the sign (the heading has it); 0.0 and 100.0 only when exact."""
    decimals = 1
    while decimals < 6 and float(f"{100 * value:.{decimals}f}") in (0.0, 100.0) and value not in (0.0, 1.0):
        decimals += 1
    return f"{100 * value:.{decimals}f}"


def _cycles(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:,.1f}"


def quantity_text(value: float) -> str:
    """Three digits: 1,234, 12.3, 0.0123; 1.2e-05 where that would be mostly zeros."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    size = math.floor(math.log10(abs(value)))
    return f"{value:.1e}" if size < -4 else f"{value:,.{max(0, 2 - size)}f}"


def _perplexity(value: float) -> str:
    return f"{value:,.2f}" if value < 1e5 else f"{value:.2e}"


_PRINTERS = {
    "count": lambda value: f"{value:.0f}",
    "cycles": _cycles,
    "speedup": times_text,
    "energy_ratio": times_text,
    "edp_ratio": times_text,
    "ratio": times_text,  # below 1 it is no slowdown: not two times of one machine
    "share": _share,
    "perplexity": _perplexity,
    "number": lambda value: f"{value:g}",
    "quantity": quantity_text,
    "error": lambda value: f"{100 * value:+.1f}",
}
