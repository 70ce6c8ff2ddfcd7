"""Writes a report: one folder with a page to read, tables to compute with, and figures to cite."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from reports.contents import Contents, check_any, gather
from reports.explain import config_text, masks_text
from reports.figures import bars
from reports.figures import layers as figures
from reports.figures.by_tokens import tokens_figure
from reports.figures.drawing import png_bytes, svg_bytes
from reports.figures.pareto import pareto_figure
from reports.figures.phases import phase_figures
from reports.figures.quality import quality_figure
from reports.figures.timeline import timeline_figures, where_text
from reports.figures.tradeoff import tradeoff_figures, tradeoffs
from reports.limits import MOST_CONFIGURATIONS, MOST_FIGURES
from reports.render.documents import by, latex_report, markdown_report
from reports.render.html import BY_TOKENS, PHASES, Picture, html_report
from reports.tables.by_tokens import MASKED
from reports.tables.compare import compare_csv
from reports.tables.quality import DENSE, EVALUATION, quality_csv
from reports.tables.sums import CONFIG, KERNEL, counted_mask
from reports.words.settings import settings_text
from workloads.csv_text import csv_text
from workloads.files import write_bytes, write_text

_FIGURES = (
    ("cycles", "Where the cycles go, per role", bars.bars_figure),
    ("energy", "Where the energy goes, per role", bars.energy_figure),
    ("speedup-map", "Speedup by block and role", figures.heatmap_figure),
    ("sparsity-speedup", "Sparsity against speedup, per layer", figures.scatter_figure),
)


def write_report(
    rows: pd.DataFrame | None,
    quality: pd.DataFrame | None,
    folder: Path,
    title: str,
    notes: list[str],
    timelines: pd.DataFrame | None = None,
    constants: pd.DataFrame | None = None,
    spmm: pd.DataFrame | None = None,
) -> dict[str, Path]:
    """Writes report.html, report.md, report.tex and figures/ into `folder`; rows.csv, whole-model.csv, roles.csv, compared.csv (methods side by side),
    designs.csv (sweeps), tradeoff.csv (perplexity and speedup, with the Pareto front), sources.csv (one GEMM by several sources), by-tokens.csv, quality.csv and quality-table.csv where there is
    something to fill them. These tables have every line; pages and figures stop where nobody reads on (reports/limits.py) and say so.

    `timelines`: traces as reports/figures/timeline.py takes them. `constants`: what energies rest on, columns name, value, unit,
    node_nm and source; shown where the rows have energies. `spmm`: what is published of unstructured masks on GPUs, with the columns
    of columns.SPMM_COLUMNS.

    Returns the files by their name in the folder. Equal rows give equal bytes. Raises UserError when there are neither rows
    nor perplexities, they are ambiguous, or a file cannot be written; each file is whole or absent.
    """
    folder = Path(folder)
    check_any(rows, quality)
    written: dict[str, Path] = {}

    def write(name: str, content: str | bytes) -> None:
        path = folder / name
        write_bytes(path, content) if isinstance(content, bytes) else write_text(path, content)
        written[name] = path

    if rows is not None and not rows.empty:
        write("rows.csv", csv_text(rows))
    if quality is not None and not quality.empty:
        write("quality.csv", csv_text(quality))
    contents = gather(rows, quality, title, notes, timelines, constants, spmm)
    if contents.quality_tables:
        write("quality-table.csv", csv_text(quality_csv(contents.quality_tables)))
    points = tradeoffs(contents.headline)
    if not points.empty:
        write("tradeoff.csv", csv_text(points))
    if not contents.headline.empty:
        write("whole-model.csv", csv_text(contents.headline))
        write("roles.csv", csv_text(contents.roles))
    if contents.compared:
        write("compared.csv", csv_text(compare_csv(contents.compared)))
    if contents.designs:
        write("designs.csv", csv_text(pd.concat([table.assign(**_told(key)) for key, table in contents.designs])))
    if not contents.sources.empty:
        write("sources.csv", csv_text(contents.sources))
    if not contents.curves.empty:
        write("by-tokens.csv", csv_text(contents.curves))
    pictures: dict[str, list[Picture]] = {}
    links: list[tuple[str, str]] = []
    for name, heading, text, figure in _drawn(contents):
        svg = svg_bytes(figure)
        write(f"figures/{name}.svg", svg)
        write(f"figures/{name}.png", png_bytes(figure))
        pictures.setdefault(heading, []).append(Picture(f"{text}: {heading}", svg))
        links.append((f"{text}: {heading}", f"figures/{name}.svg"))
    write("report.html", html_report(contents, pictures, _undrawn(contents)))
    write("report.md", markdown_report(contents, links))
    write("report.tex", latex_report(contents))
    return written


def _drawn(contents: Contents) -> Iterator[tuple[str, str, str, Figure]]:
    """(file name without ending, configuration, what it shows, figure); nothing where there is nothing to compare."""
    names: set[str] = set()
    evaluations = [(k, g) for k, g in by(contents.perplexities, EVALUATION) if (g["method"] != DENSE).sum() > 1]
    for key, group in evaluations[:MOST_FIGURES]:
        stem = _unused(_slug(f"{key['model']}-perplexity"), names)
        yield stem, key["model"], "Perplexity after pruning", quality_figure(group)
    for model, figure in islice(tradeoff_figures(tradeoffs(contents.headline)), MOST_FIGURES):
        yield _unused(_slug(f"{model}-tradeoff"), names), model, "Perplexity against speedup", figure
    for key, table in contents.designs[:MOST_FIGURES]:
        stem = _unused(_slug(f"{key['model']}-{key['target']}-{key['tokens']}-tokens-designs"), names)
        yield stem, config_text(key), "Latency against energy and area", pareto_figure(key, table)
    for key, lines in by(contents.curves, MASKED)[:MOST_FIGURES]:
        stem = _unused(_slug(f"{masks_text(key)}-speedup-by-tokens"), names)
        yield stem, BY_TOKENS, masks_text(key), tokens_figure(lines, masks_text(key))
    for key, figure in islice([] if contents.plain.empty else phase_figures(contents.plain), MOST_FIGURES):
        stem = _unused(_slug(f"{key['model']}-{key['target']}-{key['source']}-phases"), names)
        yield stem, PHASES, f"{key['model']}, {key['target']}, {key['source']}", figure
    for key, group in _configurations(contents)[:MOST_CONFIGURATIONS]:
        settings = f"-{settings_text(key['settings'])}" if key["settings"] else ""
        stem = _unused(_slug(f"{key['model']}-{key['target']}{settings}-{key['tokens']}-tokens"), names)
        for kind, text, draw in _FIGURES:
            if kind != "energy" or group["energy_pj"].notna().any():
                yield f"{stem}-{kind}", config_text(key), text, draw(group)
    for key, figure in islice([] if contents.timelines.empty else timeline_figures(contents.timelines), MOST_FIGURES):
        stem = _unused(_slug(f"{key['model']}-{key['target']}-{key['tokens']}-tokens-utilisation"), names)
        yield stem, where_text(key), "Utilisation over time", figure


def _configurations(contents: Contents) -> list[tuple[dict, pd.DataFrame]]:
    """Those with figures of their own. A GPU's layers of one shape are alike: there is nothing to map."""
    plain = contents.plain
    return by(plain[(plain["level"] != KERNEL) & counted_mask(plain)], CONFIG) if len(plain) else []


def _undrawn(contents: Contents) -> str:
    count = len(_configurations(contents))
    if count <= MOST_CONFIGURATIONS:
        return ""
    return f"Drawn are the first {MOST_CONFIGURATIONS} of {count:,} configurations; a report of the rows of others alone draws those."


def _told(key: dict) -> dict:
    """What a line of designs.csv needs beside its own columns; the settings of a line are its own, in full."""
    return {name: value for name, value in key.items() if name != "settings"}


def _slug(text: str) -> str:
    """A file name that every system accepts and that cannot leave the folder."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()[-100:] or "unnamed"


def _unused(stem: str, names: set[str]) -> str:
    """`stem`, numbered when another configuration has it already."""
    number, candidate = 1, stem
    while candidate in names:
        number += 1
        candidate = f"{stem}-{number}"
    names.add(candidate)
    return candidate
