"""A report as Markdown, and its tables as LaTeX."""

from collections.abc import Iterable

import pandas as pd

from reports import columns, explain
from reports.contents import Contents
from reports.limits import MOST_TABLES, more_tables
from reports.render.export import latex_table, markdown_escape, markdown_table, one_line
from reports.tables.by_tokens import table_columns
from reports.tables.compare import compare_columns, perplexity_line
from reports.tables.gemms import error_sentences
from reports.tables.sums import CONFIG, KERNEL, groups
from reports.words import statements
from reports.words.settings import beside_type
from reports.words.units import in_units, with_time_unit

MOST_DESIGNS = 40  # lines of a sweep that are still read in plain text


def latex_report(contents: Contents) -> str:
    """For \\input: headline table per model, designs on a Pareto front, energies, methods side by side, the table per role for
    each configuration; perplexities. The first of each kind where there are many: the .csv files have all."""
    parts = [f"% {one_line(contents.title)}", r"% Needs \usepackage{booktabs} and \usepackage{adjustbox}.", ""]
    for number, (key, lines) in enumerate(by(contents.headline, ["model"]), start=1):
        caption = (
            f"{key['model']}: whole model. Speedup is the sum of dense times over the sum of times on the same target."
        )
        table, names = with_time_unit(lines)
        shown = named(columns.LATEX_HEADLINE_COLUMNS, names)
        parts.append(latex_table(table, shown, caption, f"headline-{number}"))
    if not contents.sources.empty:
        caption = " ".join(["The same GEMM by each source.", *error_sentences(contents.sources)])
        parts.append(latex_table(contents.sources, columns.COMPARED_SOURCES_COLUMNS, caption, "sources"))
    for number, (key, table) in enumerate(contents.by_tokens[:MOST_TABLES], start=1):
        caption = f"{explain.masks_text(key)}: dense time / time by tokens."
        parts.append(latex_table(table, table_columns(table), caption, f"tokens-{number}"))
    for number, (key, table) in enumerate(contents.designs[:MOST_TABLES], start=1):
        front, names = in_units(table[table["front"] != ""])
        caption = f"{explain.config_text(key)}: designs on a Pareto front, of {table['settings'].nunique():,} that were tried."
        parts.append(latex_table(front, named(columns.DESIGN_COLUMNS, names), caption, f"designs-{number}"))
    for number, (key, lines) in enumerate(by(contents.energy, ["model"]), start=1):
        table, names = in_units(lines)
        caption = f"{key['model']}: {explain.ENERGY_CAPTION}. {statements.NOT_IN_ENERGY}"
        shown = [name for name in named(columns.ENERGY_COLUMNS, names) if name != "model"]
        parts.append(latex_table(table, shown, caption, f"energy-{number}"))
    for number, (key, table) in enumerate(contents.compared[:MOST_TABLES], start=1):
        shown = compare_columns(table)
        below = perplexity_line(table, shown)
        parts.append(latex_table(table, shown, explain.compared_text(key) + ".", f"compared-{number}", below))
    for number, (key, lines) in enumerate(by(contents.roles, CONFIG)[:MOST_TABLES], start=1):
        if lines["latency_us"].notna().any() or lines["cycles"].notna().any():
            table, shown, what = role_lines(key, lines)
            caption = f"{explain.config_text(key)}: mean {what} per layer of each role."
            parts.append(latex_table(table, shown, caption, f"roles-{number}"))
    for number, (key, table) in enumerate(contents.quality_tables, start=1):
        caption = explain.quality_text(key) + "."
        parts.append(latex_table(table, columns.quality_columns(table), caption, f"quality-{number}"))
    return "\n".join(parts)


