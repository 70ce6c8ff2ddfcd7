"""What a pruning method sees of one decoder block, and what it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from checkpoints.discovery import LinearRef
from checkpoints.factored import Pair, product
from pruning.evidence.moments import InputMoments
from pruning.quantization_grid import QuantizationGrid, Quantized
from workloads.block_record import Fact
from workloads.cost_curve import CostCurve
from workloads.errors import UserError
from workloads.patterns import NofM

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Decision:
    """What becomes of one matrix. keep (rows, cols) bool; `weight` (rows, cols) float32, pruned entries 0, where
    surviving weights change too; `quantized` where they were put on a grid (weight is then what comes off it);
    `factors` (checkpoints/factored.py), float32, where their product takes its place."""

    keep: torch.Tensor
    weight: torch.Tensor | None = None
    quantized: Quantized | None = None
    factors: Pair | None = None

    def stored(self, dtype: torch.dtype) -> torch.Tensor | None:
        """The weight (rows, cols) that a model of that type gets; None where its own stays."""
        if self.factors is not None:
            first, second = (factor.to(dtype).float() for factor in self.factors)
            return product(first, second).to(dtype)
        return None if self.weight is None else self.weight.to(dtype)


@dataclass
class BlockJob:
    """One block to prune: its dense weights are loaded in `block`, and stay untouched until the driver applies the
    decisions.

    inputs: hidden states (batch, seq, hidden) that the pruned blocks before it produce; [] when the run has no
    calibration. outputs: what the dense block makes of them, where the recipe needs "outputs". dense_inputs,
    dense_outputs: hidden states of the unpruned model into and out of the block, where it needs "dense". moments: of
    `inputs`, in the dense block. sparsity / patterns: what every matrix shall get, by layer name. gradients: see
    pruning/evidence/gradients.py. facts: what the method says of the block, for the bundle. curves: what the matrices
    cost on a machine, where that is what the run goes by. together: so many blocks in a row are decided
    at once, `number` the first of them, `block` the list of them, and `run` through all.
    """

    number: int
    block: nn.Module
    refs: list[LinearRef]
    run: Callable[[torch.Tensor], torch.Tensor]
    sparsity: dict[str, float]
    patterns: dict[str, NofM | None]
    keeper: Callable[[LinearRef, torch.Tensor], torch.Tensor]  # scores (rows, cols) -> keep, under the recipe's rule
    warn: Warn
    grid: Callable[[LinearRef], QuantizationGrid | None]
    samples: int = 0  # calibration sequences
    moments: InputMoments | None = None
    inputs: list[torch.Tensor] = field(default_factory=list)
    outputs: list[torch.Tensor] = field(default_factory=list)
    dense_inputs: list[torch.Tensor] = field(default_factory=list)
    dense_outputs: list[torch.Tensor] = field(default_factory=list)
    gradients: dict[str, torch.Tensor] | None = None
    facts: dict[str, Fact] = field(default_factory=dict)
    curves: Mapping[str, CostCurve] | None = None
    together: int = 1

    @property
    def name(self) -> str:
        """What a warning calls it."""
        last = self.number + self.together - 1
        return f"block {last}" if self.together == 1 else f"blocks {self.number} to {last}"

    def weight(self, ref: LinearRef) -> torch.Tensor:
        """(out, in) float32, contiguous; never write into it."""
        return ref.matrix(self.block).float().contiguous()

    def choose(self, ref: LinearRef, scores: torch.Tensor) -> torch.Tensor:
        """The keep mask for (rows, cols) scores. Raises UserError if one is not finite."""
        self.check_finite(ref, scores)
        return self.keeper(ref, scores)

    def why_unseen(self, name: str) -> str:
        """Why nothing is known of a matrix's inputs, for a warning."""
        assert self.moments is not None
        if name in self.moments.sums:
            return "only zeros came into it from the calibration set"
        if any(ref.expert is not None for ref in self.refs if ref.layer.name == name):
            return "no calibration token was routed to it"
        return "no input of it was seen while the calibration set ran"

    def check_finite(self, ref: LinearRef, scores: torch.Tensor) -> None:
        if not bool(torch.isfinite(scores).all()):
            raise UserError(
                f"{ref.layer.name}: a score is NaN or Inf (weights or calibration activations overflow); use "
                "`dtype=float32`"
            )

    @property
    def device(self) -> torch.device:
        """Where the block's weights are; hidden states wait in the CPU's memory."""
        return self.refs[0].matrix(self.block).device

    def sequences(self, batches: list[torch.Tensor]) -> list[torch.Tensor]:
        """The hidden states of every calibration sequence on its own, (1, seq, hidden)."""
        return [sequence for batch in batches for sequence in batch.split(1)]
