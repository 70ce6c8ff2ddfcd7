"""A block without one of its sub-layers: what stood there gives zeros, so that the residual passes it by."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache

from workloads.roles import role_of

KEYS = ("k", "qkv")  # roles of matrices that make keys


class Silent(nn.Module):
    """In the place of a sub-layer. `values` says the form of its output: 0 a tensor, n a tuple of n, the first of them
    the hidden states. Of what the sub-layer knew, its plain attributes are left, which its block may read. One that
    `attends` still tells a KV cache of the tokens."""

    def __init__(self, sublayer: nn.Module, values: int, attends: bool):
        super().__init__()
        own = vars(self)
        self.__dict__.update(
            {name: value for name, value in vars(sublayer).items() if not name.startswith("_") and name not in own}
        )
        self.values = values
        self.attends = attends
        self.eval()

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor | tuple[torch.Tensor | None, ...]:
        hidden = args[0] if args else kwargs.get("hidden_states", next(iter(kwargs.values())))
        if self.attends:
            self._count(hidden, (*args, *kwargs.values()))
        zeros = torch.zeros_like(hidden)
        return (zeros, *[None] * (self.values - 1)) if self.values else zeros

    def _count(self, hidden: torch.Tensor, given: Iterable[Any]) -> None:
        """Keys of no heads, since transformers asks the first layer of a cache how many tokens it holds."""
        number = getattr(self, "layer_idx", None)
        for cache in given:
            if isinstance(cache, Cache) and isinstance(number, int):
                nothing = hidden.new_zeros(len(hidden), 0, hidden.shape[1], 1)
                cache.update(nothing, nothing, number)


def silence(block: nn.Module, path: str, sublayers: Mapping[str, int]) -> dict[str, nn.Module]:
    """Puts a Silent in the place of those of `sublayers` (full path -> form of its output) that the block at `path`
    has; returns what stood there, by its name in the block."""
    before = {}
    for name, sublayer in list(block.named_children()):
        values = sublayers.get(f"{path}.{name}")
        if values is not None and not isinstance(sublayer, Silent):
            before[name] = sublayer
            attends = any(role_of(f"{name}.{inner}") in KEYS for inner, _ in sublayer.named_modules())
            setattr(block, name, Silent(sublayer, values, attends))
    return before
