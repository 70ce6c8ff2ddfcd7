"""What every part of a pruning run shares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from checkpoints.discovery import LinearRef
from checkpoints.opened import OpenModel
from pruning.allocations import LayerSparsities
from pruning.block_job import BlockJob, Decision, Warn
from pruning.forward.hidden_states import Progress
from pruning.run.recipe import Recipe
from workloads.bundle_writer import BundleWriter
from workloads.patterns import NofM
from workloads.treatment import Treatment


@dataclass
class Run:
    """One pruning run in progress."""

    checkpoint: OpenModel
    recipe: Recipe
    writer: BundleWriter
    progress: Progress
    warn: Warn
    refs: list[list[LinearRef]]
    treated: list[list[LinearRef]]  # those of `refs` that the recipe is for; the others stay dense
    treatment: Treatment
    sparsities: LayerSparsities
    keeper: Callable[[LinearRef, torch.Tensor], torch.Tensor]
    decided: Mapping[str, Decision] | None = None  # by training, of the treated matrices

    def pattern(self, name: str) -> NofM | None:
        """What a treated matrix shall follow."""
        return self.treatment.pattern(name, (self.sparsities.patterns or {}).get(name, self.recipe.pattern))

    def decisions(self, job: BlockJob) -> dict[str, Decision]:
        """What training decided of the matrices of a job."""
        assert self.decided is not None
        return {ref.layer.name: self.decided[ref.layer.name] for ref in job.refs}

    def names(self, number: int) -> list[str]:
        """Of the matrices of a block in the model's order, of those too that were taken out."""
        return self.recipe.base.names(number) or [ref.layer.name for ref in self.refs[number]]

    def is_written(self, number: int) -> bool:
        names = self.names(number)
        return bool(names) and names[0] in self.writer.written
