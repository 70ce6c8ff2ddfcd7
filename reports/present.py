"""How a value is printed for a person: one heading and one kind for each column of the tables.

A column "X@name" is the column `name` of X, a method or a target, and stands below X where headings have two rows. A column
"name_spread" beside "name" is printed behind it: 1.59x ± 0.02.

Rounding never changes the verdict: 0.9996 is not printed as 1.00x, nor a sparsity of 99.98 % as 100.0. What is
slower than dense says so in words, because colour does not survive a printer or a colour-blind reader.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

MISSING = "\N{EN DASH}"
Kind = Literal["text", "count", "cycles", "speedup", "ratio", "share", "perplexity", "number", "yes"]


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
        return self.kind not in ("text", "yes")


_PUBLISHED = "dense cycles as the publication's own program prints them / cycles; what the publication would claim"
_SEEDS = "runs that differ in their seed alone; ± is the sample standard deviation over them"
_COMPUTE = "the speedup if memory never made the array wait"

HEADINGS = {
    "model": Heading("Model", "text"),
    "method": Heading("Method", "text"),
    "pattern": Heading("Pattern", "text"),
    "target": Heading("Target", "text"),
    "target_paper": Heading("Paper-level target", "text"),
    "target_cycle": Heading("Cycle-level target", "text"),
    "level": Heading("Level", "text"),
    "source": Heading("Source", "text"),
    "tokens": Heading("Tokens", "count", "tokens that pass through a layer together (m of the GEMM)"),
    "block": Heading("Block", "count"),
    "role": Heading("Role", "text"),
    "layer": Heading("Layer", "text"),
    "layers": Heading("Layers counted", "count", "layers whose cycles are in the sums"),
    "shapes": Heading("Shape (out x in)", "text"),
    "infeasible_layers": Heading("Layers left out", "count", "layers the target cannot run; they are in no sum"),
    "sparsity": Heading("Sparsity (%)", "share", "zeros / weights"),
    "dense_cycles": Heading("Dense cycles", "cycles"),
    "cycles": Heading("Cycles", "cycles"),
    "ideal_cycles": Heading("Ideal cycles", "cycles", "kept MACs / MAC units"),
    "imbalance_cycles": Heading("Imbalance cycles", "cycles", "lost to uneven lanes, rounding and zeros computed"),
    "stall_cycles": Heading("Stall cycles", "cycles", "the array waits for memory"),
    "mean_dense_cycles": Heading("Dense cycles per layer", "cycles"),
    "mean_cycles": Heading("Cycles per layer", "cycles"),
    "mean_published_dense_cycles": Heading("Published dense cycles per layer", "cycles"),
    "cycles_share": Heading("Share of cycles (%)", "share", "of all cycles of the model"),
    "speedup": Heading("Speedup", "speedup", "dense cycles / cycles on the same target with the same tokens"),
    "compute_speedup": Heading("Compute-only speedup", "speedup", _COMPUTE),
    "published_speedup": Heading("Against published baseline", "ratio", _PUBLISHED),
    "stall_share": Heading("Stalled (%)", "share", "share of cycles in which the array waits for memory"),
    "bound_compute_share": Heading("Compute bound (%)", "share", "share of cycles in layers bound by compute"),
    "bound_imbalance_share": Heading("Imbalance bound (%)", "share", "share of cycles in layers bound by imbalance"),
    "bound_memory_share": Heading("Memory bound (%)", "share", "share of cycles in layers bound by memory"),
    "slowest_role": Heading("Slowest role", "text", "the role that takes most of the cycles"),
    "slowest_role_share": Heading("Its share of cycles (%)", "share"),
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
# In a column that stands below the name of a method, where room is short.
SHORT = {
    "mean_cycles": "cycles", "mean_published_dense_cycles": "published", "sparsity": "sparsity (%)", "speedup": "speedup",
    "published_speedup": "vs published",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """`text` for the eye; `sort` for ordering (None = missing); `slower` marks a speedup below 1."""

    text: str
    sort: float | str | None
    slower: bool = False


def heading(column: str) -> Heading:
    group, _, name = column.rpartition("@")
    found = HEADINGS.get(name, Heading(name.replace("_", " "), "text"))
    return replace(found, group=group, text=SHORT.get(name, found.text)) if group else found


def cell(column: str, value: Any, spread: float | None = None) -> Cell:
    """The value as this column prints it, with its spread where there is one."""
    kind = heading(column).kind
    if pd.isna(value) or value == "":
        return Cell(MISSING, None)
    if kind == "text":
        return Cell(str(value), str(value))
    if kind == "yes":
        return Cell("yes" if value else "no", "yes" if value else "no")
    number = float(value)
    text = _PRINTERS[kind](number)
    if spread is not None and not pd.isna(spread):
        text = with_spread(text, kind, float(spread))
    return Cell(text, number, slower=kind == "speedup" and number < 1)


def cells(table: pd.DataFrame, columns: Iterable[str]) -> Iterator[list[Cell]]:
    """Line by line, the cells of the chosen columns."""
    columns = list(columns)
    spreads = [table.get(f"{column}_spread", pd.Series(None, table.index, dtype=object)) for column in columns]
    for values in zip(*(table[column] for column in columns), *spreads, strict=True):
        pairs = zip(values[: len(columns)], values[len(columns) :], strict=True)
        yield [cell(column, *pair) for column, pair in zip(columns, pairs, strict=True)]


def filled(table: pd.DataFrame, columns: Iterable[str]) -> list[str]:
    """Of these columns, the ones in which at least one line has a value; a count of left-out layers must exceed 0, one of
    seeds 1."""
    nothing = {"infeasible_layers": (None, 0), "seeds": (None, 1), "seed_range": (None, "1")}
    return [c for c in columns if c in table and any(cell(c, v).sort not in nothing.get(c, (None,)) for v in table[c])]


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
    number, slower, _ = text.partition(" (slower)")
    return f"{number} ± {said}{slower}"


def speedup_text(value: float) -> str:
    """1.24x, 12.3x, 0.87x (slower): three digits, never rounded onto or past 1."""
    if value >= 100:
        return f"{value:,.0f}x"
    decimals = 1 if value >= 10 else 2
    if value < 1:
        decimals = 2 if value >= 0.1 else 3
        while decimals < 9 and float(f"{value:.{decimals}f}") in (0.0, 1.0) and value > 0:
            decimals += 1
    return f"{value:.{decimals}f}x" + (" (slower)" if value < 1 else "")


def _share(value: float) -> str:
    """A share 0..1 as percent without the sign (the heading has it); 0.0 and 100.0 only when exact."""
    decimals = 1
    while decimals < 6 and float(f"{100 * value:.{decimals}f}") in (0.0, 100.0) and value not in (0.0, 1.0):
        decimals += 1
    return f"{100 * value:.{decimals}f}"


def _cycles(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:,.1f}"


def _perplexity(value: float) -> str:
    return f"{value:,.2f}" if value < 1e5 else f"{value:.2e}"


_PRINTERS = {
    "count": lambda value: f"{value:.0f}",
    "cycles": _cycles,
    "speedup": speedup_text,
    "ratio": lambda value: speedup_text(value).removesuffix(" (slower)"),  # not two times of one machine
    "share": _share,
    "perplexity": _perplexity,
    "number": lambda value: f"{value:g}",
}
