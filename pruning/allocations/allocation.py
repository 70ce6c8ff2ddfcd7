"""What an allocation is, what it sees of a model, and what it answers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from pruning.component import Component
from workloads.errors import unwritten
from workloads.layers import Layer
from workloads.patterns import NofM


@dataclass(frozen=True)
class LayerSparsities:
    """What every matrix shall get, by layer name; `patterns` only of those that follow one of their own; `bits`, None:
    all get the recipe's, else only those that it names are quantized."""

    sparsity: dict[str, float]
    patterns: dict[str, NofM] | None = None
    bits: dict[str, int] | None = None


@dataclass(frozen=True)
class AllocationJob:
    """A dense model to allocate for. `weights()` yields (layer, (out, in) float32 weight) matrix after matrix;
    `scored()` yields (layer, weight, feature_norm (in,) float32 or None) the same way while the calibration set runs
    through the dense model. Both load one block at a time; layers come in model order."""

    layers: list[Layer]
    sparsity: float
    pattern: NofM | None
    weights: Callable[[], Iterator[tuple[Layer, torch.Tensor]]]
    scored: Callable[[], Iterator[tuple[Layer, torch.Tensor, torch.Tensor | None]]]


@dataclass(frozen=True)
class Allocation(Component):
    """needs_calibration: whether it asks for `scored`."""

    needs_calibration: ClassVar[bool] = False

    def allocate(self, job: AllocationJob) -> LayerSparsities:
        """Raises UserError for a target it cannot reach."""
        raise unwritten(self, "allocate")

    @property
    def facts(self) -> dict[str, Any]:
        return {"allocator": self.name, **super().facts}
