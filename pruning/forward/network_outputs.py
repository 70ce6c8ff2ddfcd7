"""Outputs of a whole network, and what a distance between them is compared with."""

import math
from collections.abc import Callable

import torch

from checkpoints.network import Network

Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # of a family: summed over samples


def through(network: Network, inputs: torch.Tensor) -> torch.Tensor:
    """Outputs (samples, ...) of the loaded units, float32, with their graph."""
    states = inputs.to(device=network.device, dtype=network.dtype)
    for unit in network.blocks:
        states = unit(states)
    return states.float()


def differences(distance: Distance, outputs: torch.Tensor) -> float:
    """The mean distance between outputs (samples, ...) of one sample and of the next, around; what a distance to the
    dense network is compared with. 1 where all are alike, or there is one."""
    apart = float(distance(outputs.float(), outputs.roll(1, dims=0).float())) / len(outputs)
    return apart if math.isfinite(apart) and apart > 0 else 1.0
