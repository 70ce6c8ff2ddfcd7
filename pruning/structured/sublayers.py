"""What can be left out of a model whole: blocks, and their sub-layers (an attention, an FFN), which are the children of
a block that hold its matrices. Whether a block hands its hidden states through where both are left out is tried out,
so no table of families is needed.
"""

from dataclasses import dataclass

import torch
from torch import nn

from checkpoints.discovery import LinearRef
from pruning.forward.blockwise import BlockwiseModel
from workloads.errors import NotForThisModel
from workloads.removal import Removal

ATTENTION, FFN, BLOCK = "attention", "ffn", "block"
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}  # of the largest value; half precision: 0.01


@dataclass(frozen=True)
class Part:
    """A block, or a sub-layer of it by its path. `weights`: of its matrices; `values`: the form of a sub-layer's output
    (workloads/removal.py)."""

    kind: str
    block: int
    path: str
    weights: int
    values: int = 0


def blocks_of(model: BlockwiseModel, refs: list[list[LinearRef]]) -> list[Part]:
    paths = model.checkpoint.block_paths
    return [Part(BLOCK, n, paths[n], sum(ref.layer.n_weights for ref in own)) for n, own in enumerate(refs) if own]


def removal_without(parts: list[Part], gone: list[Part]) -> Removal:
    """What goes where `gone` of `parts` go; blocks of which every sub-layer goes, go whole."""
    left = {part.block for part in parts if part not in gone}
    blocks = frozenset(part.block for part in parts if part.block not in left or (part.kind == BLOCK and part in gone))
    return Removal(blocks, sublayers={part.path: part.values for part in gone if part.block not in blocks})


def by_sublayer(refs: list[LinearRef]) -> dict[str, list[LinearRef]]:
    """A block's matrices by the child of the block that holds them."""
    inside: dict[str, list[LinearRef]] = {}
    for ref in refs:
        inside.setdefault(ref.module_path.partition(".")[0], []).append(ref)
    return inside


class Sublayers:
    """The sub-layers of a model's blocks, each kind of block tried out the first time it is asked for."""

    def __init__(self, model: BlockwiseModel, hidden: torch.Tensor):
        """`hidden` (batch, seq, hidden): states that every kind of block is tried out with."""
        self._model = model
        self._hidden = hidden
        self._known: dict[tuple, dict[str, int]] = {}

    def of(self, number: int, refs: list[LinearRef]) -> list[Part]:
        """Of a block that is not loaded those that hold `refs`, in their order in it. Raises NotForThisModel where its
        matrices are in no sub-layer, or it does not hand hidden states through without them."""
        if not refs:
            return []
        model = self._model
        block, path, stored = model.blocks[number], model.checkpoint.block_paths[number], model.refs(number)
        inside = by_sublayer(refs)
        alone = [name for name in inside if name in {ref.module_path for ref in refs}]
        if alone:
            raise self._unfit(path, block, f"has {' and '.join(alone)} in no sub-layer")
        key = (type(block), *((ref.module_path, ref.layer.shape) for ref in stored))
        if key not in self._known:
            with model.checkpoint.as_stored():
                self._known[key] = self._forms(number, path, block, list(by_sublayer(stored)))
        return [
            Part(
                ATTENTION if any(ref.layer.role in ("o", "qkv", "q") for ref in own) else FFN,
                number, f"{path}.{name}", sum(ref.layer.n_weights for ref in own), self._known[key][name],
            )
            for name, own in inside.items()
        ]  # fmt: skip

    @torch.no_grad()
    def _forms(self, number: int, path: str, block: nn.Module, names: list[str]) -> dict[str, int]:
        """By the name of a sub-layer the form of its output."""
        forms: dict[str, int] = {}

        def note(name: str):
            def hook(module: nn.Module, args: object, output: object) -> None:
                forms[name] = len(output) if isinstance(output, tuple | list) else 0

            return hook

        checkpoint, hidden = self._model.checkpoint, self._hidden
        handles = [block.get_submodule(name).register_forward_hook(note(name)) for name in names]
        try:
            checkpoint.load_block(number)
            self._model.run(number, hidden)
        finally:
            for handle in handles:
                handle.remove()
            checkpoint.release(block)
        if forms.keys() != set(names):
            raise self._unfit(path, block, "does not run its sub-layers as modules")
        try:
            checkpoint.take_out(Removal(sublayers={f"{path}.{name}": values for name, values in forms.items()}))
            checkpoint.load_block(number)
            apart = float((self._model.run(number, hidden) - hidden).abs().max() / hidden.abs().max())
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):  # it wants more of them than zeros
            apart = float("inf")
        finally:
            checkpoint.release(block)
        if not apart <= TOLERANCE.get(hidden.dtype, 0.01):
            raise self._unfit(
                path, block, f"without its sub-layers changes hidden states by {apart:.1e} of the largest"
            )
        return forms

    def _unfit(self, path: str, block: nn.Module, why: str) -> NotForThisModel:
        return NotForThisModel(
            f"{path}: {type(block).__name__} {why}, so none of them can be left out alone; take whole blocks out "
            "(`remove=blocks`)"
        )
