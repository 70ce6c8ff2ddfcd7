"""The loss of a whole model in which some units are silent: what methods that judge sets of units by the model itself
go by.

The features of silent units are multiplied by 0 where they enter o or down, which gives what the smaller model gives
(methods 7.6), or filled in from those that stay, which gives what it gives with least-squares weights (methods 9.3); a
block of which no unit stays hands its hidden states through. Nothing is written into the model, so many sets of units
are tried side by side. In memory: the whole model.
"""

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from checkpoints.checkpoint import Checkpoint
from pruning.evaluation.perplexity import check_predicts, window_loss
from pruning.evaluation.whole_model import whole_model
from pruning.evidence.products import Products
from pruning.forward.blockwise import BlockwiseModel
from pruning.forward.calls import read_call
from pruning.forward.feeding import arguments
from pruning.parallel import pieces, side_by_side
from pruning.structured.judge import Fill, Kept, Note
from pruning.structured.units import UnitGroup
from workloads.errors import NotForThisModel


@dataclass(frozen=True)
class Silent:
    """What becomes of the features (in,) of one group: factor (in,), 0 for silent ones; filling (silent, in), or None:
    what those are given of the others."""

    factor: torch.Tensor
    places: torch.Tensor
    filling: torch.Tensor | None = None

    def of(self, inputs: torch.Tensor) -> torch.Tensor:
        """inputs (..., in)"""
        made = inputs * self.factor
        if self.filling is not None:
            made[..., self.places] = made @ self.filling.T
        return made


class Through:
    """What becomes of the features (in,) of one group, whatever a function makes of them."""

    def __init__(self, of: Callable[[torch.Tensor], torch.Tensor]):
        self.of = of


Factors = Mapping[str, Silent | Through]


def check_has_loss(model: BlockwiseModel) -> None:
    """Raises NotForThisModel for a model that predicts no next token."""
    check_predicts(model.checkpoint)
    if not model.causal:
        raise NotForThisModel(
            f"{model.checkpoint.folder}: its tokens see later tokens, so it has no loss to judge units by; use a "
            "method that scores them, for example wanda-sp"
        )


