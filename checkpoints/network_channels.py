"""Which rows and columns of a network's matrices are the same channels, found by running it: one channel of a matrix's
outputs is made NaN, and wherever NaN comes in next, that is where the channel goes. So no table of layers is needed:
norms, poolings, activations, residuals and reshapes tell themselves."""

from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import numpy as np
import torch
from torch import nn

from checkpoints.module_state import put_back, state_of
from checkpoints.network_matrices import Convolution, NetworkRef
from workloads.removal import Removal

NORMS = nn.BatchNorm1d | nn.BatchNorm2d
Units = Sequence[nn.Module]
CHUNK = 16  # channels at once
EVERY = 3  # of so many channels one goes, to try it
TOLERANCE = 1e-3  # of the largest output


@dataclass(frozen=True)
class Channels:
    """The outputs of `source` that are the inputs of `target` and nothing else's: `columns` (inputs of the target,) the
    channel of each, consecutive; `norms` are paths of the batch norms between."""

    source: NetworkRef
    target: NetworkRef
    columns: np.ndarray
    norms: tuple[str, ...]


@dataclass(frozen=True)
class Left:
    """What stays of a module: rows and columns of its matrix, features of a norm; None: all."""

    rows: np.ndarray | None = None
    cols: np.ndarray | None = None
    features: np.ndarray | None = None


@dataclass
class ChannelMap:
    """`norms`: by path, the matrix whose outputs they are of."""

    groups: list[Channels]
    norms: dict[str, str] = field(default_factory=dict)

    @classmethod
    def found(cls, units: Units, refs: list[NetworkRef], example: torch.Tensor) -> "ChannelMap":
        """Of loaded units; grouped convolutions and recurrent layers keep their channels."""
        plain = [ref for ref in refs if ref.groups == 1 and not _recurs(ref)]
        entering = [example[:1]]
        with torch.no_grad():
            for unit in units:
                entering.append(unit(entering[-1]))
            found = [group for ref in plain if (group := _group(units, refs, ref, entering)) is not None]
            groups = [group for group in found if _can_go(units, group, entering)]
        norms = {path: group.source.layer.name for group in groups for path in group.norms}
        return cls(groups, norms)

    def left(self, path: str, removal: Removal) -> Left:
        if path in self.norms:
            source = removal.cuts.get(self.norms[path])
            return Left(features=None if source is None else source.rows)
        cut = removal.cuts.get(path)
        return Left() if cut is None else Left(cut.rows, cut.cols)


def cut_module(module: nn.Module, left: Left) -> None:
    """Takes out of a module with its weights what does not stay."""
    if left.features is not None:
        _index(module, np.flatnonzero(left.features), 0, ("weight", "bias", "running_mean", "running_var"))
        vars(module)["num_features"] = int(left.features.sum())
    if left.rows is None or left.cols is None:
        return
    weight: Any = module.weight
    rows = torch.from_numpy(np.flatnonzero(left.rows)).to(weight.device)
    window = weight[0, 0].numel()
    channels = torch.from_numpy(np.flatnonzero(left.cols[::window])).to(weight.device)
    module.weight = nn.Parameter(weight.detach()[rows][:, channels].contiguous(), requires_grad=False)
    _index(module, rows.cpu().numpy(), 0, ("bias",))
    names = ("out_channels", "in_channels") if isinstance(module, Convolution) else ("out_features", "in_features")
    vars(module).update(dict(zip(names, (len(rows), len(channels)), strict=True)))


def _index(module: nn.Module, kept: np.ndarray, axis: int, names: tuple[str, ...]) -> None:
    for name in names:
        tensor: Any = getattr(module, name, None)
        if tensor is None:
            continue
        cut = tensor.detach().index_select(axis, torch.from_numpy(kept).to(tensor.device)).contiguous()
        setattr(module, name, nn.Parameter(cut, requires_grad=False) if name in module._parameters else cut)


def _recurs(ref: NetworkRef) -> bool:
    return ".hidden." in ref.layer.name or ".input." in ref.layer.name


