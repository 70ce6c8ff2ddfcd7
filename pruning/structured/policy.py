"""Keep-probabilities of units: where they start, which way the loss sends them, and how they stay within a budget
(methods 10). All vectors are (units,) float64.
"""

import math
from typing import Literal

import torch

Precond = Literal["sqrt", "none"]
LEAST, MOST = 0.01, 0.99  # at 0 and 1 a probability would never be tried against anything, and so never move
TINY = 1e-7  # beside theta and 1 - theta, as released
HALVINGS = 80  # of an interval of length 3 at most: to the last bit


def draw(theta: torch.Tensor, samples: int, generator: torch.Generator) -> torch.Tensor:
    """(samples, units) bool: each unit is kept with its own probability."""
    return torch.rand((samples, len(theta)), generator=generator, dtype=torch.float64) < theta


def gradient(
    losses: torch.Tensor, masks: torch.Tensor, theta: torch.Tensor, baseline: float | None, precond: Precond
) -> torch.Tensor:
    """REINFORCE's estimate of the gradient of the expected loss (methods 10.2), from the losses (samples,) of masks
    (samples, units) that `draw` made of theta.

    baseline None: what is subtracted from each loss is the mean of the others, which makes the estimate unbiased; of a
    single loss it is 0. precond: "none" is the gradient itself, "sqrt" that times sqrt(theta (1 - theta)), unit by
    unit. The sum is divided by samples - 1, as released.
    """
    spread = (theta + TINY) * (1 - theta + TINY)
    apart = (masks.double() - theta) / (spread.sqrt() if precond == "sqrt" else spread)
    centre = float(losses.mean()) if baseline is None else baseline
    return ((losses - centre)[:, None] * apart).sum(dim=0) / max(len(losses) - 1, 1)


def projected(theta: torch.Tensor, keep: float) -> torch.Tensor:
    """The nearest vector with mean `keep` in [LEAST, MOST], or in as much more as `keep` needs: clip(theta - v) with
    one v, found by bisection."""
    least, most, wanted = min(LEAST, keep), max(MOST, keep), keep * len(theta)
    low, high = float(theta.min()) - most, float(theta.max()) - least
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if float((theta - middle).clamp(least, most).sum()) > wanted:
            low = middle
        else:
            high = middle
    return (theta - high).clamp(least, most)


def moved(average: float, loss: float, window: int) -> float:
    """The moving average of the steps' mean losses, NaN before the first."""
    return loss if math.isnan(average) else (1 - 1 / window) * average + loss / window
