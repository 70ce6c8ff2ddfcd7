"""Exactly k of n, drawn (methods 15.1): Gumbel noise on logits, the k highest, and the gradient as if the choice were
soft. Groups are rows of (groups, n) tensors, k an own number for each of them.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from checkpoints.discovery import LinearRef

TINY = torch.finfo(torch.float32).tiny


@dataclass
class Drawn:
    """One matrix in training. phi (groups, n) logits; kept (groups,) how many stay; places (groups, n): which entry has
    rank 0, 1, ... by the score, the lowest first; drawn: phi with the running step's noise."""

    ref: LinearRef
    weight: torch.Tensor
    phi: nn.Parameter
    kept: torch.Tensor
    places: torch.Tensor
    tile: tuple[int, int]
    drawn: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    @classmethod
    def of(
        cls, ref: LinearRef, weight: torch.Tensor, scores: torch.Tensor, keep: torch.Tensor, spread: float,
        tile: tuple[int, int],
    ) -> "Drawn":  # fmt: skip
        """From (groups, n) scores and the mask that they give."""
        phi = nn.Parameter(spread * standardized_log(scores))
        return cls(ref, weight, phi, keep.sum(dim=1), scores.argsort(dim=1, stable=True), tile)

    @property
    def width(self) -> int:
        return self.phi.shape[1]

    def whole(self, keep: torch.Tensor) -> torch.Tensor:
        """(rows, cols) of a mask (groups, n)."""
        rows, cols = self.weight.shape
        made = keep.reshape(rows // self.tile[0], cols // self.tile[1])
        if self.tile == (1, 1):
            return made
        return made.repeat_interleave(self.tile[0], dim=0).repeat_interleave(self.tile[1], dim=1)

    @torch.no_grad()
    def chosen(self) -> torch.Tensor:
        """(rows, cols) bool, without noise."""
        return self.whole(highest(self.phi, self.kept, self.places))


def standardized_log(scores: torch.Tensor) -> torch.Tensor:
    """log(score) of (groups, n), mean 0 and standard deviation 1 in each group; zeros where all are equal. Scores of 0
    count as a hundredth of the smallest other one."""
    least = torch.where(scores > 0, scores, torch.inf).amin(dim=1, keepdim=True).nan_to_num(posinf=1.0)
    logs = torch.maximum(scores, least / 100).clamp_min(TINY).log()
    apart = logs - logs.mean(dim=1, keepdim=True)
    spread = apart.square().mean(dim=1, keepdim=True).sqrt()
    return torch.where(spread > 1e-6, apart / spread.clamp_min(1e-6), torch.zeros_like(apart))


def gumbel(shape: torch.Size, draws: torch.Generator) -> torch.Tensor:
    """float32 -log(-log(u)), u uniform."""
    uniform = torch.rand(shape, generator=draws).clamp_(TINY, 1 - 6e-8)
    return -(-uniform.log()).log()


def highest(values: torch.Tensor, kept: torch.Tensor, places: torch.Tensor | None = None) -> torch.Tensor:
    """(groups, n) bool: the `kept` (groups,) highest of each group; of equals the later, in the order of `places`."""
    width = values.shape[1]
    ordered = values if places is None else values.gather(1, places)
    order = ordered.argsort(dim=1, stable=True)
    if places is not None:
        order = places.gather(1, order)
    stays = torch.arange(width, device=values.device)[None, :] >= width - kept[:, None]
    return torch.zeros_like(values, dtype=torch.bool).scatter_(1, order, stays)


def soft_gradient(
    drawn: torch.Tensor, kept: torch.Tensor, towards: torch.Tensor, temperature: float,
    form: Literal["sequential", "sigmoid"],
) -> torch.Tensor:  # fmt: skip
    """(groups, n) dLoss/dE, from dLoss/dmask `towards`, of the mask that `form` puts in the place of the hard one."""
    if form == "sigmoid":
        soft = soft_sigmoid(drawn, kept, temperature)
        return towards * soft * (1 - soft) / temperature
    with torch.enable_grad():
        given = drawn.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(soft_sequential(given, kept, temperature), given, towards)
    return gradient


def soft_sigmoid(drawn: torch.Tensor, kept: torch.Tensor, temperature: float) -> torch.Tensor:
    """sigma((E - t) / tau), t (a constant for the gradient) half-way between the k-th and the next highest; 1 or 0
    where all or none stay."""
    width = drawn.shape[1]
    down = drawn.sort(dim=1, descending=True).values
    last = down.gather(1, (kept - 1).clamp_min(0)[:, None])
    following = down.gather(1, kept.clamp_max(width - 1)[:, None])
    soft = torch.sigmoid((drawn - (last + following) / 2) / temperature)
    soft = torch.where(kept[:, None] == 0, torch.zeros_like(soft), soft)
    return torch.where(kept[:, None] == width, torch.ones_like(soft), soft)


def soft_sequential(drawn: torch.Tensor, kept: torch.Tensor, temperature: float) -> torch.Tensor:
    """sum_i softmax of E / tau without the i - 1 highest, i = 1 .. k. With e = E / tau sorted downwards and Z_i the sum
    of exp(e_l) from the i-th on, entry j gets exp(e_j) sum_{i <= min(j, k)} 1 / Z_i: two running sums, whatever k."""
    down, order = (drawn / temperature).sort(dim=1, descending=True, stable=True)
    rest = down.flip(1).logcumsumexp(dim=1).flip(1)  # log Z_i
    upto = (-rest).logcumsumexp(dim=1)
    place = torch.arange(drawn.shape[1], device=drawn.device)[None, :]
    last = torch.minimum(place.expand_as(down), (kept - 1).clamp_min(0)[:, None])
    soft = (down + upto.gather(1, last)).exp()
    soft = torch.where(kept[:, None] == 0, torch.zeros_like(soft), soft)
    return torch.zeros_like(drawn).scatter(1, order, soft)


def entropy_gradient(phi: torch.Tensor) -> torch.Tensor:
    """(groups, n) of the mean over groups of H(softmax(phi)): -p (log p + H) / groups."""
    logs = phi.log_softmax(dim=1)
    share = logs.exp()
    entropy = -(share * logs).sum(dim=1, keepdim=True)
    return -share * (logs + entropy) / len(phi)


@torch.no_grad()
def confidence(phi: torch.Tensor, kept: torch.Tensor) -> float:
    """Mean over groups of the share of softmax(phi) on the `kept` highest."""
    return float(torch.where(highest(phi, kept), phi.softmax(dim=1), 0).sum(dim=1).mean())


def mean_overlap(keep: torch.Tensor) -> float:
    """Mean over pairs of groups of |a and b| / mean k, of masks (groups, n); 1 for one group, or where none stay."""
    groups, mean = len(keep), float(keep.float().sum(dim=1).mean())
    if groups < 2 or mean == 0:
        return 1.0
    by_place = keep.sum(dim=0).double()
    return float((by_place * (by_place - 1)).sum()) / (groups * (groups - 1)) / mean
