"""No pruning: every weight is kept. For quantization alone (`bits`), driven, evaluated and reported like any method."""

from dataclasses import dataclass

import torch

from pruning.block_job import BlockJob, Decision
from pruning.methods.method import PruningMethod


@dataclass(frozen=True)
class NoPruning(PruningMethod):
    name = "none"
    prunes = False

    def decide(self, job: BlockJob) -> dict[str, Decision]:
        return {ref.layer.name: Decision(torch.ones_like(job.weight(ref), dtype=torch.bool)) for ref in job.refs}
