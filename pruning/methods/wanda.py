"""Wanda (Sun et al., ICLR 2024, section 3): |weight| times the norm of its input feature, compared within each row.

S_rj = |W_rj| * sqrt(a_j), a_j = mean over calibration sequences of sum_t x_tj^2. No weight update. Default rule: row.
A matrix whose inputs nothing is known of (an expert never routed to; only zeros) is scored by magnitude, and the log
says so.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from pruning.evidence.needs import Need
from pruning.methods.method import Evidence, PruningMethod, feature_norm_or_ones


@dataclass(frozen=True)
class Wanda(PruningMethod):
    """count: exact: a matrix loses its share to the weight, rows one more or less; released: floor(its share) of every
    row."""

    count: Literal["exact", "released"] = "exact"

    name = "wanda"
    rules = ("row", "layer")
    needs = frozenset({Need.ENERGY})

    def score(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        return weight.abs() * feature_norm_or_ones(weight, evidence)
