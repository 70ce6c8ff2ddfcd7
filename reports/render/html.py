"""One self-contained HTML page: styles, script and figures inside, nothing loaded from anywhere.

Every text goes through the template's autoescape. Figures are data URIs in <img>: no script in them can run, and
the ids of two figures cannot clash.
"""

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports import columns, explain
from reports.contents import Contents
from reports.limits import MOST_LINES, MOST_SENTENCES, cut, lines_each, more_lines, more_tables
from reports.render.documents import by, headline_lines, named
from reports.tables.by_tokens import table_columns
from reports.tables.compare import compare_columns, perplexity_line
from reports.tables.gemms import error_sentences
from reports.tables.sums import ALL_ROLES, CONFIG, KERNEL, groups
from reports.words import statements
from reports.words.headings import Heading, heading, spans
from reports.words.present import Cell, cell, cells, filled
from reports.words.units import in_units, with_time_unit

_LEVELS_SHARED = ["model", "target_paper", "target_cycle", "tokens"]
_HEADLINE = "Sum of dense times / sum of times over all counted layers, each target against its own dense run"
BY_TOKENS, PHASES = (
    "Speedup against tokens",
    "Dense, 2:4 and quantized",
)  # pictures of these headings stand in their own sections
_LONG = 60  # lines a table may have before it starts folded


@dataclass(frozen=True)
class Picture:
    """A figure as the page embeds it; `text` is what it shows, for those who cannot see it."""

    text: str
    svg: bytes

    @property
    def uri(self) -> str:
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode("ascii")


@dataclass(frozen=True)
class Sweep:
    """A table of designs with the sentence to read first and the figures that number them."""

    said: str
    warns: bool
    sheet: "Sheet"
    pictures: list[Picture]


@dataclass(frozen=True)
class Line:
    cells: list[Cell]
    whole: bool  # a line that sums up the lines above it


@dataclass(frozen=True)
class Sheet:
    """A table as the template lays it out."""

    caption: str
    heads: list[Heading]
    lines: list[Line]
    above: list[tuple[str, int]]  # (heading, columns it spans) above the headings, [] for one row of headings
    below: list[tuple[str, int]]  # the same of a line at the end that is never sorted away
    minor: bool = False  # starts folded however short
    more: int = 0  # lines left out
    file: str = ""  # where they are

    @property
    def folded(self) -> bool:
        return self.minor or len(self.lines) > _LONG


def sheet(
    table: pd.DataFrame,
    shown: Iterable[str],
    caption: str,
    below: Iterable[tuple[str, int]] = (),
    most: int = MOST_LINES,
    file: str = "rows.csv",
) -> Sheet:
    """The columns of `table` that hold anything, in this order; at most `most` lines, `file` has all."""
    more = more_lines(table, most)
    table = table.head(most)
    shown = filled(table, shown)
    heads = [heading(column) for column in shown]
    whole = table["role"] == ALL_ROLES if "role" in table else pd.Series(False, index=table.index)
    lines = [Line(line, bool(all_)) for line, all_ in zip(cells(table, shown), whole, strict=True)]
    return Sheet(caption, heads, lines, spans(heads), list(below), more=more, file=file)


@dataclass(frozen=True)
class Sheets:
    """The tables of a section; `more`: how many are left out, and where they are, "" for none."""

    sheets: list[Sheet]
    more: str = ""
    file: str = ""

    def __bool__(self) -> bool:
        return bool(self.sheets)


def html_report(contents: Contents, pictures: dict[str, list[Picture]], undrawn: str = "") -> str:
    """The page. `undrawn`: what has no figures. `pictures` are grouped under the text of their configuration; those of sweeps stand above their tables."""
    designs, more_designs = cut(contents.designs)
    most = lines_each(len(designs))
    sweeps = [_sweep(key, table, pictures.get(explain.config_text(key), []), most) for key, table in designs]
    placed = {explain.config_text(key) for key, _ in contents.designs} | {BY_TOKENS, PHASES}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        title=contents.title,
        notes=contents.notes,
        what_was_run=explain.what_was_run(contents),
        verdict=_verdict(contents.headline),
        headline=_headline(contents.headline),
        by_tokens=_sheets(contents.by_tokens, _by_tokens, "by-tokens.csv"),
        by_tokens_pictures=pictures.get(BY_TOKENS, []),
        how_by_tokens=statements.HOW_BY_TOKENS,
        phases=pictures.get(PHASES, []),
        how_phases=statements.HOW_PHASES,
        sources=_captioned(
            contents.sources,
            columns.COMPARED_SOURCES_COLUMNS,
            ["target", "dtype", "tokens"],
            "The same GEMM by each source",
        ),
        sources_said=[*error_sentences(contents.sources), *filter(None, [explain.ratios_alone(contents)])]
        if len(contents.sources)
        else [],
        how_sources=statements.HOW_SOURCES,
        spmm=_captioned(contents.spmm, columns.SPMM_COLUMNS, ["model"], "Unstructured masks, published elsewhere"),
        how_spmm=statements.HOW_SPMM,
        quality_verdict=[] if contents.perplexities.empty else explain.quality_verdict(contents.perplexities),
        quality=[sheet(t, columns.quality_columns(t), explain.quality_text(key)) for key, t in contents.quality_tables],
        compared=_sheets(contents.compared, _compared, "compared.csv"),
        sweeps=sweeps,
        more_designs=more_tables(more_designs, "designs.csv"),
        energy=_energy(contents.energy),
        not_in_energy=statements.NOT_IN_ENERGY,
        constants=_captioned(contents.constants, columns.CONSTANT_COLUMNS, [], "Constants of energy and area"),
        how_got=explain.how_got(contents),
        coverage="" if contents.plain.empty else explain.coverage(contents.plain),
        infeasible=_captioned(
            contents.infeasible, columns.INFEASIBLE_COLUMNS, ["model"], "Layers left out or without a baseline, and why"
        ),
        roles=_roles(contents.roles),
        levels=_captioned(contents.levels, columns.LEVELS_COLUMNS, _LEVELS_SHARED, "Same masks, same tokens"),
        why_levels_differ=statements.WHY_LEVELS_DIFFER,
        pictures={text: items for text, items in pictures.items() if text not in placed},
        undrawn=undrawn,
        layers=_layers(contents.layers),
        provenance=explain.provenance(contents),
    )


