"""Wanda (Sun et al., ICLR 2024, section 3): |weight| times the norm of its input feature, compared within each row.

S_rj = |W_rj| * sqrt(a_j), a_j = mean over calibration sequences of sum_t x_tj^2. No weight update. Default rule: row.
A matrix that no calibration token reached (an expert never routed to), or only zeros, is scored by magnitude, and the log
says so.
"""

from dataclasses import dataclass

import torch

NEEDS_ACTIVATIONS = True
RULES = ("row", "layer")  # the first is the default


@dataclass(frozen=True)
class Parameters:
    """Wanda has none."""


def score(parameters: Parameters, weight: torch.Tensor, feature_norm: torch.Tensor | None) -> torch.Tensor:
    """(out, in) float32 scores of a (out, in) float32 weight; feature_norm (in,) float32 is sqrt(a)."""
    assert feature_norm is not None
    return weight.abs() * feature_norm
