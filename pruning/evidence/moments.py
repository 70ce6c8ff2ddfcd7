"""Streaming sums over inputs: what each prunable matrix of a block receives while the block runs.

A few sums a distinct input tensor are kept, never activations: matrices fed by the same tensor (q, k, v) share one
object.
"""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from checkpoints.discovery import LinearRef
from pruning.evidence.products import Products

STRIP = 192  # rows of X^T X that are made at once
COLUMNS = 128  # that are summed at once


@dataclass
class Moments:
    """Sums over the tokens t of one input x (tokens, in_features): energy = sum_t x_tj^2, absolute = sum_t |x_tj| and
    total = sum_t x_tj, all (in,) float64; hessian = sum_t x_t x_t^T, (in, in) float32 (methods 0.1). What was not asked
    for is None."""

    tokens: int
    energy: torch.Tensor
    absolute: torch.Tensor | None = None
    hessian: torch.Tensor | None = None
    total: torch.Tensor | None = None

    def add_(self, other: "Moments") -> None:
        self.tokens += other.tokens
        self.energy += other.energy
        if self.absolute is not None and other.absolute is not None:
            self.absolute += other.absolute
        if self.hessian is not None and other.hessian is not None:
            self.hessian += other.hessian
        if self.total is not None and other.total is not None:
            self.total += other.total

    def copy(self) -> "Moments":
        return copy.deepcopy(self)


Sums = dict[str, Moments]


@dataclass
class InputMoments:
    """The sums of a whole calibration set of `samples` sequences, by layer name; names of unreached experts are
    absent."""

    samples: int
    sums: Sums

    def feature_norm(self, name: str) -> torch.Tensor | None:
        """(in,) float32 sqrt(a), a_j = mean over sequences of sum_t x_tj^2 (methods 0.5); None if nothing, or only
        zeros, came in."""
        moments = self.sums.get(name)
        if moments is None or not bool(moments.energy.any()):
            return None
        return (moments.energy / self.samples).sqrt().float()