def _verdict(headline: pd.DataFrame) -> list[tuple[str, bool]]:
    lines, more = cut([] if headline.empty else explain.verdict(headline), MOST_SENTENCES)
    return [*lines, *([(f"{more:,} more configurations: see whole-model.csv.", False)] if more else [])]


def _sheets(tables: list[tuple[dict, pd.DataFrame]], made: Callable[..., Sheet], file: str) -> Sheets:
    shown, more = cut(tables)
    most = lines_each(len(shown))
    return Sheets([replace(made(key, table, most), file=file) for key, table in shown], more_tables(more, file), file)


def _compared(key: dict, table: pd.DataFrame, most: int) -> Sheet:
    shown = compare_columns(table)
    return sheet(table, shown, explain.compared_text(key), perplexity_line(table, shown), most)


def _sweep(key: dict, table: pd.DataFrame, pictures: list[Picture], most: int) -> Sweep:
    text = explain.config_text(key)
    said, warns = explain.designs_verdict(table)
    shown, names = in_units(table.head(most))
    made = sheet(shown, named(columns.DESIGN_COLUMNS, names), f"{text}: designs, fastest first")
    return Sweep(f"{text}: {said}.", warns, replace(made, more=more_lines(table, most), file="designs.csv"), pictures)


def _energy(lines: pd.DataFrame) -> Sheet | None:
    table, names = in_units(lines)
    return _captioned(table, named(columns.ENERGY_COLUMNS, names), ["model"], explain.ENERGY_CAPTION)


def _captioned(
    table: pd.DataFrame, shown: list[str], shared: list[str], caption: str, most: int = MOST_LINES
) -> Sheet | None:
    """The sheet, None when empty. What all lines share goes to the caption, which leaves a phone room for numbers."""
    if table.empty:
        return None
    constant = [c for c in shared if c in table and table[c].nunique(dropna=False) == 1]
    told = [(c, cell(c, table[c].iloc[0])) for c in constant]
    said = "".join(f"; {heading(c).text.lower()} {value.text}" for c, value in told if value.sort is not None)
    return sheet(table, [c for c in shown if c not in constant], caption + said, most=most)


def _headline(lines: pd.DataFrame) -> Sheet | None:
    if lines.empty:
        return None
    made = _captioned(*headline_lines(lines), ["model", "method", "pattern"], _HEADLINE)
    return made and replace(made, file="whole-model.csv")


def _by_tokens(key: dict, table: pd.DataFrame, most: int) -> Sheet:
    made = _captioned(table, table_columns(table), ["settings", "source"], explain.masks_text(key), most)
    return made or sheet(table, [], "")


def _roles(table: pd.DataFrame) -> Sheets:
    """A sheet for each configuration; those of a GPU hold all of its token counts."""

    def made(key: dict, lines: pd.DataFrame, most: int) -> Sheet:
        if key["level"] == KERNEL:
            lines, names = with_time_unit(lines)
            shown = named(columns.KERNEL_ROLE_COLUMNS, names)
            return _kernel_sheet(lines, shown, key, "mean time per layer", most)
        caption = f"{explain.config_text(key)}: mean cycles per layer"
        return sheet(lines, columns.ROLE_COLUMNS, caption, most=most)

    return _sheets(_configurations(table), made, "roles.csv")


def _layers(table: pd.DataFrame) -> Sheets:
    """As `_roles`; "seed" only where there is more than one. Where lines are left out, those of the least speedup come first."""
    several = "seed" in table and table["seed"].nunique(dropna=False) > 1

    def made(key: dict, lines: pd.DataFrame, most: int) -> Sheet:
        order = ""
        if len(lines) > most:
            lines, order = lines.sort_values("speedup", kind="stable"), ", least speedup first"
        kernels, more = key["level"] == KERNEL, more_lines(lines, most)
        part, names = with_time_unit(lines.head(most))
        shown = columns.KERNEL_LAYER_COLUMNS if kernels else columns.layer_columns(table)
        shown = [column for column in named(shown, names) if several or column != "seed"]
        caption = f"{explain.config_text(key)}: per layer{order}"
        made_ = _kernel_sheet(part, shown, key, f"per layer{order}") if kernels else sheet(part, shown, caption)
        return replace(made_, more=more)

    return _sheets(_configurations(table), made, "rows.csv")


def _configurations(table: pd.DataFrame) -> list[tuple[dict, pd.DataFrame]]:
    """The lines of each configuration, those of a GPU's token counts together."""
    found: list[tuple[dict, pd.DataFrame]] = []
    for key, lines in by(table, explain.WITHOUT_TOKENS):
        found += [(key, lines)] if key["level"] == KERNEL else groups(lines, CONFIG)
    return found


def _kernel_sheet(lines: pd.DataFrame, shown: list[str], key: dict, what: str, most: int = MOST_LINES) -> Sheet:
    """Folded where there are several token counts: the section of speedups against tokens says it shorter."""
    made = _captioned(lines, shown, ["tokens", "method", "pattern"], f"{explain.config_text(key)}: {what}", most)
    assert made is not None
    return replace(made, minor=lines["tokens"].nunique() > 1)