def markdown_list(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(f"- **{markdown_escape(name)}**: {markdown_escape(value)}\n" for name, value in pairs)


def markdown_lines(lines: Iterable[str]) -> str:
    return "".join(f"- {markdown_escape(line)}\n" for line in lines)


def markdown_report(contents: Contents, pictures: Iterable[tuple[str, str]]) -> str:
    """The whole report but the per-layer rows. `pictures`: (what it shows, path relative to the report)."""
    parts = [f"# {markdown_escape(contents.title)}\n", markdown_list(explain.what_was_run(contents))]
    if not contents.headline.empty:
        parts += ["## Whole model\n", markdown_lines(line for line, _ in explain.verdict(contents.headline))]
        parts.append(markdown_table(*headline_lines(contents.headline)))
    parts += markdown_gpus(contents)
    parts += markdown_designs(contents)
    if not contents.energy.empty:
        table, names = in_units(contents.energy)
        parts += ["## Energy per configuration\n", f"{explain.ENERGY_CAPTION}. {statements.NOT_IN_ENERGY}\n"]
        parts.append(markdown_table(table, named(columns.ENERGY_COLUMNS, names)))
    if contents.quality_tables:
        parts += ["## Perplexity\n", markdown_lines(explain.quality_verdict(contents.perplexities))]
        for key, table in contents.quality_tables:
            parts += [
                markdown_escape(explain.quality_text(key)) + "\n",
                markdown_table(table, columns.quality_columns(table)),
            ]
    if contents.compared:
        parts.append("## Methods side by side\n")
        for key, table in contents.compared[:MOST_TABLES]:
            shown = compare_columns(table)
            parts.append(f"### {markdown_escape(explain.compared_text(key))}\n")
            parts.append(markdown_table(table, shown, perplexity_line(table, shown)))
        parts += _more(contents.compared, "compared.csv")
    parts += [
        "## How these numbers were got\n",
        markdown_list(explain.how_got(contents)) + markdown_lines(contents.notes),
    ]
    if not contents.infeasible.empty:
        table = markdown_table(contents.infeasible, columns.INFEASIBLE_COLUMNS)
        parts += ["## What cannot run\n", markdown_escape(explain.coverage(contents.plain)) + "\n", table]
    if not contents.roles.empty:
        parts.append("## Per role\n")
        configurations = by(contents.roles, CONFIG)
        for key, lines in configurations[:MOST_TABLES]:
            table, shown, what = role_lines(key, lines)
            heading = f"### {markdown_escape(explain.config_text(key))}: mean {what} per layer\n"
            parts += [heading, markdown_table(table, shown)]
        parts += _more(configurations, "roles.csv")
    if not contents.levels.empty:
        parts += ["## The two levels side by side\n", statements.WHY_LEVELS_DIFFER + "\n"]
        parts.append(markdown_table(contents.levels, columns.LEVELS_COLUMNS))
    parts += [f"![{markdown_escape(text)}]({path})\n" for text, path in pictures]
    if not contents.constants.empty:
        parts += ["## Constants of energy and area\n", markdown_table(contents.constants, columns.CONSTANT_COLUMNS)]
    parts += ["## Provenance\n", markdown_list(explain.provenance(contents))]
    return "\n".join(parts)


def _more(tables: list, file: str) -> list[str]:
    said = more_tables(len(tables) - MOST_TABLES, file) if len(tables) > MOST_TABLES else ""
    return [f"{said}\n"] if said else []


def headline_lines(lines: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """(table, its columns) of what `headline_table` gives; a GPU's type has a column and is not told again in its settings."""
    table, names = with_time_unit(lines.assign(settings=lines["settings"].map(beside_type)))
    return table, named(columns.HEADLINE_COLUMNS, names)


def role_lines(key: dict, lines: pd.DataFrame) -> tuple[pd.DataFrame, list[str], str]:
    """(table, its columns, what they are means of) for the lines of one configuration of `role_table`."""
    if key["level"] != KERNEL:
        return lines, columns.ROLE_COLUMNS, "cycles"
    table, names = with_time_unit(lines)
    return table, [name for name in named(columns.KERNEL_ROLE_COLUMNS, names) if name != "tokens"], "time"


def markdown_gpus(contents: Contents) -> list[str]:
    """Sources side by side, speedup by tokens, what is published of unstructured masks."""
    parts = []
    if not contents.sources.empty:
        said = [*error_sentences(contents.sources), *filter(None, [explain.ratios_alone(contents)])]
        parts += ["## Predicted, measured, published\n", statements.HOW_SOURCES + "\n", markdown_lines(said)]
        parts.append(markdown_table(contents.sources, columns.COMPARED_SOURCES_COLUMNS))
    if contents.by_tokens:
        parts += ["## Speedup against tokens\n", statements.HOW_BY_TOKENS + "\n"]
        for key, table in contents.by_tokens[:MOST_TABLES]:
            parts.append(f"### {markdown_escape(explain.masks_text(key))}\n")
            parts.append(markdown_table(table, table_columns(table)))
    if not contents.spmm.empty:
        parts += ["## Unstructured masks on GPUs\n", statements.HOW_SPMM + "\n"]
        parts.append(markdown_table(contents.spmm, columns.SPMM_COLUMNS))
    return parts


def markdown_designs(contents: Contents) -> list[str]:
    parts = ["## Designs\n"] if contents.designs else []
    for key, table in contents.designs[:MOST_TABLES]:
        shown, names = in_units(table.head(MOST_DESIGNS))
        said, _ = explain.designs_verdict(table)
        parts += [f"### {markdown_escape(explain.config_text(key))}\n", markdown_escape(said) + ".\n"]
        parts.append(markdown_table(shown, named(columns.DESIGN_COLUMNS, names)))
        if len(table) > len(shown):
            parts.append(f"The first {len(shown):,} of {len(table):,} lines; designs.csv has all.\n")
    return parts


def named(shown: Iterable[str], names: dict[str, str]) -> list[str]:
    """Columns under their new names, as `in_units` gives them."""
    return [names.get(column, column) for column in shown]


def by(table: pd.DataFrame, keys: list[str]) -> list[tuple[dict, pd.DataFrame]]:
    """As `groups`; none of an empty table."""
    return [] if table.empty else list(groups(table, keys))
