"""Which weights of a run go first: what its rule, its pattern, its allocation or its plan would take, and a share of it
while a schedule is under way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from checkpoints.discovery import LinearRef
from pruning.rules import global_keeper, keep_by_layer, keep_by_row
from workloads.errors import UserError
from workloads.patterns import NofM


@dataclass(frozen=True)
class Choosing:
    """keeper: (matrix, scores) -> keep at the full target, as of a method that scores once. target: of all `refs`
    together, for the rule global, which compares them all; patterns: by name, None where a matrix follows none."""

    refs: Sequence[LinearRef]
    keeper: Callable[[LinearRef, torch.Tensor], torch.Tensor]
    patterns: Mapping[str, NofM | None]
    rule: str
    target: float

    def keep(self, scores: Sequence[torch.Tensor], share: float) -> list[torch.Tensor]:
        """Masks (rows, cols), True = stays, when `share` of what has to go goes, by scores (rows, cols) float32 of
        every matrix, low first. At share 1 these are exactly the masks of `keeper`; below, of the weights that it
        would take the lowest go: of each row the same number under the rule row, else of the whole matrix (of runs of
        N:M too) or, under the rule global, of the model. Raises UserError for scores that are not finite."""
        for ref, own in zip(self.refs, scores, strict=True):
            if not bool(torch.isfinite(own).all()):
                raise UserError(f"{ref.layer.name}: a score is NaN or Inf; use a lower `lr` or `dtype=float32`")
        if self.rule == "global" and not any(self.patterns.values()):
            choose = global_keeper(lambda: iter(scores), self.target * min(share, 1.0))
            return [choose(own).to(own.device) for own in scores]
        return [self._of_matrix(ref, own, share) for ref, own in zip(self.refs, scores, strict=True)]

    def _of_matrix(self, ref: LinearRef, scores: torch.Tensor, share: float) -> torch.Tensor:
        keep = self.keeper(ref, scores)
        if share >= 1:
            return keep
        going = share * int((~keep).sum()) / keep.numel()
        by_rule = keep_by_row if self.rule == "row" and self.patterns[ref.layer.name] is None else keep_by_layer
        return by_rule(scores.masked_fill(keep, torch.inf), going)
