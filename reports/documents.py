"""A report as Markdown, and its tables as LaTeX."""

from collections.abc import Iterable

import pandas as pd

from reports import columns, explain
from reports.compare import compare_columns, perplexity_line
from reports.contents import Contents
from reports.export import latex_table, markdown_escape, markdown_table, one_line
from reports.sums import CONFIG, groups


def latex_report(contents: Contents) -> str:
    """For \\input: headline table per model, methods side by side, the table per role for each model, target and tokens;
    perplexities."""
    parts = [f"% {one_line(contents.title)}", r"% Needs \usepackage{booktabs} and \usepackage{adjustbox}.", ""]
    for number, (key, lines) in enumerate(by(contents.headline, ["model"]), start=1):
        caption = f"{key['model']}: whole model. Speedup is the sum of dense cycles over the sum of cycles."
        parts.append(latex_table(lines, columns.LATEX_HEADLINE_COLUMNS, caption, f"headline-{number}"))
    for number, (key, table) in enumerate(contents.compared, start=1):
        shown = compare_columns(table)
        below = perplexity_line(table, shown)
        parts.append(latex_table(table, shown, explain.compared_text(key) + ".", f"compared-{number}", below))
    for number, (key, lines) in enumerate(by(contents.roles, CONFIG), start=1):
        if lines["cycles"].notna().any():
            caption = f"{explain.config_text(key)}: mean cycles per layer of each role."
            parts.append(latex_table(lines, columns.ROLE_COLUMNS, caption, f"roles-{number}"))
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
    if not contents.rows.empty:
        parts += ["## Whole model\n", markdown_lines(line for line, _ in explain.verdict(contents.headline))]
        parts.append(markdown_table(contents.headline, columns.HEADLINE_COLUMNS))
    if contents.quality_tables:
        parts += ["## Perplexity\n", markdown_lines(explain.quality_verdict(contents.perplexities))]
        for key, table in contents.quality_tables:
            parts += [
                markdown_escape(explain.quality_text(key)) + "\n",
                markdown_table(table, columns.quality_columns(table)),
            ]
    if contents.compared:
        parts.append("## Methods side by side, mean cycles per layer\n")
        for key, table in contents.compared:
            shown = compare_columns(table)
            parts.append(f"### {markdown_escape(explain.compared_text(key))}\n")
            parts.append(markdown_table(table, shown, perplexity_line(table, shown)))
    parts += [
        "## How these numbers were got\n",
        markdown_list(explain.how_got(contents)) + markdown_lines(contents.notes),
    ]
    if not contents.infeasible.empty:
        table = markdown_table(contents.infeasible, columns.INFEASIBLE_COLUMNS)
        parts += ["## What cannot run\n", markdown_escape(explain.coverage(contents.rows)) + "\n", table]
    if not contents.roles.empty:
        parts.append("## Per role, mean cycles per layer\n")
        for key, lines in groups(contents.roles, CONFIG):
            heading = f"### {markdown_escape(explain.config_text(key))}\n"
            parts += [heading, markdown_table(lines, columns.ROLE_COLUMNS)]
    if not contents.levels.empty:
        parts += ["## The two levels side by side\n", explain.WHY_LEVELS_DIFFER + "\n"]
        parts.append(markdown_table(contents.levels, columns.LEVELS_COLUMNS))
    parts += [f"![{markdown_escape(text)}]({path})\n" for text, path in pictures]
    parts += ["## Provenance\n", markdown_list(explain.provenance(contents))]
    return "\n".join(parts)


def by(table: pd.DataFrame, keys: list[str]) -> list[tuple[dict, pd.DataFrame]]:
    """As `groups`; none of an empty table."""
    return [] if table.empty else list(groups(table, keys))
