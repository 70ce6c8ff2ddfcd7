"""The designs by the model that each is held against."""

from collections.abc import Callable

from validation.rtl.designs.design import Design
from validation.rtl.designs.lanes import Lanes
from validation.rtl.designs.systolic import Systolic, SystolicOs

THRESHOLDS = (1.0, 0.9, 0.75, 0.5)
DESIGNS: dict[str, tuple[Callable[[], Design], ...]] = {
    "vitcod": (Lanes, lambda: Lanes(thresholds=THRESHOLDS)),
    "systolic": (Systolic, lambda: Systolic(dataflow="is"), SystolicOs),
}


def designs_of(model: str) -> list[Design]:
    """Empty where there is none."""
    return [make() for make in DESIGNS.get(model, ())]