class InputWatch:
    """Watches what comes into the matrices of a block.

    `observe(run)` calls run() and returns (its result, the sums of that call); it may be called from several threads.
    run() may call the block several times, on pieces of a batch. Use as a context manager: hooks are gone afterwards.
    outputs=False: the block's outputs are not wanted, so that the product of its last matrix is left out where that is
    a plain linear: no other input depends on it.
    """

    def __init__(
        self,
        block: nn.Module,
        refs: list[LinearRef],
        hessian: bool = False,
        absolute: bool = False,
        total: bool = False,
        outputs: bool = True,
    ):
        self.block = block
        self.refs = refs
        self._hessian = hessian
        self._absolute = absolute
        self._total = total
        self._outputs = outputs
        self._local = threading.local()
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._left_out: nn.Module | None = None
        self._by_weight = [
            ref for ref in refs if ref.expert is not None
        ]  # seen by their weight, not by a call of their module

    def __enter__(self) -> "InputWatch":
        for ref in self.refs:
            if ref.expert is None:
                module = self.block.get_submodule(ref.module_path)
                self._handles.append(module.register_forward_pre_hook(self._hook(ref)))
        if not self._outputs:
            self._handles.append(self.block.register_forward_hook(self._leave_last_out))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self._left_out is not None:
            vars(self._left_out).pop("forward", None)
            self._left_out = None

    def observe(self, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Sums]:
        output, sums = self._observe(run)
        known = {ref.layer.name for ref in self._by_weight}
        uncalled = [ref for ref in self.refs if ref.layer.name not in sums and ref.layer.name not in known]
        if uncalled:  # their parents use the weights alone, as Mamba does with dt_proj: look again, at the products
            self._by_weight = [*self._by_weight, *uncalled]
            output, sums = self._observe(run)
        return output, sums

    def _observe(self, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Sums]:
        local = self._local
        local.seen, local.latest, local.called, local.order = {}, (None, None), set(), []
        with self._watching_products():
            output = run()
        shared: dict[tuple[int, ...], tuple[list[str], list[Any]]] = {}
        for name, parts in local.seen.items():
            shared.setdefault(tuple(map(id, parts)), ([], parts))[0].append(name)
        order, sums = list(local.seen), Sums()
        local.seen, local.latest, parts = {}, (None, None), []
        while shared:  # inputs go as soon as they are summed
            names, parts = shared.pop(next(iter(shared)))
            sums |= dict.fromkeys(names, self._sum(parts))
            parts = []
        return output, {name: sums[name] for name in order}

    def _hook(self, ref: LinearRef) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        name = ref.layer.name

        def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            self._local.called.add(name)
            self._local.order.append(name)
            self._add(name, ref.inputs(args[0]))

        return hook

    def _leave_last_out(self, block: nn.Module, args: Any, output: Any) -> None:
        """After one call of the block its matrices' order is known."""
        order, self._local.order = self._local.order, []
        paths = {ref.layer.name: ref.module_path for ref in self.refs if ref.expert is None}
        if self._left_out is not None or self._by_weight or sorted(order) != sorted(paths):
            return
        last = block.get_submodule(paths[order[-1]])
        if type(last) is nn.Linear:
            width = last.out_features
            vars(last)["forward"] = lambda inputs: inputs.new_zeros(1).expand(*inputs.shape[:-1], width)
            self._left_out = last

    def _add_product(self, name: str, inputs: torch.Tensor) -> None:
        """A product with a weight, unless its module's call was counted already."""
        if name not in self._local.called:
            self._add(name, inputs)

    def _add(self, name: str, inputs: torch.Tensor) -> None:
        """inputs (..., in_features)"""
        local = self._local
        if local.latest[0] is not inputs:
            flat = inputs.detach().reshape(-1, inputs.shape[-1]).float()
            local.latest = (inputs, flat if self._hessian else self._moments(flat))
        local.seen.setdefault(name, []).append(local.latest[1])

    def _sum(self, parts: list[Any]) -> Moments:
        """Of all that came into a matrix: inputs (tokens, in_features), which make one Hessian, or their sums."""
        if self._hessian:
            return self._moments(torch.cat(parts) if len(parts) > 1 else parts[0])
        if len(parts) == 1:
            return parts[0]
        total = parts[0].copy()
        for part in parts[1:]:
            total.add_(part)
        return total

    def _moments(self, flat: torch.Tensor) -> Moments:
        """flat (tokens, in_features) float32"""
        return Moments(
            tokens=len(flat),
            energy=column_sums(flat, torch.square),
            absolute=column_sums(flat, torch.abs) if self._absolute else None,
            hessian=gram(flat) if self._hessian else None,
            total=column_sums(flat) if self._total else None,
        )

    @contextmanager
    def _watching_products(self) -> Iterator[None]:
        if not self._by_weight:
            yield
            return
        names = {ref.matrix(self.block).data_ptr(): ref.layer.name for ref in self._by_weight}
        with Products(names, self._add_product):
            yield


def column_sums(inputs: torch.Tensor, of: Callable[[torch.Tensor], torch.Tensor] = lambda part: part) -> torch.Tensor:
    """(in,) float64 sums over the tokens of of(inputs), inputs (tokens, in): a strip of columns at a time, which stays
    in the cache as doubles. A column's sum does not depend on its strip."""
    strips = inputs.split(COLUMNS, dim=1) if inputs.device.type == "cpu" else [inputs]
    return torch.cat([of(strip).double().sum(dim=0) for strip in strips])


def gram(inputs: torch.Tensor) -> torch.Tensor:
    """X^T X (in, in) of inputs (tokens, in): strips up to the diagonal, mirrored, which is about 0.6 of the product."""
    across, width = inputs.T, inputs.shape[1]
    if inputs.device.type != "cpu" or width <= STRIP:
        return across @ inputs
    made = inputs.new_empty(width, width)
    for start in range(0, width, STRIP):
        stop = min(start + STRIP, width)
        made[start:stop, :stop] = across[start:stop] @ inputs[:, :stop]
        made[:start, start:stop] = made[start:stop, :start].T
    return made


def merge(total: Sums, sums: Sums) -> None:
    """total += sums. Matrices that share an input share its sums in both, so each is added once."""
    added: set[int] = set()
    for name, moments in sums.items():
        if name not in total:
            total[name] = moments
            added.add(id(moments))
        elif id(total[name]) not in added:
            added.add(id(total[name]))
            total[name].add_(moments)
