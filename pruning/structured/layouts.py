"""Whether a block without some of its units gives what the whole block gives with their features at zero: tried out, on
the block itself, once for every kind of block. So no table of families is needed, and a family whose norms or residuals
reach over units is told before anything is taken out.
"""

from typing import Protocol

import numpy as np
import torch
from torch import nn

from checkpoints.cutting import Restored, cut_block
from checkpoints.discovery import LinearRef
from pruning.forward.blockwise import BlockwiseModel
from pruning.structured.units import LAYOUTS, UnitGroup, groups_of, has_fused
from workloads.errors import NotForThisModel
from workloads.removal import WORDS, Removal

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}  # of the largest value; half precision: 0.03
EVERY = 3  # of so many units one goes


class Groups(Protocol):
    """Which units the blocks of a model have; `kinds` are those asked for that it can have."""

    kinds: frozenset[str]

    def groups(self, number: int, block: nn.Module, refs: list[LinearRef]) -> list[UnitGroup]:
        """Of a loaded block, which is left as it was."""
        ...


class Layouts:
    """The units of the blocks of a model, each kind of block tried out the first time it is asked for."""

    def __init__(self, model: BlockwiseModel, kinds: frozenset[str], hidden: torch.Tensor):
        """`hidden` (batch, seq, hidden): states that every block is tried out with."""
        self._model = model
        self.kinds = kinds
        self._hidden = hidden
        self._known: dict[tuple, dict[str, str]] = {}

    def groups(self, number: int, block: nn.Module, refs: list[LinearRef]) -> list[UnitGroup]:
        """Of a loaded block, which is left as it was. Raises NotForThisModel for units that the block cannot lose."""
        path = self._model.checkpoint.block_paths[number]
        key = (type(block), *((ref.layer.role, ref.layer.shape) for ref in refs))
        if key not in self._known:
            self._known[key] = {kind: self._layout(number, block, path, refs, kind) for kind in sorted(self.kinds)}
        found = []
        for kind, layout in self._known[key].items():
            found += [group for group in groups_of(block, path, refs, layout) if group.kind == kind]
        return found

    def _layout(self, number: int, block: nn.Module, path: str, refs: list[LinearRef], kind: str) -> str:
        tried = 0.0
        for layout in LAYOUTS if has_fused(refs) else LAYOUTS[:1]:
            groups = [group for group in groups_of(block, path, refs, layout) if group.kind == kind]
            if not groups:
                return layout
            tried = self._difference(number, block, path, groups)
            if tried <= TOLERANCE.get(self._hidden.dtype, 0.03):
                return layout
        raise NotForThisModel(
            f"{path}: {type(block).__name__} without some {WORDS[kind]} differs by {tried:.1e} of its largest output "
            "from itself with their features at zero, so they cannot be taken out; prune its other units, or with masks"
        )

    @torch.no_grad()
    def _difference(self, number: int, block: nn.Module, path: str, groups: list[UnitGroup]) -> float:
        """Largest difference of the two outputs, as a share of the largest change by the block."""
        hidden = self._hidden
        kept = {group.key: np.arange(group.count) % EVERY != min(1, group.count - 1) for group in groups}
        kept = {key: some if some.any() else ~some for key, some in kept.items()}
        cuts = dict(cut for group in groups for cut in group.cuts(kept[group.key]))
        whole = {name: parameter.detach().clone() for name, parameter in block.named_parameters()}
        for group in groups:
            group.output.matrix(block)[:, torch.from_numpy(~kept[group.key][group.columns])] = 0
        masked = self._model.run(number, hidden)
        before = Restored(block)
        units = tuple(group.units(kept[group.key]) for group in groups)
        try:
            cut_block(block, path, number, Removal(frozenset(), units, cuts))
            smaller = self._model.run(number, hidden)
            difference = float((masked - smaller).abs().max()) if masked.shape == smaller.shape else float("inf")
        except (RuntimeError, ValueError, IndexError):  # shapes that do not fit together any more
            difference = float("inf")
        before.restore()
        for name, parameter in whole.items():
            module, _, leaf = name.rpartition(".")
            block.get_submodule(module)._parameters[leaf] = nn.Parameter(parameter, requires_grad=False)
        size = float((masked - hidden).abs().max())
        return difference / size if size > 0 and np.isfinite(difference) else (0.0 if difference == 0 else float("inf"))
