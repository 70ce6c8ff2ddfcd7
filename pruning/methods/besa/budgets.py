"""BESA's budgets learned as what they are: the share of its row (or matrix) that each prunes, moved by Adam.

A step is a number of the same meaning for every block: at most about `step` of sparsity, whatever the loss's scale,
the block's size or the number of sequences.

    gradient      dLoss/dcount is what one more pruned weight costs. Loss along a mask m is dLoss/dW_hat * W dm, so a
                  weight costs about -dLoss/dW_hat * W; the mean of it over the ranks within WINDOW of the row's own
                  threshold, as many kept as pruned ones, in which second-order terms cancel
    constraint    the weighted mean over the scope is taken off (a Lagrange multiplier), and budgets are shifted back to
                  the exact total after every step; no penalty, no beta. Where the job has costs, the total is what the
                  matrices cost on a machine (constraint.py)
    steps         rounds of ROUND sequences, in each of which the step falls from its first size to 0 as a cosine does;
                  each begins at half the size of the one before. Few sequences are taken again and again
    end           when a round lowers the error on sequences held out from training by less than ENOUGH; at most
                  `rounds`. The best budgets seen stay. If even ones (the ranking's own masks) are best, they are taken
"""

import math
from dataclasses import dataclass, field
from functools import partial

import numba
import numpy as np
import torch

from pruning.block_job import BlockJob
from pruning.methods.besa.constraint import constraint_of, tie, weighed
from pruning.methods.besa.matrices import RankedMatrix, final_counts, scopes
from pruning.methods.besa.settings import BesaSettings
from pruning.training import StandIn, output_error

WINDOW = 0.05  # of a row to each side of its threshold
ROUND = 32  # steps
ENOUGH = 0.03
HELD_OUT = 8  # one sequence in so many, and at most so many
MEMORY = 0.9, 0.99  # Adam's, of gradients and of their squares
STEP_MEMORY = 0.5  # size of the first step of a round against that of the round before


@dataclass
class BudgetMatrix(RankedMatrix):
    """budgets (groups,) sparsities; cost (groups,) float32: the loss that one more pruned weight adds, as of the
    running step."""

    budgets: torch.Tensor
    cost: torch.Tensor = field(default_factory=lambda: torch.empty(0), kw_only=True)

    def __post_init__(self) -> None:
        self.cost = torch.zeros_like(self.budgets)
        self.mean, self.square = torch.zeros_like(self.budgets), torch.zeros_like(self.budgets)

    def wanted(self) -> torch.Tensor:
        return self.budgets.expand(len(self.weight)) if len(self.budgets) == 1 else self.budgets

    def counts(self, by_row: torch.Tensor) -> torch.Tensor:
        return (by_row * self.width + 0.5).floor().long().clamp(0, self.width)

    @torch.no_grad()
    def receive(self, gradient: torch.Tensor) -> None:
        reach = max(1, int(WINDOW * self.width))
        low, high = (self.pruned - reach).clamp_min(0), (self.pruned + reach).clamp_max(self.width)
        taken = ((high - low) * self.unit).float()
        sums = sums_between(gradient, self.base, self.ranks, low, high)
        self.cost = -sums / taken if len(self.budgets) == len(sums) else (-sums.sum() / taken.sum()).reshape(1)
        self.receive_clipping(gradient)


def sums_between(
    gradient: torch.Tensor, weight: torch.Tensor, ranks: torch.Tensor, low: torch.Tensor, high: torch.Tensor
) -> torch.Tensor:
    """(rows,) float32: sum of gradient * weight, (rows, cols) float32, over the entries of a row with low <= rank <
    high, (rows,)."""
    low, high = low.to(ranks.dtype), high.to(ranks.dtype)
    if gradient.device.type != "cpu":
        return (gradient * weight * ((ranks >= low[:, None]) & (ranks < high[:, None]))).sum(dim=1)
    return torch.from_numpy(
        _between(gradient.numpy(), weight.contiguous().numpy(), ranks.numpy(), low.numpy(), high.numpy())
    ).float()


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _between(gradient, weight, ranks, low, high):  # pragma: no cover (compiled)
    rows, cols = gradient.shape
    sums = np.zeros(rows, np.float32)
    for r in range(rows):
        total, first, last = np.float32(0), low[r], high[r]
        for c in range(cols):
            inside = (ranks[r, c] >= first) & (ranks[r, c] < last)
            total += gradient[r, c] * weight[r, c] if inside else np.float32(0)
        sums[r] = total
    return sums


