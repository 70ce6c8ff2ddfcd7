"""Perplexities: what every method and target costs."""

import pandas as pd

from reports.contents import Contents
from reports.section import PAPER, READ, TERMINAL, TEXT, Block, Points, Section, Table, Text
from reports.sections.in_short import qualities
from reports.tables.quality import CELL, EVALUATION, NOT_PRUNED, off_target, predictions_table, quality_csv
from reports.tables.sums import groups
from reports.words.headings import by_name
from reports.words.naming import evaluation_text
from reports.words.present import cell
from workloads.columns.quality import QUALITY_COLUMNS

PREDICTIONS = ("sparsity", "perplexity", "kl_divergence", "top1_agreement")


def perplexity(contents: Contents) -> Section | None:
    if not contents.quality_tables:
        return None
    # In a terminal only where there is nothing else to show.
    only = READ | PAPER | (TERMINAL if contents.rows.empty else frozenset())
    blocks: list[Block] = []
    if sentences := quality_verdict(contents.perplexities):
        blocks.append(Points(sentences))
    blocks += [] if contents.headline.empty else qualities(contents)
    for key, table in contents.quality_tables:
        said = quality_text(key)
        shown = Table(
            table,
            quality_columns(table),
            caption=said,
            label="quality-",
            paper_caption=f"{said}.",
            known=by_name(QUALITY_COLUMNS),
            only=only,
            fold=False,
        )
        blocks += [Text(said, only=TEXT), shown]
    held = predictions_table(contents.quality)
    if not held.empty:
        columns = ["model", "method", "target_name", *PREDICTIONS]
        said = "Predictions beside the dense model's: 0 nats and 100 % are the same model"
        blocks.append(Table(held, columns, said, label="predictions-", paper_caption=f"{said}.",
                            known=by_name(QUALITY_COLUMNS), only=only, fold=False))  # fmt: skip
    return Section("Perplexity", blocks, files={"quality-table.csv": quality_csv(contents.quality_tables)})


def quality_columns(table: pd.DataFrame) -> list[str]:
    """Of a table of `quality_tables`."""
    return ["method", "weight_bits", *(name for name in table.columns if name.endswith(CELL)), "seed_range"]


def quality_text(key: dict) -> str:
    """The caption of a table of `quality_tables`."""
    dense = "" if pd.isna(key["dense_perplexity"]) else f"; dense {cell('perplexity', key['dense_perplexity']).text}"
    return f"{key['model']}: perplexity (lower is better) on {evaluation_text(key)}{dense}"


def quality_verdict(perplexities: pd.DataFrame) -> list[str]:
    """Where the lowest perplexity of each target is, and which masks missed their target."""
    lines = []
    for key, same in groups(perplexities, [*EVALUATION, "dense_perplexity"]):
        best = []
        for target, cells in groups(same[same["target_name"] != NOT_PRUNED], ["target_name"]):
            cells = cells[cells["perplexity"].notna()]
            if len(cells) > 1:
                low = cells.loc[cells["perplexity"].idxmin()]
                best.append(f"{target['target_name']} {low['method']} {cell('perplexity', low['perplexity']).text}")
        if best:
            lines.append(f"{key['model']}: lowest perplexity at " + ", at ".join(best) + ".")
    for _, line in off_target(perplexities).iterrows():
        reached = cell("sparsity", line["sparsity"]).text
        lines.append(f"{line['model']}: {line['method']} at {line['target_name']} reached a sparsity of {reached} %.")
    return lines
