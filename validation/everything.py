"""Every comparison there is, in the order of the pages."""

from collections.abc import Iterator
from pathlib import Path

from simulator.accelerators import ACCELERATORS
from validation.comparison import Found
from validation.comparisons import (
    closed_forms,
    expectations,
    formula_twins,
    functional_twins,
    gpu_operators,
    gpus,
    headlines,
    laws,
    programs,
)


def comparisons(data: Path | None = None, scalesim: bool = True, cases: int = 100) -> Iterator[Found]:
    """All of them. data: a folder of what does not ship (vitcod/: GATECH-EIC/ViTCoD's masks and log); without it that
    is not run. cases: random layers on every small machine of a functional twin."""
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
    yield from programs.attention_log(data)
    yield formula_twins.dram()
    yield from programs.dram()
    yield programs.energy()
    yield from (gpus.left_out(), gpus.published(), gpus.medians())
    yield gpu_operators.left_out()
    yield from (laws.of_accelerator(name) for name in ACCELERATORS)
    yield laws.of_methods()
