"""How busy the array and the DRAM port are while a layer runs."""

from functools import partial
from itertools import islice

from reports.charts.timeline import chart_trace, spoken_trace, trace_chart
from reports.contents import Contents
from reports.figures.timeline import panels_of, timeline_figure, timelines_of, where_text
from reports.limits import MOST_FIGURES, MOST_PANELS
from reports.section import Drawing, Section, together
from reports.words.naming import slug


def over_time(contents: Contents) -> Section | None:
    drawings: list[Drawing] = []
    for key, traces in islice([] if contents.timelines.empty else timelines_of(contents.timelines), MOST_FIGURES):
        name = slug(f"{key['model']}-{key['target']}-{key['tokens']}-tokens-utilisation")
        charts = []
        for method, trace in panels_of(traces):
            shown, where = chart_trace(trace), f"{where_text(key)}, {method}"
            text, title = f"{where}. {spoken_trace(shown)}", f"Utilisation over time: {where}"
            spec = partial(trace_chart, shown)
            charts.append(Drawing(slug(f"{name}-{method}"), text, None, shown, spec, title, "utilisation", where))
        drawings += together(name, charts[:MOST_PANELS], partial(timeline_figure, key, traces))
    return Section("Utilisation over time", drawings) if drawings else None
