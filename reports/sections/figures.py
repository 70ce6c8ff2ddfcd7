"""Figures of every configuration: where cycles and energy go, speedup by place and against sparsity, busy shares over
time; and perplexities of every model."""

from collections.abc import Iterator
from functools import partial
from itertools import islice

import pandas as pd

from reports.contents import Contents
from reports.figures import bars, layers
from reports.figures.quality import quality_figure
from reports.figures.timeline import timeline_figure, timelines_of, where_text
from reports.figures.tradeoff import tradeoff_figure, tradeoffs, tradeoffs_of
from reports.limits import MOST_CONFIGURATIONS, MOST_FIGURES
from reports.section import PAGE, Block, Drawing, Heading, Section, Text
from reports.tables.quality import DENSE, EVALUATION
from reports.tables.sums import CONFIG, KERNEL, by, counted_mask
from reports.words.naming import config_text, slug
from reports.words.settings import settings_text

_OF_A_CONFIGURATION = (
    ("cycles", "Where the cycles go, per role", bars.bars_figure),
    ("energy", "Where the energy goes, per role", bars.energy_figure),
    ("speedup-map", "Speedup by block and role", layers.heatmap_figure),
    ("sparsity-speedup", "Sparsity against speedup, per layer", layers.scatter_figure),
)


def figures(contents: Contents) -> Section | None:
    points = tradeoffs(contents.headline)
    drawn: dict[str, list[Drawing]] = {}
    each = _configurations(contents)
    for heading, drawing in [*_of_models(contents, points), *_of_configurations(each), *_over_time(contents)]:
        drawn.setdefault(heading, []).append(drawing)
    blocks: list[Block] = []
    for heading, drawings in drawn.items():
        blocks += [Heading(heading, only=PAGE), *drawings]
    if blocks and len(each) > MOST_CONFIGURATIONS:
        first = f"Drawn are the first {MOST_CONFIGURATIONS} of {len(each):,} configurations"
        blocks.append(Text(f"{first}; a report of the rows of others alone draws those.", quiet=True, only=PAGE))
    files = {} if points.empty else {"tradeoff.csv": points}
    return Section("Figures", blocks, files=files) if blocks or files else None


def _of_models(contents: Contents, points: pd.DataFrame) -> Iterator[tuple[str, Drawing]]:
    """(heading, figure); nothing where there is nothing to compare."""
    evaluations = [(k, g) for k, g in by(contents.perplexities, EVALUATION) if (g["method"] != DENSE).sum() > 1]
    for key, lines in evaluations[:MOST_FIGURES]:
        name, text = slug(f"{key['model']}-perplexity"), f"Perplexity after pruning: {key['model']}"
        yield key["model"], Drawing(name, text, partial(quality_figure, lines), lines)
    for model, panels in islice(tradeoffs_of(points), MOST_FIGURES):
        name, text = slug(f"{model}-tradeoff"), f"Perplexity against speedup: {model}"
        yield model, Drawing(name, text, partial(tradeoff_figure, model, points, panels), points)


def _configurations(contents: Contents) -> list[tuple[dict, pd.DataFrame]]:
    """Those with figures of their own. A GPU's layers of one shape are alike: there is nothing to map."""
    plain = contents.plain
    return by(plain[(plain["level"] != KERNEL) & counted_mask(plain)], CONFIG) if len(plain) else []


def _of_configurations(each: list[tuple[dict, pd.DataFrame]]) -> Iterator[tuple[str, Drawing]]:
    for key, rows in each[:MOST_CONFIGURATIONS]:
        settings = f"-{settings_text(key['settings'])}" if key["settings"] else ""
        stem = slug(f"{key['model']}-{key['target']}{settings}-{key['tokens']}-tokens")
        for kind, what, draw in _OF_A_CONFIGURATION:
            if kind != "energy" or rows["energy_pj"].notna().any():
                text = f"{what}: {config_text(key)}"
                yield config_text(key), Drawing(f"{stem}-{kind}", text, partial(draw, rows), rows)


def _over_time(contents: Contents) -> Iterator[tuple[str, Drawing]]:
    for key, traces in islice([] if contents.timelines.empty else timelines_of(contents.timelines), MOST_FIGURES):
        name = slug(f"{key['model']}-{key['target']}-{key['tokens']}-tokens-utilisation")
        text = f"Utilisation over time: {where_text(key)}"
        yield where_text(key), Drawing(name, text, partial(timeline_figure, key, traces), traces)
