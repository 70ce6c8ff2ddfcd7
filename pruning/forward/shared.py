"""Matrices that several blocks share (Zamba2's shared transformer): pruned once, where they are used first, and from
then on pruned wherever they are used."""

from pathlib import Path

import torch
from torch import nn

from checkpoints.opened import OpenModel
from pruning.forward.hidden_states import read_tensors, write_tensors

FILE = "shared.safetensors"


class SharedWeights:
    """The parameters that later blocks use too, as the run left them; in memory, and in `folder` while it is
    unfinished."""

    def __init__(self, checkpoint: OpenModel, folder: Path):
        """Takes up what an unfinished run has left there."""
        self.checkpoint = checkpoint
        self.file = folder / FILE
        self.owners = set(checkpoint.shared.values())
        self.tensors = read_tensors(self.file) if self.owners and self.file.exists() else {}

    @torch.no_grad()
    def take_up(self, number: int, block: nn.Module) -> None:
        """Gives a loaded block the weights that an earlier block's pruning changed."""
        for name, parameter in block.named_parameters(remove_duplicate=False):
            owner = self.checkpoint.shared.get(f"{self.checkpoint.block_paths[number]}.{name}")
            if owner in self.tensors:
                parameter.copy_(self.tensors[owner])

    def keep(self, number: int, block: nn.Module) -> None:
        """Notes the parameters of a pruned block that later blocks use."""
        names = {f"{self.checkpoint.block_paths[number]}.{name}": p for name, p in block.named_parameters()}
        kept = {name: parameter.detach().cpu().clone() for name, parameter in names.items() if name in self.owners}
        if kept:
            self.tensors |= kept
            write_tensors(self.file, self.tensors)

    def forget(self) -> None:
        self.file.unlink(missing_ok=True)
