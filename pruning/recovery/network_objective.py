"""What training lowers of a network that is no language model: how far its outputs are from the dense network's, by its
family's own distance (docs/networks.md). No labels are needed."""

from dataclasses import dataclass
from typing import Any

import torch

from checkpoints.network import Network
from pruning.data.calibration import arrays_sha256
from pruning.families.network import NetworkFamily
from pruning.forward.hidden_states import BATCH_SAMPLES
from pruning.forward.network_outputs import through
from pruning.parallel import ordered_map
from pruning.recovery.objective import Batch, Objective


@dataclass(frozen=True)
class Samples:
    """inputs (samples, ...) and what the dense network makes of them, outputs (samples, ...)."""

    inputs: torch.Tensor
    outputs: torch.Tensor
    source: str

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: list[int]) -> Batch:
        return self.inputs[rows], self.outputs[rows]

    def parted(self, share: float) -> tuple["Samples", "Samples"]:
        """(those to train on, the last ones held out), at least one each where there are two."""
        kept = len(self) - min(max(1, round(share * len(self))), len(self) - 1)
        first = Samples(self.inputs[:kept], self.outputs[:kept], self.source)
        return first, Samples(self.inputs[kept:], self.outputs[kept:], f"{self.source} (the last {len(self) - kept})")

    @property
    def facts(self) -> dict[str, Any]:
        """What a bundle records."""
        return {"source": self.source, "samples": len(self), "sha256": arrays_sha256({"samples": self.inputs})}


def with_dense_outputs(network: Network, inputs: torch.Tensor, source: str) -> Samples:
    """Samples with the outputs of the network before anything was done to it."""
    with network.as_stored():
        network.load_all()
        outputs = list(ordered_map(lambda piece: network.run(piece).cpu(), inputs.split(BATCH_SAMPLES)))
    return Samples(inputs, torch.cat(outputs), source)


class OutputObjective(Objective):
    """Batches are inputs and the dense network's outputs; what counts are samples."""

    def __init__(self, network: Network):
        assert isinstance(network.family, NetworkFamily)
        self._network, self._family = network, network.family

    def count(self, batch: Batch) -> int:
        return len(batch[0])

    def at_once(self, device: torch.device, batch: Batch) -> int:
        return BATCH_SAMPLES

    def own_loss(self, piece: Batch) -> torch.Tensor:
        return self._family.distance(through(self._network, piece[0]), piece[1].float())

    def __call__(self, piece: Batch) -> torch.Tensor:
        return self.own_loss(piece)
