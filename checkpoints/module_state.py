"""What a module without its children is: parameters, buffers and plain attributes, taken and put back."""

import copy
from typing import Any

import torch
from torch import nn

State = tuple[dict[str, torch.Tensor | None], dict[str, Any]]


def state_of(module: nn.Module) -> State:
    """(tensors by name, plain attributes); copies."""
    tensors = {**module._parameters, **module._buffers}
    plain = {name: copy.copy(value) for name, value in vars(module).items() if isinstance(value, int | float | tuple)}
    return {name: None if t is None else t.detach().clone() for name, t in tensors.items()}, plain


def put_back(module: nn.Module, state: State) -> None:
    """Copies of what `state_of` gave."""
    tensors, plain = state
    for name, tensor in tensors.items():
        if name in module._buffers:
            module._buffers[name] = None if tensor is None else tensor.clone()
        else:
            module._parameters[name] = None if tensor is None else nn.Parameter(tensor.clone(), requires_grad=False)
    vars(module).update(plain)
