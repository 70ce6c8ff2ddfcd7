"""Learnable weight clipping (LWC, the weight-only part of OmniQuant, Shao et al., ICLR 2024).

The ranges of all grids of a block are clipped to learned shares of their extremes, so that the block with quantized
(and pruned) weights, on what the quantized blocks before it produce, gives what the unpruned block of the unpruned
model gives: AdamW on the mean squared error, one sequence a step, in order. Where pruning only masks,
W_hat = Q(W) .* M with grids of the dense W; where it changes weights, the grids are theirs.

Default: 20 epochs, as in the released scripts for weight-only 3 and 4 bits, which is what this quantizer is for (the
release's program default is 10; the paper takes 40 for 2 bits). Never worse than round to nearest on the calibration
set: a block where it is takes that, and the log says so. Not here: the release's learnable scaling and shift between
norms and linears.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field

from checkpoints.discovery import LinearRef
from pruning.block_job import BlockJob, Decision
from pruning.evidence.needs import Need
from pruning.parallel import ordered_map
from pruning.quantization_grid import Quantized
from pruning.quantizers.clipping import LearnableClipping
from pruning.quantizers.quantizer import Quantizer
from pruning.quantizers.rtn import grid_of, nearest, on_grid
from pruning.training import StandIn, output_error

Pairs = list[tuple[torch.Tensor, torch.Tensor]]  # (input, wanted output) of a sequence, each (1, seq, hidden)


@dataclass(frozen=True)
class Lwc(Quantizer):
    """epochs: passes over the calibration set. learning_rate: AdamW's. reference: what the block shall give; dense:
    the output of the unpruned model's block on its own inputs, local: that of the dense block on the inputs at hand."""

    epochs: Annotated[int, Field(ge=1)] = 20
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-2
    reference: Literal["dense", "local"] = "dense"

    name = "lwc"

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.DENSE if self.reference == "dense" else Need.OUTPUTS})

    def apply(self, job: BlockJob, decisions: dict[str, Decision]) -> dict[str, Decision]:
        """The decisions with every matrix on grids of learned ranges. Raises UserError if an output or a gradient is
        not finite."""
        wanted = job.dense_outputs if self.reference == "dense" else job.outputs
        pairs = list(zip(job.sequences(job.inputs), job.sequences(wanted), strict=True))
        clippings: dict[str, LearnableClipping] = {}
        for ref in job.refs:
            weight = decisions[ref.layer.name].weight
            clippings[ref.layer.name] = LearnableClipping(
                job.weight(ref) if weight is None else weight, grid_of(job, ref)
            )

        def learned(name: str) -> Quantized:
            return clippings[name].quantize().masked(decisions[name].keep)

        def plain(name: str) -> Quantized:
            """What rtn makes of it."""
            return nearest(clippings[name].weight.masked_fill(~decisions[name].keep, 0), clippings[name].grid)

        with StandIn(job.block, job.refs) as stand_in:
            put(stand_in, job.refs, plain)
            plain_error = mean_error(job, pairs)
            train(self, job, stand_in, pairs, clippings, decisions, learned)
            put(stand_in, job.refs, learned)
            learned_error = mean_error(job, pairs)
        if not learned_error <= plain_error:
            job.warn(
                f"block {job.number}: learned clipping ends with an output error of {learned_error:.3g}, round to "
                f"nearest with {plain_error:.3g}; rounded to nearest (more epochs or another learning_rate may help)"
            )
        chosen = learned if learned_error <= plain_error else plain
        return {name: on_grid(decision, chosen(name)) for name, decision in decisions.items()}


def train(
    settings: Lwc,
    job: BlockJob,
    stand_in: StandIn,
    pairs: Pairs,
    clippings: dict[str, LearnableClipping],
    decisions: dict[str, Decision],
    learned: Callable[[str], Quantized],
) -> None:
    logits = [logit for clipping in clippings.values() for logit in clipping.parameters()]
    optimizer = torch.optim.AdamW(logits, lr=settings.learning_rate, weight_decay=0)

    def receive(ref: LinearRef, gradient: torch.Tensor) -> None:
        clipping = clippings[ref.layer.name]
        for logit in clipping.parameters():
            logit.grad = None  # of an earlier call in this step, whose gradients overflowed
        clipping.backward(gradient.masked_fill_(~decisions[ref.layer.name].keep, 0))

    for _ in range(settings.epochs):
        for hidden, target in pairs:
            put(stand_in, job.refs, learned)
            optimizer.zero_grad()
            stand_in.backward(lambda x=hidden, y=target: output_error(job.run(x), y, "none"), receive)  # type: ignore[misc]
            optimizer.step()


def put(stand_in: StandIn, refs: list[LinearRef], quantized_of: Callable[[str], Quantized]) -> None:
    for ref in refs:
        stand_in.set(ref, quantized_of(ref.layer.name).dequantize())


def mean_error(job: BlockJob, pairs: Pairs) -> float:
    """Output error of the block as it stands, mean over the sequences."""
    errors = ordered_map(lambda pair: float(output_error(job.run(pair[0]), pair[1], "none")), pairs)
    return sum(errors) / len(pairs)
