"""RIA (Zhang et al., ICLR 2024): a weight counts by its share of its row and of its column, and by its input.

S_rj = (|W_rj| / sum_j |W_rj| + |W_rj| / sum_r |W_rj|) * x_j^a, x_j the norm of input feature j over the calibration
set. Shares keep alive what a plain magnitude starves: rows and columns whose weights are all small. Default rule: row.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field

from prunesim.methods import Evidence, Need, PruningMethod, feature_norm_or_ones


@dataclass(frozen=True)
class Ria(PruningMethod):
    """a: how much inputs count; 0 leaves the weights alone to decide."""

    name = "own-ria"  # what ships is called ria
    rules = ("row", "layer")
    needs = frozenset({Need.ENERGY})  # the sums of squares of the inputs: `evidence.feature_norm`

    a: Annotated[float, Field(ge=0, le=2)] = 0.5

    def score(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """(out, in) float32, low = pruned first."""
        size = weight.abs()
        tiny = torch.finfo(torch.float32).tiny  # a row or column of zeros
        rows, columns = size.sum(1, keepdim=True).clamp_min(tiny), size.sum(0, keepdim=True).clamp_min(tiny)
        return (size / rows + size / columns) * feature_norm_or_ones(weight, evidence) ** self.a
