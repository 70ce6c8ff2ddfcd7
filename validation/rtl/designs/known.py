"""The designs by the model that each is held against."""

from collections.abc import Callable, Sequence

from simulator.accelerators.named import open_accelerator
from validation.rtl.designs.columns import Columns
from validation.rtl.designs.design import Design
from validation.rtl.designs.eie import Eie
from validation.rtl.designs.join import Join
from validation.rtl.designs.lanes import Lanes
from validation.rtl.designs.select import Select
from validation.rtl.designs.sigma import Sigma
from validation.rtl.designs.systolic import Systolic, SystolicOs

THRESHOLDS = (1.0, 0.9, 0.75, 0.5)
DESIGNS: dict[str, tuple[Callable[[], Design], ...]] = {
    "vitcod": (Lanes, lambda: Lanes(thresholds=THRESHOLDS)),
    "systolic": (Systolic, lambda: Systolic(dataflow="is"), SystolicOs, lambda: Systolic(choose=(2, 4))),
    "stc": (lambda: Select("stc"),),
    "vegeta": (Select,),
    "sparten": (Join, lambda: Join(clusters=2), lambda: Join("gb-s"), lambda: Join("gb-h")),
    "eie": (Eie, lambda: Eie(depth=1), lambda: Eie(pes=5, depth=8)),
    "sigma": (Sigma, lambda: Sigma(feeds=16), lambda: Sigma(continuous=True)),
    "bitwave": (Columns,),
    "stripes": (lambda: Columns("stripes", group=16),),
}


def designs_of(model: str) -> list[Design]:
    """Of ours, or what the accelerator's class states as `rtl`; empty where there is none. Raises UserError for a name
    that means no accelerator."""
    stated: Sequence[Callable[[], Design]] = getattr(type(open_accelerator(model, ())), "rtl", ())
    return [make() for make in DESIGNS.get(model, stated)]
