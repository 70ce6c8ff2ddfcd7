"""How a value is printed for a person: one heading and one kind for each column of the tables.

Rounding never changes the verdict: 0.9996 is not printed as 1.00x, nor a sparsity of 99.98 % as 100.0. What is
slower than dense says so in words, because colour does not survive a printer or a colour-blind reader.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

MISSING = "\N{EN DASH}"
Kind = Literal["text", "count", "cycles", "speedup", "ratio", "share", "perplexity", "number", "yes"]


@dataclass(frozen=True)
class Heading:
    text: str
    kind: Kind
    meaning: str = ""

    @property
    def numeric(self) -> bool:
        return self.kind not in ("text", "yes")


_PUBLISHED = "dense cycles as the publication's own program prints them / cycles; what the publication would claim"
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
}


@dataclass(frozen=True)
class Cell:
    """`text` for the eye; `sort` for ordering (None = missing); `slower` marks a speedup below 1."""

    text: str
    sort: float | str | None
    slower: bool = False


def heading(column: str) -> Heading:
    return HEADINGS.get(column, Heading(column.replace("_", " "), "text"))


def cell(column: str, value: Any) -> Cell:
    """The value as this column prints it."""
    kind = heading(column).kind
    if pd.isna(value) or value == "":
        return Cell(MISSING, None)
    if kind == "text":
        return Cell(str(value), str(value))
    if kind == "yes":
        return Cell("yes" if value else "no", "yes" if value else "no")
    number = float(value)
    return Cell(_PRINTERS[kind](number), number, slower=kind == "speedup" and number < 1)


def cells(table: pd.DataFrame, columns: Iterable[str]) -> Iterator[list[Cell]]:
    """Line by line, the cells of the chosen columns."""
    columns = list(columns)
    for values in zip(*(table[column] for column in columns), strict=True):
        yield [cell(column, value) for column, value in zip(columns, values, strict=True)]


def filled(table: pd.DataFrame, columns: Iterable[str]) -> list[str]:
    """Of these columns, the ones in which at least one line has a value; a count of left-out layers must exceed 0."""
    nothing = {"infeasible_layers": (None, 0)}
    return [c for c in columns if c in table and any(cell(c, v).sort not in nothing.get(c, (None,)) for v in table[c])]


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
