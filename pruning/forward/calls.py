"""How a model calls one of its blocks."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

# What transformers calls the arguments through which all blocks of a stack read the same other states.
CARRIED = ("encoder_hidden_states", "original_hidden_states")


@dataclass
class BlockCall:
    """How the model calls one block, besides the hidden states; `place` is that of the states it carries along: an
    index of args, a key of kwargs, or None."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    place: int | str | None = None

    @property
    def carried(self) -> torch.Tensor | None:
        if self.place is None:
            return None
        return self.args[self.place] if isinstance(self.place, int) else self.kwargs[self.place]

    def with_carried(self, states: torch.Tensor | None) -> "BlockCall":
        """The call with other states to carry along."""
        if isinstance(self.place, int):
            return BlockCall((*self.args[: self.place], states, *self.args[self.place + 1 :]), self.kwargs, self.place)
        if self.place is not None:
            return BlockCall(self.args, {**self.kwargs, self.place: states}, self.place)
        return self


def read_call(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.Tensor, BlockCall]:
    """(hidden states, the rest) of a call of the block's forward."""
    kwargs = dict(kwargs)
    names = list(inspect.signature(type(block).forward).parameters)[1:]
    if args:
        hidden, args, names = args[0], args[1:], names[1:]
    else:
        hidden = kwargs.pop(names[0] if names[0] in kwargs else "hidden_states")
    return hidden, BlockCall(args, kwargs, _place_of(args, kwargs, names))


def _place_of(args: tuple[Any, ...], kwargs: dict[str, Any], names: list[str]) -> int | str | None:
    """Where the carried states are; `names` are those of the positional arguments. None where there are none."""
    for name in CARRIED:
        if isinstance(kwargs.get(name), torch.Tensor):
            return name
        at = names.index(name) if name in names else len(args)
        if at < len(args) and isinstance(args[at], torch.Tensor):
            return at
    return None


def same_call(one: BlockCall, other: BlockCall) -> bool:
    """Whether two calls are the same apart from the states they carry along."""
    return _equal(vars(one.with_carried(None)), vars(other.with_carried(None)))


def _equal(one: Any, other: Any) -> bool:
    """Whether two arguments of a block are the same; tensors by value, unknown objects by their type."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return True


def first_output(output: Any) -> torch.Tensor:
    """The logits of a model's output, or whatever comes first."""
    logits = getattr(output, "logits", None)
    return logits if logits is not None else output[0]
