"""A network in memory: a torch module cut into units, whose dense weights are kept beside it."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import nn

from checkpoints.module_state import put_back, state_of
from checkpoints.network_channels import ChannelMap, cut_module
from checkpoints.network_matrices import ATTENTION, TRANSPOSED, NetworkRef, kind_of, matrices
from checkpoints.network_moves import moves_in
from checkpoints.network_units import units_of
from checkpoints.network_uses import uses_in
from checkpoints.opened import Changes
from workloads.errors import UserError
from workloads.uses import Use


class Network(Changes):
    """`family` opened it; `example` is a batch of its samples, of one shape. As `OpenModel` for the rest."""

    def __init__(
        self,
        name: str,
        module: nn.Module,
        example: torch.Tensor,
        family: Any,
        dtype: torch.dtype,
        device: torch.device,
        least: int = 1,
    ):
        """Raises UserError for a module that cannot be cut into units, or that uses a matrix in two of them."""
        super().__init__()
        self.folder, self.family, self.device, self.dtype = Path(name), family, device, dtype
        self.model = module.to(device=device, dtype=dtype).eval().requires_grad_(False)
        self.example = example.to(device=device, dtype=dtype)
        with torch.no_grad():
            self.units = units_of(self.model, self.example, least)
        self.blocks = [unit.module for unit in self.units]
        self.block_paths = [f"units.{number}" for number in range(len(self.units))]
        self.shared: dict[str, str] = {}
        self._refs = [list(matrices(unit, number)) for number, unit in enumerate(self.blocks)]
        self._check_once()
        self._whole = {path: state_of(each) for path, each in self.model.named_modules()}
        self.uses: dict[str, Use] = uses_in(self, self.example)
        self._refs = [[ref for ref in refs if ref.layer.name in self.uses] for refs in self._refs]
        if not self.uses:
            raise UserError(f"{name}: none of its matrices is called; nothing can be pruned")
        self.moves = list(moves_in(self.units, len(self.example)))
        self._channels: ChannelMap | None = None

    @property
    def channels(self) -> ChannelMap:
        """Which rows and columns belong together."""
        if self._channels is None:
            with self.as_stored():
                self.load_all()
                self._channels = ChannelMap.found(
                    self.blocks, [ref for refs in self._refs for ref in refs], self.example
                )
        return self._channels

    def found_refs(self) -> list[list[Any]]:
        return [list(refs) for refs in self._refs]

    def block_refs(self, number: int) -> list[NetworkRef]:
        return list(self._refs[number])

    def load_block(self, number: int) -> nn.Module:
        """The unit with its weights, those of the file or what `take_out` makes of them."""
        unit = self.blocks[number]
        for path, module in unit.named_modules():
            if path and path in self._whole:  # "" is the unit itself
                put_back(module, self._whole[path])
        if self.removal.cuts:
            removal = self.removal
            for path, module in unit.named_modules():
                cut_module(module, self.channels.left(path, removal))
        for ref in self._refs[number]:
            if ref.layer.name in self._biases:
                ref.module.bias = nn.Parameter(self._biases[ref.layer.name].to(ref.module.weight), requires_grad=False)
        if self._edit is not None:
            with torch.no_grad():
                self._edit(number, unit)
        return unit

    def load_all(self) -> None:
        for number in range(len(self.blocks)):
            self.load_block(number)

    def load_rest(self) -> None:
        """Everything is in a unit."""

    def release(self, module: nn.Module) -> None:
        """It stays in memory."""

    @torch.no_grad()
    def run(self, samples: torch.Tensor) -> torch.Tensor:
        """The output of the loaded units, one after the other."""
        states = samples.to(device=self.device, dtype=self.dtype)
        for unit in self.blocks:
            states = unit(states)
        return states

    def stored_dtype(self, parameter: str) -> torch.dtype:
        return self.dtype

    def sha256(self) -> str:
        """Of its dense parameters and buffers, by name."""
        digest = hashlib.sha256()
        for path, (tensors, _) in sorted(self._whole.items()):
            for name, tensor in sorted(tensors.items()):
                if tensor is not None:
                    digest.update(f"{path}.{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                    digest.update(tensor.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @property
    def left_alone(self) -> dict[str, int]:
        """Parameters of two dimensions or more that no method sees, by kind."""
        seen = {f"{ref.module_path}.{ref.parameter}" for refs in self._refs for ref in refs}
        attentions = tuple(f"{path}." for path, each in self.model.named_modules() if kind_of(each) == ATTENTION)
        found: Counter[str] = Counter()
        for path, module in self.model.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.ndim > 1 and f"{path}.{name}" not in seen:
                    found[ATTENTION if path.startswith(attentions) else kind_of(module)] += 1
        return dict(found)

    @property
    def left_dense(self) -> str:
        """One line: which of these multiply as matrices do, and might be taken for pruned; "" where none does."""
        found = [f"{kind} ({self.left_alone[kind]})" for kind in (TRANSPOSED, ATTENTION) if kind in self.left_alone]
        return f"{self.folder}: {' and '.join(found)} are left dense, and have no rows" if found else ""

    def dense_tensor(self, path: str, name: str) -> torch.Tensor | None:
        """A parameter or buffer of a module as it was built; None where it has none of that name."""
        return self._whole[path][0].get(name)

    def _check_once(self) -> None:
        places = Counter(ref.layer.name for refs in self._refs for ref in refs)
        twice = [name for name, count in places.items() if count > 1]
        if twice:
            raise UserError(
                f"{self.folder}: {twice[0]} is used in {places[twice[0]]} units; it cannot be pruned in one"
            )
