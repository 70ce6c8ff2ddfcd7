"""What an accelerator is to the rest of the program: one file with these functions, one line in the table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.cycles import Outcome
from simulator.statistics import Statistics
from simulator.work import Work
from workloads.mask import PackedMask

Values = Callable[[], Mapping[str, np.ndarray]]  # reads the weights a bundle carries for a layer, {} if none


@dataclass(frozen=True)
class Model:
    """A cycle model: gather once per (mask, geometry), evaluate for any spec of that geometry.

    `geometry(spec)` is the part of the spec, as JSON can say it, that gather's arrays depend on. `gather(spec, mask, values)`
    gives named arrays, small beside the mask. `evaluate(spec, work, statistics)` raises Infeasible where the layer cannot run.

    Gathered arrays are kept on disk under the name and version declared here, the geometry and, for a model from outside this
    program, its source. Models whose `gather` gives the same arrays may declare one name; what changes them raises the version.
    """

    level: str
    spec_type: type
    geometry: Callable[[Any], Any]
    gather: Callable[[Any, PackedMask, Values], dict[str, np.ndarray]]
    evaluate: Callable[[Any, Work, Statistics], Outcome]
    documentation: str
    notes: tuple[str, ...]  # deviations and approximations, one sentence each, for reports
    reads_values: bool = False  # gather looks at weight values, not at the mask alone
    skips_zero_inputs: bool = False  # others multiply them: an activation density below 1 changes nothing there
    tokens: int | None = None  # the only number of tokens it knows
    statistics_name: str = ""  # "": the accelerator's own name
    statistics_version: int = 1
