"""Dense, 2:4 and quantized kernels of a GPU, decode beside prefill."""

from functools import partial
from itertools import islice

from reports.contents import Contents
from reports.figures.phases import phase_figure, phases_of
from reports.limits import MOST_FIGURES
from reports.section import Drawing, Section
from reports.words import statements
from reports.words.naming import slug


def phases(contents: Contents) -> Section | None:
    drawings = []
    for key, bars, rows in islice([] if contents.plain.empty else phases_of(contents.plain), MOST_FIGURES):
        name = slug(f"{key['model']}-{key['target']}-{key['source']}-phases")
        text = f"{key['model']}, {key['target']}, {key['source']}: Dense, 2:4 and quantized"
        drawings.append(Drawing(name, text, partial(phase_figure, key, bars), rows))
    return Section("Decode and prefill", drawings, statements.HOW_PHASES) if drawings else None
