"""Micro-structured weight unification and pruning (methods 13): a matrix is cut into small blocks; some are pruned, in
some all weights get one magnitude and keep their signs, the others stay free.

`sparsity` is the share of blocks that are pruned, `unified` the share that is unified, of every matrix: the blocks of
the least sum a w^2 go, of the others those of the least sum a (|w| - mean)^2 are unified, with a the energy of an
input (`weighted`) or 1. ADMM then moves all weights so that the layer's outputs on the calibration set stay as they
were, while the blocks stay what they are (pruning/second_order/unified.py). A unified block is stored as one magnitude
and a sign a weight: `prunesim formats` counts it.

After Lin, Jiang, Wang, Xu, Wang, Liu, Li, "Efficient Micro-Structured Weight Unification and Pruning for Neural Network
Compression", 2021 (arXiv 2106.08301): there convolutions, by ADMM with the loss of the task; here the loss
is the layer's own error, whose step has a closed form. With iterations=0 the weights are projected once, without ADMM.

Deviations: that loss, and with it no training of the whole network; rho stays the same; of all iterations the one with
the least error is taken; which blocks are pruned and unified is decided matrix by matrix, and settles after half of the
iterations. Blocks at the ends of a matrix that its sides do not divide are smaller. Blocks take the place of N:M.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import AfterValidator, Field

from checkpoints.discovery import LinearRef
from pruning.block_job import BlockJob, Decision
from pruning.evidence.needs import Need
from pruning.methods.method import PruningMethod
from pruning.rules import pruned_count
from pruning.second_order.hessians import Inputs
from pruning.second_order.unified import Blocks, Unified, projected, unify
from workloads.block_shape import block_shape, known_shape
from workloads.errors import UserError
from workloads.patterns import NofM

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Unify(PruningMethod):
    """block: OUTPUTSxINPUTS. unified: share of all blocks whose weights get one magnitude; with the sparsity at most 1.
    weighted: weights count by the energy of their inputs. iterations: of ADMM; 0: plain projection. rho: how fast
    weights are pulled to the blocks. damping: share of the mean diagonal."""

    block: Annotated[str, AfterValidator(known_shape)] = "1x8"
    unified: Share = 0.5
    weighted: bool = True
    iterations: Annotated[int, Field(ge=0)] = 30
    rho: Positive = 1.0
    damping: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01

    name = "unify"
    rules = ("block",)
    changes_weights = True

    @property
    def needs(self) -> frozenset[Need]:
        if self.iterations:
            return frozenset({Need.ENERGY, Need.HESSIAN})
        return frozenset({Need.ENERGY}) if self.weighted else frozenset()

    def check(self, sparsity: float) -> None:
        if sparsity + self.unified > 1 + 1e-9:
            raise UserError(
                f"unify: {sparsity:g} of the blocks pruned and {self.unified:g} unified are more than all; lower the "
                "sparsity, or `unified`"
            )

    def check_pattern(self, pattern: NofM) -> None:
        raise UserError(f"unify prunes whole blocks of {self.block}, no {pattern}; give a sparsity instead")

    def decide(self, job: BlockJob) -> dict[str, Decision]:
        inputs = Inputs(job, "its blocks are those of the weights alone") if self.needs else None
        made = {ref.layer.name: self.of(job, ref, inputs) for ref in job.refs}
        shares = [each.kinds.shares for each in made.values()]
        job.facts.update({name: sum(share[name] for share in shares) / len(shares) for name in shares[0]})
        if self.iterations:
            job.facts["error"] = max(each.error for each in made.values())
            job.facts["error_without_admm"] = max(each.plain_error for each in made.values())
        decisions = {}
        for ref in job.refs:
            result = made[ref.layer.name]
            keep = ~self.blocks(ref, job).spread(result.kinds.pruned)
            decisions[ref.layer.name] = Decision(keep, result.weight)
        return decisions

    def blocks(self, ref: LinearRef, job: BlockJob) -> Blocks:
        height, width = block_shape(self.block)
        rows, cols = ref.layer.shape
        number = -(-rows // height) * -(-cols // width)
        pruned = pruned_count(number, job.sparsity[ref.layer.name])
        return Blocks((rows, cols), height, width, (pruned, min(pruned_count(number, self.unified), number - pruned)))

    def of(self, job: BlockJob, ref: LinearRef, inputs: Inputs | None) -> Unified:
        weight, blocks = job.weight(ref), self.blocks(ref, job)
        job.check_finite(ref, weight)
        moments = inputs.of(ref) if inputs is not None else None
        if moments is not None and moments.hessian is not None and self.iterations:
            try:
                return unify(weight, moments.hessian, blocks, self.weighted, self.rho, self.damping, self.iterations)
            except UserError as error:
                raise UserError(f"{ref.layer.name}: {error}") from None
        energy = torch.ones(blocks.shape[1], device=weight.device)
        if moments is not None and self.weighted:
            energy = moments.energy.to(weight.device) + torch.finfo(torch.float32).tiny
        made, kinds = projected(weight, energy, blocks)
        return Unified(made.float(), kinds)
