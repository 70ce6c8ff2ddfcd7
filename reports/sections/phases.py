"""Dense, 2:4 and quantized kernels of a GPU, decode beside prefill."""

from functools import partial
from itertools import islice

from reports.charts.phases import bars_chart, chart_bars, spoken_bars
from reports.contents import Contents
from reports.figures.phases import phase_figure
from reports.limits import MOST_FIGURES
from reports.section import Drawing, Section
from reports.tables.phases import phases_of
from reports.words import statements
from reports.words.naming import slug


def phases(contents: Contents) -> Section | None:
    drawings = []
    for key, bars in islice([] if contents.plain.empty else phases_of(contents.plain), MOST_FIGURES):
        name = slug(f"{key['model']}-{key['target']}-{key['source']}-phases")
        shown = chart_bars(key, bars)
        where = f"{key['model']}, {key['target']}, {key['source']}"
        title, spec = f"Dense, 2:4 and quantized: {where}", partial(bars_chart, shown)
        draw = partial(phase_figure, key, bars)
        drawings.append(Drawing(name, f"{where}. {spoken_bars(shown)}", draw, shown, spec, title, "phases", where))
    return Section("Decode and prefill", drawings, statements.HOW_PHASES) if drawings else None
