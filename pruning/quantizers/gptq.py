"""GPTQ (Frantar et al., ICLR 2023): column after column is rounded, and the columns right of it make up for the
error: SparseGPT's walk with nothing, or a given mask, pruned.

Pruned weights stay 0, and grids are fitted to what pruning left. Where pruning only masked, the walk starts from the
dense weights, so that the survivors make up for what the mask takes away as well as for rounding; as they may grow,
grids are those of what the walk leaves without rounding (`grids=dense`: of the survivors as they were). `act_order`
takes the inputs with the largest activations first; it implies `static_groups` (all groups fitted before the walk),
which keeps groups contiguous in memory. Otherwise groups are fitted when the walk reaches them, to the weights as they
are then, inside a slab too (the released program takes stale ones there). Damping and its remedies as in
methods/sparsegpt.py.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from pruning.block_job import BlockJob, Decision
from pruning.evidence.needs import Need
from pruning.quantizers.quantizer import Quantizer
from pruning.second_order.hessians import Factors
from pruning.second_order.obs import Grids, MaskChoice, compensate


@dataclass(frozen=True)
class Gptq(Quantizer):
    """blocksize: columns worked on together. damping: share of the mean diagonal of X^T X. grids: under a mask,
    those of the weights as they will be, or as they were."""

    blocksize: Annotated[int, Field(ge=1)] = 128
    damping: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
    act_order: bool = False
    static_groups: bool = False
    grids: Grids = "pruned"

    name = "gptq"
    needs = frozenset({Need.ENERGY, Need.HESSIAN})

    def apply(self, job: BlockJob, decisions: dict[str, Decision]) -> dict[str, Decision]:
        factors = Factors(job, self.damping, "each weight is rounded on its own", self.act_order)
        quantized = {}
        for ref in job.refs:
            decision = decisions[ref.layer.name]
            weight = job.weight(ref) if decision.weight is None else decision.weight
            factor, order = factors.of(ref)
            made = compensate(
                weight,
                factor,
                MaskChoice(decision.keep),
                self.blocksize,
                job.grid(ref),
                order,
                self.static_groups,
                self.grids,
            )
            quantized[ref.layer.name] = Decision(decision.keep, made.weight, made.quantized)
        return quantized
