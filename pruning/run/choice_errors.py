"""The database of errors: of every matrix under every choice what it does to the matrix's output, on the dense model.

    E = tr((W - W') H (W - W')^T) / tr(W H W^T) = sum_t ||(W - W') x_t||^2 / sum_t ||W x_t||^2

W' is what the recipe's method (and quantizer) makes of W there, decided block by block on the dense model's own states;
so of a method that updates weights its updated ones count. One run over the calibration set gives all choices.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch

from checkpoints.discovery import LinearRef
from pruning.allocations import LayerSparsities
from pruning.block_job import BlockJob, Decision
from pruning.evidence.needs import Need
from pruning.families import family_of
from pruning.forward.hidden_states import micro_batches
from pruning.parallel import one_thread_per_operation
from pruning.run.context import Run
from pruning.run.driver import make_keeper
from pruning.run.jobs import decide, grid_of, make_job
from pruning.run.layer_sparsities import planned
from workloads.choices import UNTOUCHED, Choice

Seen = Callable[[str, int, Decision], None]


def choice_errors(run: Run, choices: Sequence[Choice], seen: Seen | None = None) -> dict[str, torch.Tensor]:
    """By layer (choices,) float64, NaN where a pattern or a group does not divide. `run`: of a recipe whose method
    needs no more than moments and gradients. seen(name, place of the choice, decision) is called for every one while
    it is there."""
    assert run.recipe.calibration is not None
    model, data = family_of(run.checkpoint).walk(run.checkpoint), run.recipe.calibration.data
    with one_thread_per_operation():
        batches = micro_batches(data)
        hidden = [model.embed(batch) for batch in batches]
        run.checkpoint.release(run.checkpoint.model)
        found: dict[str, torch.Tensor] = {}
        for number in range(len(run.refs)):
            run.progress("errors of choices", number, len(run.refs))
            block = run.checkpoint.load_block(number)
            hidden = model.advance_all(number, batches, hidden)
            needs = run.recipe.needs | {Need.HESSIAN, Need.OUTPUTS}
            job = make_job(run, [number], [block], model, {"inputs": hidden}, needs)
            for j, made in enumerate(decided(run, job, choices)):
                for ref in job.refs:
                    errors = found.setdefault(ref.layer.name, torch.full((len(choices),), torch.nan).double())
                    if ref.layer.name in made:
                        errors[j] = relative_error(job, ref, made[ref.layer.name])
                        if seen is not None:
                            seen(ref.layer.name, j, made[ref.layer.name])
            hidden = job.outputs
            run.checkpoint.release(block)
    return found


def decided(run: Run, job: BlockJob, choices: Sequence[Choice]) -> Iterator[dict[str, Decision]]:
    """Of every choice the decisions for the matrices of a block that can have it."""
    for choice in choices:
        refs = [ref for ref in job.refs if divides(run, ref, choice)]
        shares = planned({ref.layer.name: choice for ref in job.refs}, [ref.layer for ref in job.refs])
        yield decide_all(run, replace(job, refs=refs), shares, choice) if refs else {}


def decide_all(run: Run, job: BlockJob, shares: LayerSparsities, choice: Choice) -> dict[str, Decision]:
    if choice == UNTOUCHED:
        return {ref.layer.name: Decision(torch.ones_like(job.weight(ref), dtype=torch.bool)) for ref in job.refs}
    keeper = make_keeper(run.checkpoint, run.recipe, [job.refs], run.treatment, shares)
    own = replace(run, sparsities=shares, keeper=keeper)
    joint = partial(grid_of, own) if run.recipe.quantizes_jointly and choice.bits else lambda ref: None
    return decide(
        own, replace(job, sparsity=shares.sparsity, patterns=dict.fromkeys(shares.sparsity, choice.pattern),
                     keeper=keeper, grid=joint),
    )  # fmt: skip


def divides(run: Run, ref: LinearRef, choice: Choice) -> bool:
    inputs, group = ref.layer.in_features, run.recipe.quantization.group_size if run.recipe.quantization else 0
    return not (choice.pattern and inputs % choice.pattern.m) and not (choice.bits and group and inputs % group)


def relative_error(job: BlockJob, ref: LinearRef, decision: Decision) -> float:
    """E above; 0 for a matrix that nothing came into."""
    assert job.moments is not None
    moments, weight = job.moments.sums.get(ref.layer.name), job.weight(ref)
    made = weight.masked_fill(~decision.keep, 0) if decision.weight is None else decision.weight
    if moments is None or moments.hessian is None:
        return 0.0
    hessian = moments.hessian.to(weight.device)
    whole = float(torch.einsum("oi,oi->", weight @ hessian, weight))
    off = weight - made
    return max(0.0, float(torch.einsum("oi,oi->", off @ hessian, off))) / whole if whole > 0 else 0.0
