"""Speedup against sparsity, where there are several."""

from functools import partial

from reports.charts.lines import chart_sparsities, sparsity_chart, spoken_sparsities
from reports.contents import Contents
from reports.figures.sparsity import sparsity_figure
from reports.limits import MOST_FIGURES
from reports.section import Block, Drawing, Section
from reports.tables.sums import by
from reports.words.naming import slug

_APART = 0.01  # sparsities that differ by less are one


def by_sparsity(contents: Contents) -> Section | None:
    """Nothing where all sparsities are one: a line has no second point."""
    blocks: list[Block] = []
    for key, lines in by(contents.headline, ["model"])[:MOST_FIGURES]:
        shown = chart_sparsities(lines)
        if len(shown) < 2 or shown["sparsity"].max() - shown["sparsity"].min() < _APART:
            continue
        title, name = f"Speedup against sparsity: {key['model']}", slug(f"{key['model']}-sparsity-speedup")
        spec = partial(sparsity_chart, shown)
        draw = partial(sparsity_figure, key["model"], shown)
        blocks.append(Drawing(name, spoken_sparsities(shown), draw, shown, spec, title))
    return Section("Speedup against sparsity", blocks) if blocks else None
