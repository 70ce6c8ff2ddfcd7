"""What one sample asks of every matrix of a network, seen while an example runs through it."""

from math import prod
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from checkpoints.network_matrices import Convolution, NetworkRef
from workloads.uses import Use


class Runs(Protocol):
    folder: Any
    blocks: Any

    def found_refs(self) -> list[list[NetworkRef]]: ...
    def run(self, samples: torch.Tensor) -> torch.Tensor: ...


def uses_in(network: Runs, example: torch.Tensor) -> dict[str, Use]:
    """By the names of matrices. A matrix that is called several times waits for itself, as a recurrent one does. What
    is used without a call of its module (inside nn.MultiheadAttention) has no entry."""
    seen: dict[str, list[torch.Size]] = {}
    refs = [ref for unit in network.found_refs() for ref in unit]
    handles = [ref.module.register_forward_pre_hook(_noting(seen, ref.layer.name)) for ref in refs]
    try:
        network.run(example)
    finally:
        for handle in handles:
            handle.remove()
    samples = len(example)
    return {ref.layer.name: _use(ref, seen[ref.layer.name], samples) for ref in refs if ref.layer.name in seen}


def _noting(seen: dict[str, list[torch.Size]], name: str) -> Any:
    def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        seen.setdefault(name, []).append(args[0].shape)

    return hook


def _use(ref: NetworkRef, calls: list[torch.Size], samples: int) -> Use:
    if not isinstance(ref.module, Convolution):
        return Use(max(1, calls[0][:-1].numel() // samples), len(calls))
    module, shape = ref.module, calls[0]
    sides = zip(shape[2:], _padding(module), module.kernel_size, module.stride, module.dilation, strict=True)
    positions = [
        (side + extra - dilation * (window - 1) - 1) // stride + 1 for side, extra, window, stride, dilation in sides
    ]
    tokens = torch.Size(positions).numel()
    window, stride = "x".join(map(str, module.kernel_size)), "x".join(map(str, module.stride))
    sizes = zip(shape[2:], _before(module), module.kernel_size, module.stride, module.dilation, positions, strict=True)
    elements = shape[1] // ref.groups * prod(_covered(*each) for each in sizes)
    distinct = min(1.0, max(1, elements) / (tokens * ref.layer.in_features))
    places = "x".join(map(str, positions))
    return Use(tokens, len(calls), f"convolution {window} stride {stride} by im2col, {places} positions", distinct)


def _padding(module: Convolution) -> list[int]:
    """Of both ends together, side by side."""
    both = module._reversed_padding_repeated_twice
    return [both[n] + both[n + 1] for n in range(0, len(both), 2)][::-1]


def _before(module: Convolution) -> list[int]:
    """Padding in front, side by side."""
    return module._reversed_padding_repeated_twice[::2][::-1]


def _covered(side: int, before: int, window: int, stride: int, dilation: int, positions: int) -> int:
    """Places of a side that any window reads; windows are products of what they read of each side."""
    places = np.add.outer(stride * np.arange(positions), dilation * np.arange(window)) - before
    return len(np.unique(places[(places >= 0) & (places < side)]))
