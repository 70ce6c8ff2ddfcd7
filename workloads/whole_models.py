"""Rows of whole models as a study hands them to its report."""

from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True)
class WholeModels:
    """`rows` and `operations` with the columns of workloads/columns/inference.py. `roofs`: target, settings, dtype,
    peak_tflops and bandwidth_gbps of those whose rates are known. `perplexities`: model, method (as rows call it) and
    perplexity of what was evaluated. `operators`: published times of single operators, as columns/inference.py has
    them."""

    rows: pd.DataFrame
    operations: pd.DataFrame = field(default_factory=pd.DataFrame)
    roofs: pd.DataFrame = field(default_factory=pd.DataFrame)
    perplexities: pd.DataFrame = field(default_factory=pd.DataFrame)
    operators: pd.DataFrame = field(default_factory=pd.DataFrame)
