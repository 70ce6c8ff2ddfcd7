"""What one pass over a block tells structured pruning: the inputs of o and down, and how far the block turns its hidden
states."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from checkpoints.discovery import LinearRef
from pruning.evidence.moments import InputWatch, Sums, merge
from pruning.parallel import ordered_map
from workloads.errors import NotForThisModel

IMPORTANCES = ("angular", "cosine", "mse", "mae", "size")
UNKNOWN = dict.fromkeys(IMPORTANCES, float("nan"))
CACHED_TOKENS = 64  # whose float64 states fit the cache


@dataclass
class Fluctuation:
    """FLAP's released statistic of a stream of sequences, in closed form: with m_k the mean over the tokens of
    sequences 1..k of N, sum_k (k-1) / (k (N-1)) sum_t (x_kt - m_k)^2. It depends on the order of the sequences."""

    sequences: int = 0
    tokens: int = 0
    total: torch.Tensor | None = None
    weighted: torch.Tensor | None = None

    def add(self, total: torch.Tensor, energy: torch.Tensor, tokens: int) -> None:
        """One sequence: (in,) float64 sums of its inputs and of their squares."""
        self.sequences += 1
        self.tokens += tokens
        self.total = total if self.total is None else self.total + total
        mean = self.total / self.tokens
        spread = energy - 2 * mean * total + tokens * mean.square()
        share = (self.sequences - 1) / self.sequences * spread
        self.weighted = share if self.weighted is None else self.weighted + share

    @property
    def value(self) -> torch.Tensor:
        assert self.weighted is not None
        return self.weighted / max(1, self.sequences - 1)


@dataclass
class BlockEvidence:
    """`sums` by the names of outputs; `importance` by IMPORTANCES, sums over `tokens` of what the block does to a
    token's hidden state; `fluctuations` only where asked for, and not of experts; `gradients` of all matrices, by which
    sum over the sequences it is (pruning/evidence/gradients.py), then by name."""

    samples: int
    tokens: int = 0
    sums: Sums = field(default_factory=dict)
    importance: dict[str, float] = field(default_factory=lambda: dict.fromkeys(IMPORTANCES, 0.0))
    fluctuations: dict[str, Fluctuation] = field(default_factory=dict)
    gradients: Mapping[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)

    def misses(self, name: str) -> bool:
        """Whether text was run, and none of it reached an output."""
        unseen = bool(self.tokens) and name not in self.sums
        return unseen or (bool(self.gradients) and not any(bool(g[name].any()) for g in self.gradients.values()))

    def norm(self, name: str, features: int) -> torch.Tensor:
        """(in,) float64 sqrt(a), a_j = mean over sequences of sum_t x_tj^2 (methods 0.5); zeros where nothing came
        in."""
        moments = self.sums.get(name)
        return torch.zeros(features, dtype=torch.float64) if moments is None else (moments.energy / self.samples).sqrt()

    def mean(self, name: str, features: int) -> torch.Tensor:
        """(in,) float64 over all tokens."""
        moments = self.sums.get(name)
        if moments is None or moments.total is None or not moments.tokens:
            return torch.zeros(features, dtype=torch.float64)
        return moments.total / moments.tokens

    def variance(self, name: str, features: int) -> torch.Tensor:
        """(in,) float64 over all tokens."""
        moments = self.sums.get(name)
        if moments is None or not moments.tokens:
            return torch.zeros(features, dtype=torch.float64)
        return (moments.energy / moments.tokens - self.mean(name, features).square()).clamp(min=0)

    def hessian(self, name: str) -> torch.Tensor:
        """(in, in) float32, where it was asked for. Raises NotForThisModel where no token came in."""
        moments = self.sums.get(name)
        if moments is None or moments.hessian is None:
            raise NotForThisModel(
                f"{name}: no calibration token reached it, so its units have no order; give more samples"
            )
        return moments.hessian


def observe(
    block: nn.Module,
    run: Callable[[torch.Tensor], torch.Tensor],
    inputs: list[torch.Tensor],
    outputs: list[LinearRef],
    samples: int,
    hessian: bool = False,
    released: bool = False,
) -> tuple[BlockEvidence, list[torch.Tensor]]:
    """(evidence, the block's outputs) of a loaded block over batches of hidden states (batch, seq, hidden)."""
    found, after = BlockEvidence(samples), []
    plain = [ref for ref in outputs if ref.expert is None] if released else []
    with InputWatch(block, outputs, hessian, total=True) as watch, _by_sequence(block, plain) as sequences:

        def one(batch: torch.Tensor):
            output, sums = watch.observe(lambda: run(batch))
            turned = importance(batch, output) if batch.shape == output.shape else UNKNOWN
            return output, sums, turned, sequences(len(batch))

        for batch, (output, sums, turned, streams) in zip(inputs, ordered_map(one, inputs, large=hessian), strict=True):
            merge(found.sums, sums)
            found.tokens += batch.shape[0] * batch.shape[1]
            for name, value in turned.items():
                found.importance[name] += value  # NaN of a unit that changes the shape of states
            for name, (total, energy, tokens) in streams.items():
                stream = found.fluctuations.setdefault(name, Fluctuation())
                for pair in zip(total, energy, strict=True):
                    stream.add(*pair, tokens)
            after.append(output)
    return found, after


def importance(before: torch.Tensor, after: torch.Tensor) -> dict[str, float]:
    """Sums over tokens (CFSP, methods 6.1): arccos(cos)/pi, 1 - cos, mean (u-v)^2, mean |u-v|, and mean |u| (methods
    14.2). The cosine is clamped to [-1, 1], where the released program takes NaN from one that rounding puts above 1;
    undefined ones count 0.5."""
    pairs = zip(*(states.flatten(0, -2).split(CACHED_TOKENS) for states in (before, after)), strict=True)
    sums = torch.cat([_of_tokens(u.double(), v.double()) for u, v in pairs], dim=1).sum(dim=1)
    return dict(zip(IMPORTANCES, sums.tolist(), strict=True))


def _of_tokens(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """(5, tokens), as IMPORTANCES, of float64 (tokens, hidden)."""
    dot, apart = torch.linalg.vecdot, u - v
    cosine = (dot(u, v) / (dot(u, u) * dot(v, v)).sqrt()).nan_to_num(0.5).clamp(-1, 1)
    mse = dot(apart, apart) / u.shape[-1]
    return torch.stack([cosine.arccos() / torch.pi, 1 - cosine, mse, apart.abs_().mean(dim=-1), u.abs().mean(dim=-1)])


@contextmanager
def _by_sequence(block: nn.Module, outputs: list[LinearRef]) -> Iterator[Callable]:
    """Within it, a call gives what came into `outputs` since the last one of its thread, sequence by sequence."""
    local = threading.local()

    def hook(ref: LinearRef):
        def note(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            vars(local).setdefault("seen", {}).setdefault(ref.layer.name, []).append(ref.inputs(args[0]).detach())

        return note

    handles = [block.get_submodule(ref.module_path).register_forward_pre_hook(hook(ref)) for ref in outputs]

    def take(sequences: int) -> dict[str, tuple[torch.Tensor, torch.Tensor, int]]:
        seen = vars(local).pop("seen", {})
        found = {}
        for name, calls in seen.items():
            inputs = torch.cat(calls)
            each = inputs.reshape(sequences, -1, inputs.shape[-1]).double()
            found[name] = (each.sum(dim=1), each.square().sum(dim=1), each.shape[1])
        return found

    try:
        yield take
    finally:
        for handle in handles:
            handle.remove()
