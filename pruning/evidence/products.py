"""Matrix products as they happen: for matrices that are used without a call of a module of their own, above all experts
in a stack."""

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

# How inputs (first) are multiplied with a matrix or a stack of them (second); or, in some state-space blocks, a matrix
# (first) with inputs that stand in its columns.
PRODUCTS = (
    nn.functional.linear,
    torch.matmul,
    torch.bmm,
    torch.Tensor.matmul,
    torch.Tensor.bmm,
    torch.Tensor.__matmul__,
)


class Products(TorchFunctionMode):
    """Sees every matrix product of this thread and hands the inputs (..., in) of known matrices to `see`, by name. What
    that gives back goes into the product in their place; None changes nothing. names: by the matrix's address."""

    def __init__(self, names: Mapping[int, str], see: Callable[[str, torch.Tensor], torch.Tensor | None]):
        super().__init__()
        self._names = names
        self._see = see

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in PRODUCTS and len(args) > 1:
            inputs, weight, *others = args
            left = self._names.get(inputs.data_ptr()) if inputs.ndim == 2 else None
            if left is not None and function is not nn.functional.linear and weight.ndim > 1:
                weight = self._seen(left, weight.transpose(-1, -2)).transpose(-1, -2)  # W X: the inputs are columns
            if weight.ndim == 3 and inputs.ndim == 3:  # bmm: all experts at once, each with its own inputs
                own = list(inputs)
                made = [self._seen(self._names.get(m.data_ptr()), x) for m, x in zip(weight, own, strict=True)]
                inputs = inputs if all(x is y for x, y in zip(own, made, strict=True)) else torch.stack(made)
            else:
                inputs = self._seen(self._names.get(weight.data_ptr()), inputs)
            args = (inputs, weight, *others)
        return function(*args, **(kwargs or {}))

    def _seen(self, name: str | None, inputs: torch.Tensor) -> torch.Tensor:
        made = None if name is None else self._see(name, inputs)
        return inputs if made is None else made
