"""Streaming input statistics: what each prunable matrix of a block receives while the block runs.

One small vector a matrix is kept, never activations. Matrices fed by the same tensor (q, k, v) share the computation.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from workloads.discovery import LinearRef

Sums = dict[str, torch.Tensor]
# How experts multiply inputs (first) with a matrix or a stack of them (second).
PRODUCTS = (
    nn.functional.linear,
    torch.matmul,
    torch.bmm,
    torch.Tensor.matmul,
    torch.Tensor.bmm,
    torch.Tensor.__matmul__,
)


class InputEnergy:
    """Sums of squared inputs, per matrix (in_features,) float64: sum over all tokens of x_tj^2 (methods: Wanda).

    `observe(run)` calls run() and returns (its result, the sums of that call); it may be called from several threads.
    Use as a context manager: hooks are gone afterwards.
    """

    def __init__(self, block: nn.Module, refs: list[LinearRef]):
        self.block = block
        self.refs = refs
        self._local = threading.local()
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._experts = [ref for ref in refs if ref.expert is not None]

    def __enter__(self) -> "InputEnergy":
        for ref in self.refs:
            if ref.expert is None:
                module = self.block.get_submodule(ref.module_path)
                self._handles.append(module.register_forward_pre_hook(self._hook(ref.layer.name)))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def observe(self, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Sums]:
        self._local.sums, self._local.latest = {}, (None, None)
        with self._watching_experts():
            output = run()
        return output, self._local.sums

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            self._add(name, args[0])

        return hook

    def _add(self, name: str, inputs: torch.Tensor) -> None:
        """inputs (..., in_features)"""
        local = self._local
        if local.latest[0] is not inputs:
            flat = inputs.detach().reshape(-1, inputs.shape[-1]).float()
            local.latest = (inputs, flat.square().sum(dim=0, dtype=torch.float64))
        energy = local.latest[1]
        local.sums[name] = local.sums[name] + energy if name in local.sums else energy

    @contextmanager
    def _watching_experts(self) -> Iterator[None]:
        if not self._experts:
            yield
            return
        with _ExpertProducts(self.block, self._experts, self._add):
            yield


class _ExpertProducts(TorchFunctionMode):
    """Sees every matrix product of this thread and tells which expert's matrix it used, by the matrix's address."""

    def __init__(self, block: nn.Module, refs: list[LinearRef], add: Callable[[str, torch.Tensor], None]):
        super().__init__()
        self._names = {ref.matrix(block).data_ptr(): ref.layer.name for ref in refs}
        self._add = add

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in PRODUCTS and len(args) > 1:
            inputs, weight = args[:2]
            one_each = weight.ndim == 3  # bmm: all experts at once, each with its own inputs
            for x, matrix in zip(inputs, weight, strict=True) if one_each else [(inputs, weight)]:
                name = self._names.get(matrix.data_ptr())
                if name is not None:
                    self._add(name, x)
        return function(*args, **(kwargs or {}))


def merge(total: Sums, sums: Sums) -> None:
    """total += sums"""
    for name, energy in sums.items():
        total[name] = total[name] + energy if name in total else energy
