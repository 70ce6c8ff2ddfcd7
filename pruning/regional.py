"""What methods that learn from one block's output share (methods 3.5): gradients of the block alone, its error with
other weights in it, and sequences held out from training."""

from collections.abc import Sequence

import torch

from checkpoints.discovery import LinearRef
from pruning.block_job import BlockJob
from pruning.training import Normalisation, StandIn, output_error

Matrices = dict[LinearRef, torch.Tensor]
HELD_OUT = 8  # one sequence in so many, and at most so many


def held_out(count: int) -> tuple[list[int], list[int]]:
    """(sequences that train, those that do not) of so many; of one, the same for both."""
    apart = list(range(0, count, HELD_OUT))[:HELD_OUT] if count > 1 else []
    left = [number for number in range(count) if number not in apart]
    return left, apart or left


def regional_gradients(job: BlockJob) -> Matrices:
    """sqrt(mean over sequences of (d ||f(X)||_2 / dW)^2), (out, in) float32 a matrix, f the block as it is. Zeros where
    no token reached one."""
    sums = {ref: torch.zeros_like(job.weight(ref)) for ref in job.refs}
    sequences = job.sequences(job.inputs)
    with StandIn(job.block, job.refs) as stand_in:
        for states in sequences:
            found: Matrices = {}

            def size(states: torch.Tensor = states) -> torch.Tensor:
                return job.run(states.to(job.device)).float().norm()

            stand_in.backward(size, found.__setitem__)
            for ref, gradient in found.items():
                sums[ref] += gradient.square()
    return {ref: (total / len(sequences)).sqrt() for ref, total in sums.items()}


@torch.no_grad()
def block_error(
    job: BlockJob, numbers: Sequence[int], weights: Matrices, normalisation: Normalisation = "none"
) -> float:
    """Mean over the sequences `numbers` of the error (methods 4.5) of the block's output with `weights` in it, against
    the dense block's."""
    inputs, wanted = job.sequences(job.inputs), job.sequences(job.outputs)
    with StandIn(job.block, job.refs) as stand_in:
        for ref, weight in weights.items():
            stand_in.set(ref, weight)
        errors = [
            float(output_error(job.run(inputs[n].to(job.device)), wanted[n].to(job.device), normalisation))
            for n in numbers
        ]
    return sum(errors) / len(errors)