class BudgetTraining:
    """The training of one block: budgets of the `free` matrices, and all clipping."""

    def __init__(self, settings: BesaSettings, job: BlockJob, matrices: list[BudgetMatrix], free: list[BudgetMatrix]):
        self._settings, self._job, self._matrices, self._free = settings, job, matrices, free
        inputs = job.sequences(job.inputs)
        pairs = list(
            zip(inputs, job.sequences(job.outputs if settings.reference == "local" else job.dense_outputs), strict=True)
        )
        apart = held_out(len(pairs))
        self._apart = [pairs[i] for i in apart] or pairs
        self._pairs = [pair for i, pair in enumerate(pairs) if i not in apart]
        self._of = {matrix.ref: matrix for matrix in matrices}
        clipped = [p for b in matrices if b.clipping is not None for p in b.clipping.parameters()]
        self._clipper = torch.optim.AdamW(clipped, lr=settings.clip_lr, weight_decay=0.0) if clipped else None
        self._steps = 0
        self._even = final_counts(matrices, [torch.full((len(b.weight),), b.target) for b in matrices])
        self._constraint = constraint_of(settings.imbalance, job.curves)

    def learn(self) -> list[torch.Tensor]:
        """(rows,) ranks pruned of every matrix."""
        job = self._job
        with StandIn(job.block, [matrix.ref for matrix in self._matrices]) as stand_in:
            best, counts = self._error(stand_in, self._even), self._even
            before = even = best
            for number in range(self._settings.rounds):
                self._round(stand_in, self._settings.step * STEP_MEMORY**number)
                found = self._constraint.counts(self._matrices)
                error = self._error(stand_in, found)
                if error < best:
                    best, counts = error, found
                fell, before = 1 - error / before if before > 0 else 0.0, error
                if fell < ENOUGH:
                    break
            else:
                if fell > 2 * ENOUGH and self._free:
                    job.warn(
                        f"{job.name}: its error on held-out sequences still fell by {fell:.1%} in the last of "
                        f"{self._settings.rounds} rounds of {ROUND} steps; more `rounds` would lower it further"
                    )
            if self._clipper is not None and counts is not self._even:
                even = self._error(stand_in, self._even)  # its clipping was not learned when it was looked at first
                best, counts = (even, self._even) if even < best else (best, counts)
        if self._free:
            job.facts |= {
                "budgets": "even" if counts is self._even else "learned",
                "steps": self._steps,
                "held_out_error": best,
                "held_out_error_of_even_budgets": even,
            }
            if counts is self._even:
                job.warn(
                    f"{job.name}: learned budgets were no better than even ones on held-out sequences; even "
                    "ones are used"
                )
        return counts

    def _round(self, stand_in: StandIn, size: float) -> None:
        for step in range(ROUND):
            for matrix in self._matrices:
                matrix.write(stand_in.view(matrix.ref))
                matrix.cost = torch.zeros_like(matrix.budgets)
            states, wanted = self._pairs[self._steps % len(self._pairs)]
            if self._clipper is not None:
                self._clipper.zero_grad()
            stand_in.backward(
                partial(self._loss, states, wanted), lambda ref, gradient: self._of[ref].receive(gradient)
            )
            self._steps += 1
            if self._clipper is not None:
                self._clipper.step()
            self._move(size * (1 + math.cos(math.pi * (step + 0.5) / ROUND)) / 2)

    def _loss(self, states: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        device = self._job.device
        output = self._job.run(states.to(device))
        return self._settings.alpha * output_error(output, wanted.to(device), self._settings.measure)

    @torch.no_grad()
    def _move(self, size: float) -> None:
        """One step of Adam, at most about `size`, and back to the total."""
        fast, slow = MEMORY
        for group in scopes(self._free):
            members = [self._free[i] for i in group]
            prices = self._constraint.prices(members)
            worth = sum(weighed(b.n_weights, p, p) for b, p in zip(members, prices, strict=True))
            level = sum(weighed(b.n_weights, b.cost.double(), p) for b, p in zip(members, prices, strict=True))
            level /= worth
            for matrix, price in zip(members, prices, strict=True):
                off = torch.where(matrix.cost != 0, matrix.cost - level * price, 0.0)  # 0: no token reached it
                matrix.mean.lerp_(off, 1 - fast)
                matrix.square.lerp_(off.square(), 1 - slow)
                mean, square = matrix.mean / (1 - fast**self._steps), matrix.square / (1 - slow**self._steps)
                matrix.budgets -= size * mean / square.sqrt().clamp_min(torch.finfo(torch.float32).tiny)
                if self._settings.lanes > 1:
                    tie(matrix.budgets, self._settings.lanes)
            self._constraint.restore(members)

    @torch.no_grad()
    def _error(self, stand_in: StandIn, counts: list[torch.Tensor]) -> float:
        """Mean output error over the held-out sequences under these counts."""
        for matrix, of_rows in zip(self._matrices, counts, strict=True):
            matrix.write(stand_in.view(matrix.ref), of_rows)
        return math.fsum(float(self._loss(*pair)) for pair in self._apart) / len(self._apart)


def held_out(sequences: int) -> set[int]:
    """Which of so many sequences no step is taken on; none if there is one only."""
    count = min(HELD_OUT, max(1, sequences // HELD_OUT)) if sequences > 1 else 0
    return {(i + 1) * sequences // count - 1 for i in range(count)}
