"""Magnitude pruning: the smallest weights go. Needs no data.

S = |W|, in float32 whatever the weights' type. Default rule: layer, as in the released programs this method is compared
with (they prune "<= threshold" of 16-bit values and so overshoot; counts here are exact, unless `count=released`).
"""

from dataclasses import dataclass
from typing import Literal

import torch

from pruning.methods.method import Evidence, PruningMethod


@dataclass(frozen=True)
class Magnitude(PruningMethod):
    """normalised: divide by the matrix's root mean square, so that the global rule does not starve layers of small
    weights (our addition). count: exact: a matrix loses its share to the weight; released: floor(its share) + 1."""

    normalised: bool = False
    count: Literal["exact", "released"] = "exact"

    name = "magnitude"
    rules = ("layer", "row", "global")

    def score(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        magnitude = weight.abs()
        if self.normalised:
            magnitude = magnitude / weight.square().mean().sqrt().clamp_min(torch.finfo(torch.float32).tiny)
        return magnitude
