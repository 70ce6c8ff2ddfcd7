"""LSTM and GRU as the linears they are made of, so that their matrices are seen, pruned and counted like others.

    LSTM  i, f, o = sigmoid, g = tanh of W_i x + b_i + W_h h + b_h;  c' = f c + i g,  h' = o tanh(c')
    GRU   r, z = sigmoid of the same;  n = tanh(W_in x + b_in + r (W_hn h + b_hn));  h' = (1 - z) n + z h

(Hochreiter and Schmidhuber 1997; Cho et al. 2014, in the order and with the biases of torch.nn). `input` multiplies
all steps at once, `hidden` one step after the other, as it waits for the step before. Gates are fused as torch stores
them, the rows of one matrix, or `split` into a matrix each.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

GATES = {"lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n")}
CELLS = nn.LSTM | nn.GRU | nn.LSTMCell | nn.GRUCell


class Gates(nn.Module):
    """(..., features) -> (..., gates x hidden): one linear, or one a gate."""

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None, names: tuple[str, ...], split: bool):
        super().__init__()
        self.names = names if split else ()
        parts = zip(names, weight.detach().chunk(len(names)), strict=True) if split else [("all", weight.detach())]
        if bias is None:
            biases: Sequence[torch.Tensor | None] = [None] * len(names)
        else:
            biases = bias.detach().chunk(len(names)) if split else [bias.detach()]
        for (name, own), shift in zip(parts, biases, strict=False):
            linear = nn.Linear(own.shape[1], own.shape[0], bias is not None, device="meta")
            linear.weight = nn.Parameter(own.clone(), requires_grad=False)
            linear.bias = None if shift is None else nn.Parameter(shift.clone(), requires_grad=False)  # type: ignore[assignment]
            self.add_module(name, linear)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        if not self.names:
            return self.get_submodule("all")(given)
        return torch.cat([self.get_submodule(name)(given) for name in self.names], dim=-1)


class Direction(nn.Module):
    """One layer in one direction over (samples, steps, features) -> (samples, steps, hidden)."""

    def __init__(self, kind: str, tensors: tuple[Any, Any, Any, Any], split: bool, backwards: bool = False):
        super().__init__()
        weight_ih, weight_hh, bias_ih, bias_hh = tensors
        self.kind, self.width, self.backwards = kind, weight_hh.shape[1], backwards
        self.input = Gates(weight_ih, bias_ih, GATES[kind], split)
        self.hidden = Gates(weight_hh, bias_hh, GATES[kind], split)

    def forward(
        self, given: torch.Tensor, state: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        entering = self.input(given)
        steps = range(given.shape[1])
        made = [given] * given.shape[1]
        for step in reversed(steps) if self.backwards else steps:
            state = self.step(entering[:, step], state)
            made[step] = state[0]
        return torch.stack(made, dim=1), state

    def step(self, entering: torch.Tensor, state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """entering (samples, gates x hidden): the input's share."""
        own = self.hidden(state[0])
        if self.kind == "lstm":
            i, f, g, o = (entering + own).chunk(4, dim=-1)
            cell = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
            return o.sigmoid() * cell.tanh(), cell
        (r, z, n), (own_r, own_z, own_n) = entering.chunk(3, dim=-1), own.chunk(3, dim=-1)
        update = (z + own_z).sigmoid()
        new = (n + (r + own_r).sigmoid() * own_n).tanh()
        return ((1 - update) * new + update * state[0],)


class Recurrent(nn.Module):
    """In the place of an nn.LSTM or nn.GRU (without projections), or of their cells; as these, but for the state, which
    begins at zero and is handed back as they do."""

    def __init__(self, module: CELLS, split: bool = False):
        super().__init__()
        self.kind = "lstm" if isinstance(module, nn.LSTM | nn.LSTMCell) else "gru"
        self.is_cell = isinstance(module, nn.LSTMCell | nn.GRUCell)
        self.batch_first = isinstance(module, nn.LSTMCell | nn.GRUCell) or module.batch_first
        layers = 1 if isinstance(module, nn.LSTMCell | nn.GRUCell) else module.num_layers
        ways = 1 if isinstance(module, nn.LSTMCell | nn.GRUCell) or not module.bidirectional else 2
        self.ways = ways
        self.layers = nn.ModuleList()
        for layer in range(layers):
            for way in range(ways):
                end = "" if self.is_cell else f"_l{layer}{'_reverse' if way else ''}"
                names = (f"weight_ih{end}", f"weight_hh{end}", f"bias_ih{end}", f"bias_hh{end}")
                tensors = tuple(getattr(module, name, None) for name in names)
                self.layers.append(Direction(self.kind, tensors, split, bool(way)))  # type: ignore[arg-type]

    def forward(self, given: torch.Tensor, state: Any = None) -> Any:
        """As torch's: sequences -> (outputs, last state); a cell's one step -> its state."""
        if self.is_cell:
            return self._one(given, state)
        given = given if self.batch_first else given.transpose(0, 1)
        lasts = []
        for number in range(0, len(self.layers), self.ways):
            made = []
            for way in range(self.ways):
                layer = self.layers[number + way]
                output, last = layer(given, self._begin(layer, given, state, number + way))
                made.append(output)
                lasts.append(last)
            given = torch.cat(made, dim=-1)
        ends = tuple(torch.stack(parts) for parts in zip(*lasts, strict=True))
        return given if self.batch_first else given.transpose(0, 1), ends if self.kind == "lstm" else ends[0]

    def _one(self, given: torch.Tensor, state: Any) -> Any:
        layer: Any = self.layers[0]
        begin = (state,) if isinstance(state, torch.Tensor) else state or self._begin(layer, given, None, 0)
        made = layer.step(layer.input(given), begin)
        return made if self.kind == "lstm" else made[0]

    def _begin(self, layer: Any, given: torch.Tensor, state: Any, number: int) -> tuple[torch.Tensor, ...]:
        if state is None:
            return (given.new_zeros(len(given), layer.width),) * (2 if self.kind == "lstm" else 1)
        return tuple(part[number] for part in ((state,) if isinstance(state, torch.Tensor) else state))


def as_torch(module: Recurrent) -> dict[str, torch.Tensor]:
    """The parameters by the names and in the shapes of the layer or cell that it stands in the place of."""
    found = {}
    for number, layer in enumerate(module.layers):
        end = "" if module.is_cell else f"_l{number // module.ways}{'_reverse' if number % module.ways else ''}"
        for what, gates in (("ih", layer.input), ("hh", layer.hidden)):
            linears: list[Any] = list(gates.children())  # type: ignore[union-attr, operator]
            found[f"weight_{what}{end}"] = torch.cat([linear.weight for linear in linears])
            if linears[0].bias is not None:
                found[f"bias_{what}{end}"] = torch.cat([linear.bias for linear in linears])
    return found


def with_linears(model: nn.Module, split: bool = False) -> nn.Module:
    """`model` with its recurrent layers as linears, in place. Raises nothing; layers with projections stay."""
    for path, module in list(model.named_modules()):
        if isinstance(module, CELLS) and not getattr(module, "proj_size", 0):
            parent, _, leaf = path.rpartition(".")
            if not path:
                return Recurrent(module, split)
            setattr(model.get_submodule(parent), leaf, Recurrent(module, split))
    return model
