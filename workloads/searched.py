"""What a search found, as a study hands it to its report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True)
class Searched:
    """`trials`: the columns of workloads/columns/search.py and, behind them, one for each of `parameters`, by its name.
    `objectives`: names of columns, all of which are minimised. `passes`: what latency and energy are of, in words.
    `designs`: how many the space has, None where it has no number. `importance`: parameter, objective, importance
    (0..1), as `importance_said` explains. `machines`: the text of a machine file for designs on the front, by number;
    `methods`: what each of them is pruned with."""

    title: str
    passes: str
    objectives: Sequence[str]
    constraints: Sequence[str]
    parameters: Sequence[str]
    sampler: str
    seed: int | None
    designs: int | None
    trials: pd.DataFrame
    importance: pd.DataFrame = field(default_factory=pd.DataFrame)
    importance_said: str = ""
    machines: Mapping[int, str] = field(default_factory=dict)
