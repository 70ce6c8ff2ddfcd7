"""How busy the array and the DRAM port are while a layer runs."""

from functools import partial
from itertools import islice

from reports.contents import Contents
from reports.figures.timeline import timeline_figure, timelines_of, where_text
from reports.limits import MOST_FIGURES
from reports.section import Drawing, Section
from reports.words.naming import slug


def over_time(contents: Contents) -> Section | None:
    drawings = []
    for key, traces in islice([] if contents.timelines.empty else timelines_of(contents.timelines), MOST_FIGURES):
        name = slug(f"{key['model']}-{key['target']}-{key['tokens']}-tokens-utilisation")
        text = f"Utilisation over time: {where_text(key)}"
        drawings.append(
            Drawing(name, text, partial(timeline_figure, key, traces), traces, None, text, "utilisation",
                    where_text(key))
        )  # fmt: skip
    return Section("Utilisation over time", drawings) if drawings else None
