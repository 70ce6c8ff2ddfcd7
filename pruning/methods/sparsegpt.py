"""SparseGPT (Frantar and Alistarh, ICML 2023): the mask of a slab of columns by the optimal-brain-surgeon score
(w_rj / U_jj)^2, and an update of all weights right of each pruned one that makes up for it.

H = X^T X over all calibration tokens, damped by `damping` times its mean diagonal; U the upper Cholesky factor of its
inverse. Unstructured masks share one threshold over all rows of a slab of `blocksize` columns, so sparsity is uniform
over slabs, not rows; N:M masks are chosen from the current weights as the walk comes to each run. Surviving weights
change: the bundle holds them. With `bits` and the quantizer "gptq" (its default) the same walk rounds each column after
pruning it and makes up for both errors at once; grids are those of what the walk leaves without rounding.

Deviations from the released program: counts are exact, unless `count=released` (it prunes "<= threshold", one more a
slab); it takes the dense weights' grids (`grids=dense`), which cut off survivors that grew; a Cholesky that fails is
tried again with ten times the damping, then in float64, then with the diagonal alone, and the log says so; N:M counts
kept weights, not removed ones; an expert that fewer than 4 tokens an input reached uses the Hessian of all experts of
its stack; a matrix that nothing reached is pruned by magnitude. Blocks after a pruned one see its outputs; inside a
block all Hessians are of the dense block (true-sequential refinement, off by default in the release, is not offered).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from pruning.block_job import BlockJob, Decision
from pruning.evidence.needs import Need
from pruning.methods.method import PruningMethod
from pruning.second_order.hessians import Factors
from pruning.second_order.obs import Grids, MaskChoice, compensate
from workloads.errors import UserError


@dataclass(frozen=True)
class SparseGpt(PruningMethod):
    """blocksize: columns whose mask is chosen together, and that are worked on together. damping: share of the mean
    diagonal. count: exact: a matrix loses its share to the weight; released: a slab floor(its share) + 1. grids: where
    there are bits, those of the weights as they will be pruned, or of the dense ones."""

    blocksize: Annotated[int, Field(ge=1)] = 128
    damping: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
    count: Literal["exact", "released"] = "exact"
    grids: Grids = "pruned"

    name = "sparsegpt"
    rules = ("slab",)
    needs = frozenset({Need.ENERGY, Need.HESSIAN})
    joint = frozenset({"gptq"})
    default_quantizer = "gptq"
    changes_weights = True

    def decide(self, job: BlockJob) -> dict[str, Decision]:
        factors = Factors(job, self.damping, "pruned by magnitude, without update")
        decisions = {}
        for ref in job.refs:
            name, grid, pattern = ref.layer.name, job.grid(ref), job.patterns[ref.layer.name]
            if pattern is not None:
                check_runs(name, pattern.m, self.blocksize, grid.group_size if grid else 0)
            factor, _ = factors.of(ref)
            choice = MaskChoice(None, pattern, job.sparsity[name], self.floors)
            made = compensate(job.weight(ref), factor, choice, self.blocksize, grid, grids=self.grids)
            decisions[name] = Decision(made.keep, made.weight, made.quantized)
        return decisions


def check_runs(name: str, m: int, blocksize: int, group_size: int) -> None:
    for what, width in (("blocksize", blocksize), ("`group_size`", group_size)):
        if width % m:
            raise UserError(f"{name}: {what} {width} splits runs of {m} inputs; choose a multiple of {m}")
