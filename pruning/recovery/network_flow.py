"""Feature flow of networks that are no language models (methods 14.1): how long and how bent the path of a sample's
states through the units is, and how large the activations that its channels give.

Units in a row whose states have one shape are linked, no others (Wu et al. link layers of equal shape alone); with x_l
the states between them, z what enters a matrix whose input channels can be taken out, sums over samples

    length      sum of mean |x_l - x_(l-1)|
    curvature   sum of mean |x_(l+1) - 2 x_l + x_(l-1)|
    activation  sum over those matrices of mean |z|

means over all channels and positions. They are added to the distance to the unpruned network's outputs, which starts at
0; so each is weighted by (the mean distance between outputs of different samples / itself) on the first batch.
"""

from collections.abc import Sequence
from itertools import groupby

import torch

from checkpoints.network import Network
from checkpoints.network_matrices import NetworkRef
from pruning.forward.network_outputs import differences
from pruning.recovery.flow_objective import added, flow
from pruning.recovery.network_objective import OutputObjective
from pruning.recovery.objective import Batch
from pruning.recovery.path import PathRecorder


class NetworkFlow(OutputObjective):
    """weights: of length, curvature, activation. readers: the matrices that read channels which can be taken out."""

    def __init__(self, network: Network, weights: Sequence[float], readers: Sequence[NetworkRef]):
        super().__init__(network)
        self._weights, self._scale = list(weights), [0.0] * len(weights)
        self._recorder = PathRecorder(network.blocks, [ref.module for ref in readers])

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
        self._recorder.close()

    def _parts(self, piece: Batch) -> list[torch.Tensor]:
        """The distance and the terms, sums over samples."""
        with self._recorder.recording() as path:
            loss = self.own_loss(piece)
        alike = groupby(path.states, key=lambda state: state.shape[1:])
        paths = [flow([state.float().flatten(1) for state in run]) for _, run in alike]
        length, curvature = (added(list(parts), loss) for parts in zip(*paths, strict=True))
        inner = [z.float().flatten(1).abs().mean(dim=1).sum() for z in path.inner]
        return [loss, length, curvature, added(inner, loss)]
