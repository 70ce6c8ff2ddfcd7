"""What BESA ranks, masks and shares out, however its budgets are learned: a matrix under ranks, of which every row
prunes a count."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from checkpoints.discovery import LinearRef
from pruning.methods.besa.coefficients import whole_counts
from pruning.methods.besa.ranks import keep_above, write_masked
from pruning.quantizers.clipping import LearnableClipping


@dataclass
class RankedMatrix:
    """One matrix in training. ranks (rows, cols) within runs of `width` inputs, the whole row unless `in_runs` (N:M); a
    count step is `unit` weights a row."""

    ref: LinearRef
    weight: torch.Tensor
    ranks: torch.Tensor
    width: int
    unit: int
    in_runs: bool
    target: float
    clipping: LearnableClipping | None = field(default=None, kw_only=True)
    # Of the running step: the weight before its mask, and (rows,) ranks pruned.
    base: torch.Tensor = field(default_factory=lambda: torch.empty(0), kw_only=True)
    pruned: torch.Tensor = field(default_factory=lambda: torch.empty(0), kw_only=True)

    @property
    def n_weights(self) -> int:
        return self.weight.numel()

    def wanted(self) -> torch.Tensor:
        """(rows,) sparsity of each row, as learned so far."""
        raise NotImplementedError

    def counts(self, by_row: torch.Tensor) -> torch.Tensor:
        """(rows,) ranks pruned: rounded down, as released (short of float32 noise); to the nearest where a run has
        few."""
        return (by_row * self.width + (0.5 if self.in_runs else 1e-3)).floor().long()

    @torch.no_grad()
    def write(self, target: torch.Tensor, counts: torch.Tensor | None = None) -> None:
        """target (rows, cols) becomes what stands in for the weight now, or under `counts` (rows,)."""
        self.base = self.weight if self.clipping is None else self.clipping.quantize().dequantize()
        self.pruned = self.counts(self.wanted()) if counts is None else counts
        write_masked(target, self.base, self.ranks, self.pruned)

    def receive(self, gradient: torch.Tensor) -> None:
        """dLoss/dW_hat (rows, cols) arrived."""
        raise NotImplementedError

    def receive_clipping(self, gradient: torch.Tensor) -> None:
        if self.clipping is not None:
            for logits in self.clipping.parameters():
                logits.grad = None
            self.clipping.backward(gradient * keep_above(self.ranks, self.pruned))


def scopes(matrices: Sequence[RankedMatrix]) -> list[list[int]]:
    """Which matrices share a target: all of a block; each alone where N:M budgets must average N."""
    together = [i for i, matrix in enumerate(matrices) if not matrix.in_runs]
    return ([together] if together else []) + [[i] for i, matrix in enumerate(matrices) if matrix.in_runs]


@torch.no_grad()
def final_counts(matrices: Sequence[RankedMatrix], wanted: Sequence[torch.Tensor] | None = None) -> list[torch.Tensor]:
    """(rows,) ranks pruned a matrix, exact in sum; of (rows,) sparsities `wanted` where they are not those learned."""
    counts: dict[int, torch.Tensor] = {}
    by_row = [matrix.wanted() for matrix in matrices] if wanted is None else wanted
    for group in scopes(matrices):
        members = [matrices[i] for i in group]
        total = math.floor(sum(b.n_weights * b.target for b in members) + 1e-6)
        sparsities = [by_row[i].cpu() for i in group]
        found = whole_counts(sparsities, [b.width for b in members], [b.unit for b in members], total)
        counts |= dict(zip(group, found, strict=True))
    return [counts[i].to(matrix.weight.device) for i, matrix in enumerate(matrices)]
