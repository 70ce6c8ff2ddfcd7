"""Feature flow of networks that are no language models (methods 14.1): how long and how bent the path of a sample's
states through the units is, and how large the activations that its channels give.

Units whose states have one shape are linked, others not (Wu et al.: "only layers of equal shape"); with x_l the states
at the end of such a run of units, z what enters a matrix whose input channels can be taken out, sums over samples

    length      sum of mean |x_l - x_(l-1)|
    curvature   sum of mean |x_(l+1) - 2 x_l + x_(l-1)|
    activation  sum over those matrices of mean |z|

means over all channels and positions. They are added to the distance to the unpruned network's outputs, which starts at
0; so each is weighted by (the mean distance between outputs of different samples / itself) on the first batch.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import nn

from checkpoints.network import Network
from checkpoints.network_matrices import NetworkRef
from pruning.forward.network_outputs import differences
from pruning.recovery.flow_objective import added, flow
from pruning.recovery.network_objective import OutputObjective
from pruning.recovery.objective import Batch


@dataclass
class Seen:
    """Of one forward pass: the states (samples, ...) that enter the first unit and leave each, inputs of readers."""

    states: list[torch.Tensor] = field(default_factory=list)
    inner: list[torch.Tensor] = field(default_factory=list)


class NetworkFlow(OutputObjective):
    """weights: of length, curvature, activation. readers: the matrices that read channels which can be taken out."""

    def __init__(self, network: Network, weights: Sequence[float], readers: Sequence[NetworkRef]):
        super().__init__(network)
        self._weights, self._scale = list(weights), [0.0] * len(weights)
        self._own = threading.local()
        self._handles = [network.blocks[0].register_forward_pre_hook(self._enter)]
        self._handles += [unit.register_forward_hook(self._leave) for unit in network.blocks]
        self._handles += [ref.module.register_forward_pre_hook(self._inside) for ref in readers]

    def measure(self, batch: Batch) -> None:
        """Sets what the weights are relative to, from a batch and the network as it is."""
        with torch.no_grad():
            terms = [float(term) for term in self._parts(batch)[1:]]
        whole = differences(self._family.distance, batch[1]) * len(batch[1])
        self._scale = [w * whole / term if term else 0.0 for w, term in zip(self._weights, terms, strict=True)]

    def __call__(self, piece: Batch) -> torch.Tensor:
        loss, *terms = self._parts(piece)
        return loss + sum(scale * term for scale, term in zip(self._scale, terms, strict=True))

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _parts(self, piece: Batch) -> list[torch.Tensor]:
        """The distance and the terms, sums over samples."""
        with self._recording() as seen:
            loss = self.own_loss(piece)
        flat = [state.float().flatten(1) for state in seen.states]
        shapes = iter([state.shape[1:] for state in seen.states])
        paths = [flow(list(run)) for _, run in groupby(flat, key=lambda _: next(shapes))]
        length, curvature = (added(list(parts), loss) for parts in zip(*paths, strict=True))
        inner = [z.float().flatten(1).abs().mean(dim=1).sum() for z in seen.inner]
        return [loss, length, curvature, added(inner, loss)]

    @contextmanager
    def _recording(self) -> Iterator[Seen]:
        self._own.seen = Seen()
        try:
            yield self._own.seen
        finally:
            self._own.seen = None

    def _enter(self, unit: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if (seen := getattr(self._own, "seen", None)) is not None:
            seen.states.append(args[0])

    def _leave(self, unit: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if (seen := getattr(self._own, "seen", None)) is not None:
            seen.states.append(output)

    def _inside(self, module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if (seen := getattr(self._own, "seen", None)) is not None:
            seen.inner.append(args[0])
