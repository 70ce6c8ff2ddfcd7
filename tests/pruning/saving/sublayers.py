"""The slow twin of a model without some of its sub-layers: the whole one in memory, by transformers alone, in which
what they give is multiplied by zero, and blocks that are gone hand on what they get."""

from pathlib import Path
from typing import Any

import torch

from checkpoints.discovery import find_blocks
from validation.conformance.tiny_models import load_whole
from workloads.bundle import MaskBundle


def hush(model: torch.nn.Module, paths: list[str]) -> list[Any]:
    """Handles of the hooks that multiply outputs by zero."""

    def hook(module: torch.nn.Module, args: object, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] * 0, *output[1:])
        return output * 0

    return [model.get_submodule(path).register_forward_hook(hook) for path in paths]


def hand_on(model: torch.nn.Module, numbers: list[int]) -> list[Any]:
    """Handles of the hooks that give a block's first input instead of its output."""

    def hook(module: torch.nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    blocks = find_blocks(model)[1]
    return [blocks[number].register_forward_hook(hook, with_kwargs=True) for number in numbers]


@torch.no_grad()
def silenced_logits(model: Path, bundle: MaskBundle, ids: torch.Tensor) -> torch.Tensor:
    full = load_whole(model)
    hush(full, list(bundle.removal.sublayers))
    hand_on(full, sorted(bundle.removal.blocks))
    return full(ids, use_cache=False).logits