def _group(units: Units, refs: list[NetworkRef], source: NetworkRef, entering: list[torch.Tensor]) -> Channels | None:
    """None where the channels do not go to one matrix alone, or come out at the end."""
    count = source.layer.out_features
    seen: dict[str, np.ndarray] = {}  # (channels, inputs) of matrices, (channels, features) of norms
    for first in range(0, count, CHUNK):
        chunk = range(first, min(first + CHUNK, count))
        found, ended = _trace(units, refs, source, chunk, entering)
        if ended:
            return None
        for name, dirty in found.items():
            seen.setdefault(name, np.zeros((count, dirty.shape[1]), dtype=bool))[chunk.start : chunk.stop] = dirty
    by_name = {ref.layer.name: ref for ref in refs}
    targets = [by_name[name] for name in seen if name in by_name]
    if len(targets) != 1 or targets[0].groups > 1 or _recurs(targets[0]):
        return None
    columns = seen[targets[0].layer.name]
    norms = [name for name in seen if name not in by_name]
    own = columns.argmax(axis=0)
    consecutive = np.array_equal(own, np.repeat(np.arange(count), columns.shape[1] // count))
    known = all(np.array_equal(seen[name], np.eye(count)) for name in norms)
    if not consecutive or not (columns.sum(axis=0) == 1).all() or not known:
        return None
    return Channels(source, targets[0], own, tuple(norms))


def _can_go(units: Units, group: Channels, entering: list[torch.Tensor]) -> bool:
    """Whether the network without every third of the channels is the one with zeros in their place: not where they are
    added to, or multiplied with, channels that stay."""
    kept = np.arange(group.source.layer.out_features) % EVERY != 0
    if not kept.any():
        return False
    first, columns = group.source.layer.block, kept[group.columns]
    norms = [unit.get_submodule(path) for path in group.norms for unit in units if _has(unit, path)]
    touched = [group.source.module, group.target.module, *norms]
    before = [state_of(module) for module in touched]
    try:
        group.target.matrix(units[0])[:, torch.from_numpy(~columns)] = 0
        masked = _through(units[first:], entering[first])
        put_back(group.target.module, before[1])
        every = (
            np.ones(group.source.layer.in_features, dtype=bool),
            np.ones(group.target.layer.out_features, dtype=bool),
        )
        cut_module(group.source.module, Left(kept, every[0]))
        cut_module(group.target.module, Left(every[1], columns))
        for norm in norms:
            cut_module(norm, Left(features=kept))
        with redirect_stderr(StringIO()):  # where torch.fx prints what it raises
            smaller = _through(units[first:], entering[first])
    except (RuntimeError, ValueError, IndexError):  # shapes that do not fit together any more
        return False
    finally:
        for module, state in zip(touched, before, strict=True):
            put_back(module, state)
    size = float(masked.abs().max())
    return smaller.shape == masked.shape and float((smaller - masked).abs().max()) <= TOLERANCE * max(size, 1e-30)


def _has(unit: nn.Module, path: str) -> bool:
    return any(name == path for name, _ in unit.named_modules())


def _through(units: Units, states: torch.Tensor) -> torch.Tensor:
    for unit in units:
        states = unit(states)
    return states


def _dirty_inputs(ref: NetworkRef, dirty: torch.Tensor) -> torch.Tensor:
    """(samples, inputs of the matrix): a channel's whole window where one element of it is."""
    if not isinstance(ref.module, Convolution):
        return dirty.reshape(len(dirty), -1, dirty.shape[-1]).any(dim=1)
    channels = dirty.flatten(2).any(dim=2)
    return channels.repeat_interleave(ref.layer.in_features * ref.groups // channels.shape[1], dim=1)


def _trace(
    units: Units, refs: list[NetworkRef], source: NetworkRef, chunk: range, entering: list[torch.Tensor]
) -> tuple[Mapping[str, np.ndarray], bool]:
    """(where NaN came in, whether it came out at the end), sample n having channel chunk[n] of the source's NaN.
    `entering` each unit: states of one sample."""
    first = source.layer.block
    found: dict[str, np.ndarray] = {}
    handles = []

    def matrix(ref: NetworkRef) -> Any:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            dirty = _dirty_inputs(ref, args[0].isnan())
            if dirty.any():
                found[ref.layer.name] = found.get(ref.layer.name, False) | dirty.cpu().numpy()
            made = torch.zeros_like(output)
            if ref is source:
                for sample, channel in enumerate(chunk):
                    made.select(1 if isinstance(module, Convolution) else -1, channel)[sample] = torch.nan
            return made

        return hook

    def norm(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            dirty = args[0].isnan().flatten(2).any(dim=2) if args[0].ndim > 2 else args[0].isnan()
            if dirty.any():
                found[path] = dirty.cpu().numpy()

        return hook

    for unit in units:
        for path, module in unit.named_modules():
            if isinstance(module, NORMS):
                handles.append(module.register_forward_pre_hook(norm(path)))
    handles += [ref.module.register_forward_hook(matrix(ref)) for ref in refs if ref.group == 0]
    states = entering[first].expand(len(chunk), *entering[first].shape[1:])
    try:
        with torch.no_grad():
            for unit in units[first:]:
                states = unit(states)
                if not states.isnan().any():
                    break
    finally:
        for handle in handles:
            handle.remove()
    return found, bool(states.isnan().any())
