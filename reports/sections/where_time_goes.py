"""Where the time of every configuration goes: from the ideal speedup to the real one, per role, by block."""

import pandas as pd

from reports.charts.block_map import chart_blocks, map_chart, spoken_blocks
from reports.charts.parts import chart_parts, parts_chart, spoken_parts
from reports.charts.waterfall import chart_steps, spoken_steps, waterfall_chart
from reports.contents import Contents
from reports.figures import bars, layers
from reports.figures.waterfall import waterfall_figure
from reports.section import Section
from reports.sections.configurations import Kind
from reports.tables.blocks import block_table
from reports.tables.parts import alike, part_table
from reports.tables.sums import groups
from reports.tables.waterfall import waterfall_table
from reports.words import statements
from reports.words.present import cell, times_text


def ideal_to_real(contents: Contents) -> Section | None:
    blocks = WATERFALL.blocks(contents.with_cycles)
    return Section("From ideal to real", blocks, statements.HOW_WATERFALL) if blocks else None


def per_role(contents: Contents) -> Section | None:
    blocks = CYCLES.blocks(contents.with_cycles)
    return Section("Where the cycles go, per role", blocks) if blocks else None


def by_block(contents: Contents) -> Section | None:
    blocks = MAP.blocks(contents.with_cycles)
    return Section("Speedup by block and role", blocks) if blocks else None


def alike_parts(lines: pd.DataFrame) -> str:
    """Where every role of every run gains the same: that, and what the bars would be made of."""
    ends = lines[lines["last"] & lines["ratio"].notna()]
    if not alike(ends["ratio"]):
        return ""
    masked = lines[lines["ratio"].notna()]
    by_part = masked.groupby("part", sort=False)["amount"].sum() / masked["amount"].sum()
    said = [f"{name} {cell('time_share', share).text} %" for name, share in by_part.items()]
    return f"every role gains {about(ends['ratio'])} with every run, made of {', '.join(said)}."


def _alike_blocks(lines: pd.DataFrame) -> str:
    """Where every block and role of every run gains the same, or there is one block alone."""
    if lines["block"].nunique() < 2:
        return "one block alone; the bars per role say it."
    if not alike(lines["speedup"]):
        return ""
    runs = [f"{key['run']} {about(part['speedup'])}" for key, part in groups(lines, ["run"])]
    return f"every block and role gains the same: {', '.join(runs)}."


def about(speedups: pd.Series) -> str:
    low, high = times_text(speedups.min()), times_text(speedups.max())
    return low if low == high else f"{low} to {high}"


WATERFALL = Kind(
    "waterfall",
    "From the ideal speedup to the real one",
    lambda rows: chart_steps(waterfall_table(rows)),
    waterfall_chart,
    spoken_steps,
    waterfall_figure,
)
CYCLES = Kind(
    "cycles",
    "Where the cycles go, per role",
    lambda rows: chart_parts(part_table(rows)),
    parts_chart,
    spoken_parts,
    bars.bars_figure,
    alike_parts,
)
MAP = Kind(
    "speedup-map",
    "Speedup by block and role",
    lambda rows: chart_blocks(block_table(rows)),
    map_chart,
    spoken_blocks,
    layers.heatmap_figure,
    _alike_blocks,
)
