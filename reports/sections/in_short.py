"""What a reader sees first: for every machine and phase what is gained, at what perplexity, what binds and how sure it
is; perplexity against speedup; the choices behind both."""

from collections.abc import Iterator
from functools import partial

import pandas as pd

from reports.charts.lines import chart_qualities, quality_chart, spoken_qualities
from reports.charts.tradeoff import chart_points, spoken_points, tradeoff_chart
from reports.contents import Contents
from reports.figures.quality import quality_figure
from reports.figures.tradeoff import tradeoff_figure, tradeoffs_of
from reports.limits import MOST_FIGURES, MOST_SENTENCES, cut
from reports.section import PAGE, READ, Block, Drawing, Heading, Pairs, Section, Verdicts
from reports.sections.gains import PLACE, gains
from reports.sections.serving import sentences as whole_models
from reports.sections.what_was_run import what_was_run
from reports.tables.quality import DENSE, EVALUATION
from reports.tables.sums import by
from reports.tables.tradeoff import tradeoffs
from reports.words.naming import slug
from workloads.rows import beside


def of_networks(contents: Contents) -> set[str]:
    """Names of the models that are no language models, as far as their quality says so."""
    return set(contents.networks["model"]) if len(contents.networks) else set()


def included(contents: Contents) -> pd.DataFrame:
    """The roles of what stands beside the layers of each model and machine."""
    rows = contents.plain
    return rows.loc[beside(rows), [*PLACE, "role"]].drop_duplicates() if len(rows) else pd.DataFrame()


def in_short(contents: Contents) -> Section | None:
    blocks: list[Block] = []
    whole = [] if contents.serving.empty else whole_models(contents.serving)
    sentences = [
        *whole,
        *([] if contents.headline.empty else gains(contents.headline, of_networks(contents), included(contents))),
    ]
    if sentences:
        shown, more = cut(sentences, MOST_SENTENCES)
        rest = [(f"{more:,} more configurations: see whole-model.csv.", False)] if more else []
        blocks.append(Verdicts([*shown, *rest]))
    points = tradeoffs(contents.headline)
    blocks += [*_tradeoffs(points)] or [*_qualities(contents)]
    blocks += [Heading("The choices behind it", only=PAGE), Pairs(what_was_run(contents), only=PAGE)]
    files = {} if points.empty else {"tradeoff.csv": points}
    return Section("In short", blocks, files=files)


def _tradeoffs(points: pd.DataFrame) -> Iterator[Drawing]:
    """A chart a model; a page of paper has room for some machines of it, so that a model may have several figures."""
    charted = set()
    for model, panels in list(tradeoffs_of(points))[:MOST_FIGURES]:
        name, title = slug(f"{model}-tradeoff"), f"Perplexity against speedup: {model}"
        draw = partial(tradeoff_figure, model, points, panels)
        mine = chart_points(points[points["model"] == model])
        if model in charted:
            yield Drawing(name, title, draw, mine, title=title, only=READ - PAGE)
            continue
        charted.add(model)
        yield Drawing(name, spoken_points(mine), draw, mine, partial(tradeoff_chart, mine), title, "tradeoff", model)


def _qualities(contents: Contents) -> Iterator[Drawing]:
    """Where no run has both, what every method costs."""
    return qualities(contents) if contents.headline.empty else iter(())


def qualities(contents: Contents) -> Iterator[Drawing]:
    """Perplexity by target, where there is something to compare."""
    evaluations = [(k, g) for k, g in by(contents.perplexities, EVALUATION) if (g["method"] != DENSE).sum() > 1]
    for key, lines in evaluations[:MOST_FIGURES]:
        name, title = slug(f"{key['model']}-perplexity"), f"Perplexity after pruning: {key['model']}"
        shown = chart_qualities(lines)
        spec = partial(quality_chart, shown) if len(shown) else None
        yield Drawing(
            name, spoken_qualities(shown), partial(quality_figure, lines), shown, spec, title, "quality", key["model"]
        )
