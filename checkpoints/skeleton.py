"""A model without weights whose buffers are real: what transformers' own constructor and initialiser compute, no memory
that nobody wrote. Needs torch and transformers.

Parameters become empty ones on the meta device as soon as a module takes them, so a model of any size is built in
little memory. Everything else (rotary frequencies, multipliers, window masks) is computed as in a model built the
ordinary way, by the family itself. Memory that a constructor allocates without filling holds a mark, and a mark that is
still there afterwards is an error.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedConfig, PreTrainedModel

from workloads.errors import UserError

EMPTY = (torch.empty, torch.empty_like, torch.Tensor.new_empty)
MARKED_NUMEL = 1 << 22  # larger allocations are weights: to mark them would cost as much as to read them
_building = threading.Lock()  # the patch below is seen by all threads


def build_skeleton(
    model_class: type[PreTrainedModel], config: PreTrainedConfig, dtype: torch.dtype | str
) -> PreTrainedModel:
    """The model in eval mode, parameters of `dtype` on the meta device, buffers on the CPU.

    Raises UserError if a buffer holds memory that nobody wrote, and what the constructor raises.
    """
    with _building, _parameters_on_meta(), _Marking(), torch.random.fork_rng(devices=[]):
        model = model_class._from_config(config, dtype=dtype)
    for name, buffer in model.named_buffers():
        if buffer.is_meta or _marked(buffer):
            raise UserError(
                f"{type(model).__name__} never computes its buffer {name} {tuple(buffer.shape)}: nobody knows its "
                "values, the model cannot be run; report it to transformers"
            )
    return model.eval().requires_grad_(False)


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    register = nn.Module.register_parameter

    def register_empty(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, parameter)
        if parameter is not None and not parameter.is_meta:
            kept = vars(parameter)
            empty = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
            empty.__dict__.update(kept)
            module._parameters[name] = empty

    nn.Module.register_parameter = register_empty  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


class _Marking(TorchFunctionMode):
    """Fills what is allocated without a value with a mark: NaN, or the least integer."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if function in EMPTY and not made.is_meta and made.numel() <= MARKED_NUMEL:
            _mark(made)
        return made


def _mark(tensor: torch.Tensor) -> None:
    if tensor.is_floating_point():
        tensor.detach().fill_(float("nan"))
    elif tensor.dtype not in (torch.bool, torch.uint8) and not tensor.is_complex():
        tensor.fill_(torch.iinfo(tensor.dtype).min)


def _marked(tensor: torch.Tensor) -> bool:
    if tensor.is_floating_point():
        return bool(torch.isnan(tensor).any())
    if tensor.dtype in (torch.bool, torch.uint8) or tensor.is_complex():
        return False
    return bool((tensor == torch.iinfo(tensor.dtype).min).any())
