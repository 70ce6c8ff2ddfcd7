"""A ramp over depth (the simplest of the depth-aware baselines): early blocks keep more, late ones less.

s_b rises linearly from s - d in the first block to s + d in the last, the same for every matrix of a block. No data, no
weights. A model of one block gets the target.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from pruning.allocations.allocation import Allocation, AllocationJob, LayerSparsities
from pruning.allocations.balance import balanced, check_target, of_blocks


@dataclass(frozen=True)
class Depth(Allocation):
    """d: sparsity of the last block above the target, and of the first below it."""

    d: Annotated[float, Field(ge=0, le=0.1)] = 0.05

    name = "depth"

    def allocate(self, job: AllocationJob) -> LayerSparsities:
        """Raises UserError for N:M and for targets above 0.95."""
        check_target(job, self.name)
        blocks = sorted({layer.block for layer in job.layers})
        offsets = np.linspace(-self.d, self.d, len(blocks)) if len(blocks) > 1 else np.zeros(1)
        return balanced(job, of_blocks(job, dict(zip(blocks, job.sparsity + offsets, strict=True))))
