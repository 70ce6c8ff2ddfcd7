"""The matrices of a network's modules: of linears as they are, of convolutions as what multiplies their windows.

A convolution's weight (out, channels / groups, *window), flattened behind its outputs, is the matrix of the linear that
it lowers to; inputs are windows, unfolded channel by channel (im2col). A grouped convolution is one matrix a group.
Left alone are convolutions of a filter a channel (depth-wise: their inputs are shared by nothing) and transposed ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad, unfold

from checkpoints.discovery import LinearRef
from workloads.layers import Layer
from workloads.roles import role_of

Convolution = nn.Conv1d | nn.Conv2d
DEPTHWISE, TRANSPOSED, OTHER = "depth-wise convolutions", "transposed convolutions", "other parameters"
ATTENTION = "matrices of nn.MultiheadAttention"


@dataclass(frozen=True)
class NetworkRef(LinearRef):
    """`module` holds the parameter; of a grouped convolution this is the matrix of `group`, of `groups`."""

    module: Any = field(default=None, compare=False, repr=False)
    group: int = 0
    groups: int = 1

    def matrix(self, block: nn.Module) -> torch.Tensor:
        return self.view(getattr(self.module, self.parameter).detach())

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        flat = tensor.flatten(1)
        rows = len(flat) // self.groups
        return flat[self.group * rows : (self.group + 1) * rows]

    def inputs(self, given: torch.Tensor) -> torch.Tensor:
        """(tokens, in_features) of what the module is called with: a token is a place of the window."""
        if not isinstance(self.module, Convolution):
            return given
        channels = given.shape[1] // self.groups
        own = given[:, self.group * channels : (self.group + 1) * channels]
        return windows(self.module, own)


def windows(module: Convolution, given: torch.Tensor) -> torch.Tensor:
    """(samples x positions, channels x window) of (samples, channels, *sides), columns as the flattened weight's."""
    if module.padding_mode == "zeros":
        given = pad(given, module._reversed_padding_repeated_twice)
    else:
        given = pad(given, module._reversed_padding_repeated_twice, mode=module.padding_mode)
    two = (lambda sides: sides) if isinstance(module, nn.Conv2d) else (lambda sides: (1, *sides))
    image = given if isinstance(module, nn.Conv2d) else given.unsqueeze(2)
    columns = unfold(image, two(module.kernel_size), two(module.dilation), 0, two(module.stride))
    return columns.transpose(1, 2).flatten(0, 1)


def matrices(unit: nn.Module, number: int) -> Iterator[NetworkRef]:
    """Of a unit, in module order; names are those of the network."""
    for path, module in unit.named_modules():
        if isinstance(module, nn.Linear):
            yield NetworkRef(_layer(path, number, *module.weight.shape), path, "weight", None, False, module)
        elif isinstance(module, Convolution) and not is_depthwise(module):
            rows, cols = module.out_channels // module.groups, module.weight[0].numel()
            for group in range(module.groups):
                name = path if module.groups == 1 else f"{path}.group{group}"
                layer = Layer(name, role_named(path), number, rows, cols)
                yield NetworkRef(layer, path, "weight", None, False, module, group, module.groups)


def is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, Convolution) and module.groups > 1 and module.groups == module.in_channels


def kind_of(module: nn.Module) -> str:
    """What a module is whose parameters stay as they are, in words."""
    if isinstance(module, nn.MultiheadAttention):
        return ATTENTION
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return TRANSPOSED
    return DEPTHWISE if is_depthwise(module) else OTHER


def is_matrix(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (isinstance(module, Convolution) and not is_depthwise(module))


def role_named(path: str) -> str:
    """What the names of transformers' modules say, else "other"."""
    return role_of(path)


def _layer(path: str, number: int, rows: int, cols: int) -> Layer:
    return Layer(path, role_named(path), number, rows, cols)
