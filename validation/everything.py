"""Every comparison there is, in the order of the page."""

from collections.abc import Iterator

from validation.comparison import Comparison, NotRun
from validation.comparisons import closed_forms, expectations, formula_twins, functional_twins, headlines, programs


def comparisons(cases: int, scalesim: bool) -> Iterator[Comparison | NotRun]:
    """All of them. cases: random layers on every small machine of a functional twin."""
    for name in functional_twins.NAMES:
        yield closed_forms.compare(name)
        yield functional_twins.compare(name, cases)
        if name == "systolic":
            yield programs.scalesim(scalesim)
    yield closed_forms.vitcod_paper()
    yield formula_twins.vitcod_paper()
    yield formula_twins.attention_paper()
    yield formula_twins.attention()
    yield from (expectation() for expectation in expectations.ALL.values())
    yield from (headline() for headline in headlines.ALL.values())
    yield from programs.attention_log()
    yield formula_twins.dram()
    yield from programs.dram()
    yield programs.energy()
