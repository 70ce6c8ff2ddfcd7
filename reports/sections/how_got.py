"""What kind of numbers these are, what they leave out."""

import pandas as pd

from reports.contents import Contents
from reports.section import PAGE, Block, Heading, Pairs, Points, Section
from reports.tables.sums import KERNEL
from reports.words import statements
from reports.words.naming import few, listing
from reports.words.serving import HOW_COUNTED


def how_got(contents: Contents) -> Section:
    blocks: list[Block] = [Pairs(_facts(contents))]
    if contents.notes:
        blocks += [Heading("Approximations and notes", only=PAGE), Points(contents.notes)]
    return Section("How these numbers were got", blocks)


def _facts(contents: Contents) -> list[tuple[str, str]]:
    """(name, value) lines that say what kind of numbers these are."""
    rows = contents.rows
    lines = []
    if not rows.empty:
        lines = [("Speedup", statements.HOW_SUMMED), *_machines(rows)]
        if (rows["activation_density"] < 1).any():
            lines.append(("Activation density", statements.HOW_ACTIVATIONS))
        if rows["energy_pj"].notna().any():
            lines.append(("Energy", statements.HOW_ENERGY))
            if contents.energy.empty:  # else it stands below their table
                lines.append(("Not in energy", statements.NOT_IN_ENERGY))
            lines += [("EDP", statements.HOW_EDP), ("Area", statements.HOW_AREA)]
    if not rows.empty and rows["latency_error_p90"].notna().any():
        lines.append(("Predicted times", statements.HOW_PREDICTED))
    if contents.designs:
        lines.append(("Designs", statements.HOW_PARETO))
    if not contents.timelines.empty:
        lines.append(("Utilisation over time", statements.HOW_TIMELINE))
    if not contents.perplexities.empty:
        lines.append(("Perplexity", statements.HOW_EVALUATED))
    if not contents.serving.empty:
        lines.append(("Whole models", HOW_COUNTED))
    seeds = {seed for frame in (rows, contents.quality) if not frame.empty for seed in frame["seed"].dropna()}
    if len(seeds) > 1:
        lines.append(("Seeds", statements.HOW_SEEDS))
    return lines


def _machines(rows: pd.DataFrame) -> list[tuple[str, str]]:
    lines = []
    for level in dict.fromkeys(rows["level"]):
        targets = listing(rows.loc[rows["level"] == level, "target"])
        lines.append(
            (f"Level {level or '(none)'}", f"{targets}: {statements.LEVELS.get(level, 'level not described')}")
        )
    for source in dict.fromkeys(rows["source"]):
        targets = listing(rows.loc[rows["source"] == source, "target"])
        lines.append(
            (f"Source {source or '(none)'}", f"{targets}: {statements.SOURCES.get(source, 'source not described')}")
        )
    own = rows[rows["level"] != KERNEL]  # a GPU's clock differs from kernel to kernel
    timed = own[["target", "clock_mhz"]].drop_duplicates()
    kept = rows[["target", "weight_bits"]].drop_duplicates()
    clocks = [f"{t}: {c:g} MHz" for t, c in zip(timed["target"], timed["clock_mhz"], strict=True) if not pd.isna(c)]
    bits = [f"{t}: {b} bits" for t, b in zip(kept["target"], kept["weight_bits"], strict=True) if not pd.isna(b)]
    clock, stored = few(clocks, "clocks"), few(bits, "widths")
    if len(own) < len(rows):
        clock = "; ".join(part for part in (clock, "GPUs: what each kernel reaches within the power limit") if part)
    lines += [("Clock", clock or "not given")]
    if stored or len(own):
        lines += [("Weights stored in", stored or "not given")]
    return [*lines, ("Tokens", "tokens that pass through a layer together; 1 is one decode step of one sequence")]