class MaskedModel:
    """A context: within it the model is in memory, after it nothing of its weights. Losses are the same bits whatever
    the number of threads."""

    def __init__(self, checkpoint: Checkpoint, groups: Iterable[UnitGroup]):
        self._checkpoint = checkpoint
        self._groups = {group.key: group for group in groups}
        self._stacked: dict[int, str] = {}  # of experts in a stack the group's key, by the address of its output
        self._hooks: list[RemovableHandle] = []
        self._own = threading.local()  # factors: by the keys of groups that do not stay whole.
        # gone: the numbers of blocks without any unit

    def __enter__(self) -> "MaskedModel":
        whole_model(self._checkpoint, None)
        for key, group in self._groups.items():
            block, ref = self._checkpoint.blocks[group.block], group.output
            if ref.expert is None:
                module = block.get_submodule(ref.module_path)
                self._hooks.append(module.register_forward_pre_hook(self._hook(key)))
            else:
                self._stacked[ref.matrix(block).data_ptr()] = key
        for number in {group.block for group in self._groups.values()}:
            block = self._checkpoint.blocks[number]
            self._hooks.append(block.register_forward_hook(self._hands_through(number), with_kwargs=True))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._stacked = [], {}
        for block in self._checkpoint.blocks:  # each for itself: some may have been cut when they were loaded
            self._checkpoint.release(block)
        self._checkpoint.release(self._checkpoint.model)

    def loss(self, kept: Kept, ids: torch.Tensor) -> float:
        """Of one set of units, as `losses`."""
        return self.losses([kept], ids)[0]

    @torch.no_grad()
    def losses(self, sets: Sequence[Kept], ids: torch.Tensor, fill: Fill | None = None) -> list[float]:
        """For every set of units the mean over the predicted tokens of ids (sequences, tokens) of -log p(token), in
        float64. A set says by a group's key which units stay, (count,) bool; groups it does not name stay whole. NaN or
        Inf where activations overflow. fill(key, stays): R (silent features, features that stay), from which silent
        ones are filled in as R x; without it they are 0."""
        device, runs = self._checkpoint.device, pieces(self._checkpoint.device, ids)
        made = [(self._factors(kept, fill), self._gone(kept)) for kept in sets]
        items = [(*each, piece) for each in made for (piece,) in runs]
        found = [loss for losses in side_by_side(self._run, items, device) for loss in losses]
        return [math.fsum(found[n : n + len(ids)]) / len(ids) for n in range(0, len(found), len(ids))]

    def apart(self, ids: torch.Tensor, gates: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """As of `Judge`: the mean over tokens of KL(dense || gated), of the next token's distribution."""
        with torch.no_grad():
            dense = self.logits(ids, {}).float().log_softmax(dim=-1)
        columns = {key: torch.from_numpy(self._groups[key].columns) for key in gates}

        def gated(key: str) -> Callable[[torch.Tensor], torch.Tensor]:
            return lambda inputs: inputs * gates[key][columns[key]].to(inputs)

        own = self.logits(ids, {key: gated(key) for key in gates}).float().log_softmax(dim=-1)
        apart = nn.functional.kl_div(own, dense, reduction="none", log_target=True).sum(dim=-1)
        return apart.mean().cpu()

    @torch.no_grad()
    def watch(self, ids: torch.Tensor, note: Note) -> None:
        def seen(key: str) -> Callable[[torch.Tensor], torch.Tensor]:
            def of(inputs: torch.Tensor) -> torch.Tensor:
                note(key, inputs.reshape(-1, inputs.shape[-1]))
                return inputs

            return of

        self.logits(ids, {key: seen(key) for key in self._groups})

    def logits(self, ids: torch.Tensor, through: Mapping[str, Callable[[torch.Tensor], torch.Tensor]]) -> torch.Tensor:
        """(sequences, tokens, vocabulary) where by a group's key what enters its output (..., in) is what a function
        makes of it. Gradients go through; of experts in a stack the function sees the tokens that reach one."""
        self._own.factors, self._own.gone = {key: Through(of) for key, of in through.items()}, frozenset()
        with Products(self._stacked, self._silenced) if self._stacked else nullcontext():
            return self._checkpoint.model(**arguments(self._checkpoint, ids)).logits

    def block(self, number: int) -> nn.Module:
        """A block, its weights in memory."""
        return self._checkpoint.blocks[number]

    def _run(self, item: tuple[Factors, frozenset[int], torch.Tensor]) -> list[float]:
        """Of every sequence."""
        self._own.factors, self._own.gone, piece = item
        model = self._checkpoint.model
        with Products(self._stacked, self._silenced) if self._stacked else nullcontext():
            logits = model(**arguments(self._checkpoint, piece)).logits
        return [window_loss(*pair) for pair in zip(logits.split(1), piece.split(1), strict=True)]

    def _factors(self, kept: Kept, fill: Fill | None) -> Factors:
        made: dict[str, Silent] = {}
        device, dtype = (self._checkpoint.device, self._checkpoint.model.dtype)
        for key, own in kept.items():
            stays, filling = torch.from_numpy(own[self._groups[key].columns]), None
            if bool(stays.all()):
                continue
            if fill is not None and bool(stays.any()):
                found = fill(key, own)
                filling = torch.zeros(len(found), len(stays), dtype=dtype, device=device)
                filling[:, stays.to(device)] = found.to(device, dtype)
            made[key] = Silent(stays.to(device, dtype), torch.nonzero(~stays).squeeze(1).to(device), filling)
        return made

    def _gone(self, kept: Kept) -> frozenset[int]:
        alive = {group.block for key, group in self._groups.items() if key not in kept or kept[key].any()}
        return frozenset({group.block for group in self._groups.values()} - alive)

    def _hands_through(self, number: int) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], Any]:
        def hook(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            if number not in self._own.gone:
                return None
            hidden, _ = read_call(block, args, kwargs)
            return (hidden, *output[1:]) if isinstance(output, tuple | list) else hidden

        return hook

    def _silenced(self, key: str, inputs: torch.Tensor) -> torch.Tensor | None:
        """inputs (..., in)"""
        silent = self._own.factors.get(key)
        return None if silent is None else silent.of(inputs)

    def _hook(self, key: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], tuple[torch.Tensor, ...] | None]:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
            made = self._silenced(key, args[0])
            return None if made is None else (made, *args[1:])

        return hook
