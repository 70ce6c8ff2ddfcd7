"""The channels of a network as units that structured methods take out: an output of one matrix, the batch norms behind
it, and its columns in the one matrix that reads it."""

from collections import defaultdict

import numpy as np
from torch import nn

from checkpoints.discovery import LinearRef
from checkpoints.network import Network
from pruning.structured.units import UnitGroup
from workloads.errors import NotForThisModel
from workloads.removal import NEURON


class ChannelGroups:
    """As pruning.structured.layouts.Groups; a channel counts as a neuron. A group is of the unit that reads it."""

    def __init__(self, network: Network, kinds: frozenset[str]):
        """Raises NotForThisModel where none can be taken out."""
        if NEURON not in kinds:
            raise NotForThisModel(f"{network.folder} has channels, which count as neurons, and no other units")
        self.kinds = frozenset({NEURON})
        self._of: dict[int, list[UnitGroup]] = defaultdict(list)
        for group in network.channels.groups:
            count = group.source.layer.out_features
            features = len(group.columns) // count
            members = ((group.source, np.arange(count)),)
            number = group.target.layer.block
            self._of[number].append(
                UnitGroup(NEURON, number, group.source.layer.name, count, group.target, features, members)
            )
        if not self._of:
            raise NotForThisModel(f"{network.folder}: no matrix alone reads the channels of another; prune with masks")

    def groups(self, number: int, block: nn.Module, refs: list[LinearRef]) -> list[UnitGroup]:
        return list(self._of[number])
