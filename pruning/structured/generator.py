"""A network that says of every unit whether it stays, from what a set of sequences does to it (methods 16), and gates
that are drawn so that the loss has a gradient towards them.

Of a unit u of block l, over the tokens of the set (z: what it gives to o or down; a kv group has several features):

    log mean z^2, log mean |z|, log variance, log norm of its columns, log norm of its rows, l / L, 1 of a kv group, and
    the first once more, standardised in its group

with the mean and the largest of each over its group and the block's angular value (methods 6.1): 25 inputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from pruning.structured.choice import Scored, standardized
from pruning.structured.judge import Judge
from pruning.structured.units import UnitGroup
from workloads.removal import KV_GROUP

PER_UNIT = 8
INPUTS = 3 * PER_UNIT + 1
TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1  # of hard-concrete gates
TINY = 1e-12
HALVINGS = 60


@dataclass(frozen=True)
class Seen:
    """What came into the output of one group, sequence by sequence: tokens (sequences,), and (sequences, in) float64
    sums of squares, of absolute values and of the values themselves."""

    tokens: torch.Tensor
    energy: torch.Tensor
    absolute: torch.Tensor
    total: torch.Tensor

    def of(self, members: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(in,) each: mean square, mean absolute value, variance, of the sequences `members`; zeros where none came."""
        tokens = self.tokens[members].sum().clamp_min(1)
        square, size, mean = (part[members].sum(dim=0) / tokens for part in (self.energy, self.absolute, self.total))
        return square, size, (square - mean.square()).clamp_min(0)


def seen_by_sequence(model: Judge, groups: Scored, ids: torch.Tensor) -> dict[str, Seen]:
    """By a group's key, of ids (sequences, tokens) or samples (samples, ...) through the whole model."""
    parts: dict[str, list[list[torch.Tensor]]] = {group.key: [] for group, _ in groups}
    for sequence in ids.split(1):
        here = {}
        for group, _ in groups:
            zeros = torch.zeros(group.output.layer.in_features, dtype=torch.float64)
            here[group.key] = [torch.zeros((), dtype=torch.float64), zeros, zeros.clone(), zeros.clone()]

        def note(key: str, inputs: torch.Tensor, *, here: dict[str, list[torch.Tensor]] = here) -> None:
            flat = inputs.double().cpu()
            added = (torch.tensor(float(len(flat))), flat.square().sum(dim=0), flat.abs().sum(dim=0), flat.sum(dim=0))
            for total, more in zip(here[key], added, strict=True):
                total += more

        model.watch(sequence, note)
        for key, sums in here.items():
            parts[key].append(sums)
    return {key: Seen(*(torch.stack(column) for column in zip(*rows, strict=True))) for key, rows in parts.items()}


def norms(model: Judge, group: UnitGroup) -> tuple[torch.Tensor, torch.Tensor]:
    """(count,) float64 norms of the columns and of the rows of every unit."""
    block = model.block(group.block)
    columns = group.output.matrix(block).double().square().sum(dim=0).cpu().reshape(group.count, -1).sum(dim=1)
    rows = torch.zeros(group.count, dtype=torch.float64)
    for ref, unit in group.members:
        rows.index_add_(0, torch.from_numpy(unit), ref.matrix(block).double().square().sum(dim=1).cpu())
    return columns.sqrt(), rows.sqrt()


class Features:
    """The inputs (units, INPUTS) float32 of all units for a set of sequences, standardised over the units as the whole
    calibration set shows them."""

    def __init__(self, model: Judge, groups: Scored, angular: Mapping[int, float], ids: torch.Tensor):
        self._groups, self._angular = [group for group, _ in groups], angular
        self._seen = seen_by_sequence(model, groups, ids)
        self._norms = {group.key: norms(model, group) for group in self._groups}
        self._depth = max(group.block for group in self._groups) + 1
        whole = self._raw(range(len(ids)))
        self._mean, self._spread = whole.mean(dim=0), whole.std(dim=0, unbiased=False)

    def of(self, members: Sequence[int]) -> torch.Tensor:
        apart = self._raw(members) - self._mean
        return torch.where(self._spread > 1e-9, apart / self._spread.clamp_min(1e-9), 0.0).float()

    def _raw(self, members: Sequence[int]) -> torch.Tensor:
        return torch.cat([self._of_group(group, list(members)) for group in self._groups])

    def _of_group(self, group: UnitGroup, members: list[int]) -> torch.Tensor:
        energy, size, variance = (
            each.reshape(group.count, -1).sum(dim=1).clamp_min(TINY).log() for each in self._seen[group.key].of(members)
        )
        columns, rows = (norm.clamp_min(TINY).log() for norm in self._norms[group.key])
        depth, kind = torch.full_like(rows, group.block / self._depth), float(group.kind == KV_GROUP)
        own = torch.stack(
            [energy, size, variance, columns, rows, depth, torch.full_like(rows, kind), standardized(energy)], dim=1
        )
        angular = torch.full((group.count, 1), self._angular[group.block], dtype=torch.float64)
        layer = [own.mean(dim=0).expand_as(own), own.amax(dim=0).expand_as(own)]
        return torch.cat([own, *layer, angular], dim=1)


class Generator(nn.Module):
    """Logits of staying: slope * the standardised score + MLP(features) + beta of its group; at first the score."""

    def __init__(self, groups: Scored, hidden: int, draws: torch.Generator):
        super().__init__()
        self.slope = nn.Parameter(torch.ones(()))
        self.beta = nn.Parameter(torch.zeros(len(groups)))
        self.first = nn.Parameter(torch.randn(hidden, INPUTS, generator=draws) / INPUTS**0.5)
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.last = nn.Parameter(torch.zeros(hidden))
        self.score = torch.cat([standardized(score) for _, score in groups]).float()
        self.owner = torch.repeat_interleave(
            torch.arange(len(groups)), torch.tensor([group.count for group, _ in groups])
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(units,) of (units, INPUTS)."""
        hidden = nn.functional.gelu(features @ self.first.T + self.bias)
        return self.slope * self.score + hidden @ self.last + self.beta[self.owner]


def within_budget(logits: torch.Tensor, kinds: torch.Tensor, keep: float) -> torch.Tensor:
    """logits (units,), those of each kind (units,) moved by one number so that their mean probability is `keep`. The
    number is no part of the gradient."""
    moved = logits
    for kind in kinds.unique():
        own = kinds == kind
        given = logits.detach()[own].double()
        low, high = -50.0 - float(given.max()), 50.0 - float(given.min())
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if float((given + middle).sigmoid().mean()) < keep else (low, middle)
        moved = torch.where(own, moved + high, moved)
    return moved


def gates(logits: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """Hard-concrete (Louizos, Welling, Kingma, ICLR 2018): (units,) in [0, 1], many exactly 0 or 1; above one half with
    probability sigmoid(logit)."""
    uniform = torch.rand(logits.shape, generator=draws).clamp(1e-6, 1 - 1e-6)
    soft = torch.sigmoid((uniform.log() - (1 - uniform).log() + logits) / TEMPERATURE)
    return (soft * (HIGH - LOW) + LOW).clamp(0, 1)


def bernoulli_kl(logits: torch.Tensor, keep: float) -> torch.Tensor:
    """Mean over units of KL(Bernoulli(sigmoid(logit)) || Bernoulli(keep))."""
    log_in, log_out = nn.functional.logsigmoid(logits), nn.functional.logsigmoid(-logits)
    prior = torch.tensor(keep).clamp(1e-6, 1 - 1e-6)
    return (log_in.exp() * (log_in - prior.log()) + log_out.exp() * (log_out - (1 - prior).log())).mean()
