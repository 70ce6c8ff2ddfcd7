"""Dynamic probabilistic pruning (Gonzalez-Carabarin et al., "Dynamic Probabilistic Pruning: A General Framework for
Hardware-Constrained Pruning at Different Granularities", 2021; methods 15), adapted: which k of n survive is
drawn, and the logits it is drawn by are learned from the error of one block's output.

    group      a row; a run of N:M; a band of `tile_rows` rows whose tiles of `tile_cols` columns stay or go whole
    logits     Phi, one a weight (or tile): `spread` times the logarithm of Wanda's score, standardised in its group
    a step     E = Phi + Gumbel noise; the k highest of every group stay, exactly; one sequence; loss = the error of the
               output (each token by its own size, as in BESA) + entropy * mean over groups of H(softmax(Phi)); AdamW
    gradient   as if the mask were soft. sequential: the sum of k softmaxes of E / tau, each without what the ones
               before it chose; sigmoid: sigma((E - t) / tau), t half-way between the k-th and the next. auto: the
               first up to k = 64. tau falls from 5 to 0.5
    end        the k highest Phi, without noise, ties by Wanda's score. epochs=0 is Wanda, to the weight

k is fixed by the target, so no penalty is needed. Weights stay. The bundle records confidence (mean share of
softmax(Phi) on what stays) and overlap (the share of its mask that a group has in common with another, on average).

Deviations: the paper trains a classifier from the start on its task's loss; here weights are frozen and the loss is a
block's, on what the pruned blocks before it produce. Temperature, start, lr and epochs are ours. Sequential softmaxes
are summed in sorted order, n log n instead of k n. Where the result is no better than Wanda's masks on sequences held
out from training, those stay. Quantization comes afterwards; neurons and heads are not offered.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field

from checkpoints.discovery import LinearRef
from pruning.block_job import BlockJob, Decision
from pruning.evidence.needs import Need
from pruning.methods.method import Evidence, PruningMethod
from pruning.methods.wanda import Wanda
from pruning.probabilistic import Drawn, confidence, entropy_gradient, gumbel, highest, mean_overlap, soft_gradient
from pruning.regional import block_error, held_out
from pruning.rules import keep_by_pattern, keep_by_row
from pruning.training import StandIn, output_error
from workloads.errors import NotForThisModel
from workloads.layers import Layer

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SEQUENTIAL_UP_TO = 64


@dataclass(frozen=True)
class Dpp(PruningMethod):
    """What the settings mean is said above. noise: seeds the draws."""

    epochs: Annotated[int, Field(ge=0)] = 1
    lr: Positive = 0.2
    spread: Positive = 10.0
    first_temperature: Positive = 5.0
    last_temperature: Positive = 0.5
    relaxation: Literal["auto", "sequential", "sigmoid"] = "auto"
    entropy: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    tile_rows: Annotated[int, Field(ge=1)] = 1
    tile_cols: Annotated[int, Field(ge=1)] = 1
    noise: Annotated[int, Field(ge=0)] = 0

    name = "dpp"
    needs = frozenset({Need.ENERGY, Need.OUTPUTS})

    def check_layer(self, layer: Layer) -> None:
        if layer.out_features % self.tile_rows or layer.in_features % self.tile_cols:
            raise NotForThisModel(
                f"{layer.name}: {layer.out_features} x {layer.in_features} is no whole number of tiles of "
                f"{self.tile_rows} x {self.tile_cols}; choose other `tile_rows`, `tile_cols`, or leave it out (`skip`)"
            )

    def score(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        return Wanda().score(weight, evidence)

    def decide(self, job: BlockJob) -> dict[str, Decision]:
        matrices = [self.start(job, ref) for ref in job.refs]
        first = [matrix.chosen() for matrix in matrices]
        free = any(bool(((matrix.kept > 0) & (matrix.kept < matrix.width)).any()) for matrix in matrices)
        if not self.epochs or not free:
            return decisions(matrices, first)
        self.learn(job, matrices)
        last = [matrix.chosen() for matrix in matrices]
        _, apart = held_out(len(job.sequences(job.inputs)))
        before, after = (
            block_error(job, apart, {m.ref: m.weight * keep for m, keep in zip(matrices, masks, strict=True)}, "token")
            for masks in (first, last)
        )
        better = after < before
        job.facts |= {
            "masks": "learned" if better else "Wanda's",
            "error_ratio": after / before,
            "confidence": sum(confidence(m.phi, m.kept) for m in matrices) / len(matrices),
            "overlap": sum(mean_overlap(highest(m.phi, m.kept, m.places)) for m in matrices) / len(matrices),
        }
        if not better:
            job.warn(
                f"block {job.number}: drawn masks made its error on held-out sequences {after / before:.3f} times as "
                "large, so Wanda's stay; give more sequences or `epochs`, or lower `lr`"
            )
        return decisions(matrices, last if better else first)

    def start(self, job: BlockJob, ref: LinearRef) -> Drawn:
        """The logits of a matrix, from which Wanda's mask follows."""
        weight, pattern = job.weight(ref), job.patterns[ref.layer.name]
        score = self.score(weight, self.evidence(job, ref.layer.name))
        job.check_finite(ref, score)
        tiles = self.tiled(score)
        if pattern is None:
            keep = keep_by_row(tiles, job.sparsity[ref.layer.name])
            return Drawn.of(ref, weight, tiles, keep, self.spread, (self.tile_rows, self.tile_cols))
        if self.tile_cols > 1:
            raise NotForThisModel(
                f"dpp: {pattern} counts single inputs, and `tile_cols` is {self.tile_cols}; set it to 1, or leave the "
                "pattern out"
            )
        keep = keep_by_pattern(tiles, pattern).reshape(-1, pattern.m)
        return Drawn.of(ref, weight, tiles.reshape(-1, pattern.m), keep, self.spread, (self.tile_rows, 1))

    def tiled(self, values: torch.Tensor) -> torch.Tensor:
        """(bands, tiles across) sums of (rows, cols)."""
        rows, cols = values.shape
        if self.tile_rows == self.tile_cols == 1:
            return values
        cut = values.reshape(rows // self.tile_rows, self.tile_rows, cols // self.tile_cols, self.tile_cols)
        return cut.sum(dim=(1, 3))

    def learn(self, job: BlockJob, matrices: list[Drawn]) -> None:
        inputs, wanted = job.sequences(job.inputs), job.sequences(job.outputs)
        trained, _ = held_out(len(inputs))
        steps = torch.optim.AdamW([matrix.phi for matrix in matrices], lr=self.lr, weight_decay=0.0)
        draws = torch.Generator().manual_seed(self.noise * 1_000_003 + job.number)
        of, count, done = {matrix.ref: matrix for matrix in matrices}, self.epochs * len(trained), 0
        temperature = self.first_temperature

        def receive(ref: LinearRef, gradient: torch.Tensor) -> None:
            matrix = of[ref]
            towards = self.tiled(gradient * matrix.weight).reshape(matrix.phi.shape)
            matrix.phi.grad = soft_gradient(
                matrix.drawn, matrix.kept, towards, temperature, self.relaxed(int(matrix.kept.max()))
            )

        with StandIn(job.block, job.refs) as stand_in:
            for _ in range(self.epochs):
                for number in trained:
                    share = done / max(1, count - 1)
                    temperature = self.first_temperature ** (1 - share) * self.last_temperature**share
                    for matrix in matrices:
                        matrix.drawn = matrix.phi.detach() + gumbel(matrix.phi.shape, draws).to(matrix.phi.device)
                        stand_in.set(matrix.ref, matrix.weight * matrix.whole(highest(matrix.drawn, matrix.kept)))
                        matrix.phi.grad = torch.zeros_like(matrix.phi)
                    states, reference = inputs[number].to(job.device), wanted[number].to(job.device)

                    def loss(states=states, reference=reference) -> torch.Tensor:
                        return output_error(job.run(states), reference, "token")

                    stand_in.backward(loss, receive)
                    if self.entropy:
                        for matrix in matrices:
                            assert matrix.phi.grad is not None
                            matrix.phi.grad += self.entropy * entropy_gradient(matrix.phi.detach())
                    steps.step()
                    done += 1

    def relaxed(self, kept: int) -> Literal["sequential", "sigmoid"]:
        if self.relaxation == "auto":
            return "sequential" if kept <= SEQUENTIAL_UP_TO else "sigmoid"
        return self.relaxation


def decisions(matrices: list[Drawn], masks: list[torch.Tensor]) -> dict[str, Decision]:
    return {matrix.ref.layer.name: Decision(keep) for matrix, keep in zip(matrices, masks, strict=True)}
