"""How much every matrix of a model shall lose: the recipe's allocation, given the dense model block by block."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from checkpoints.discovery import LinearRef
from checkpoints.opened import OpenModel
from checkpoints.prunable import block_weights
from pruning.allocations import AllocationJob, LayerSparsities
from pruning.evidence.moments import InputMoments, InputWatch, Sums, merge
from pruning.families import family_of
from pruning.forward.hidden_states import Progress, micro_batches
from pruning.forward.walk import Walk
from pruning.parallel import ordered_map
from pruning.rules import pruned_count
from pruning.run.recipe import Recipe
from workloads.choices import Choice
from workloads.errors import UserError
from workloads.files import pretty_json, read_json, sha256_of, write_text
from workloads.layers import Layer
from workloads.patterns import parse_pattern


def layer_sparsities(
    checkpoint: OpenModel, recipe: Recipe, refs: list[list[LinearRef]], out: Path, progress: Progress
) -> LayerSparsities:
    """For the matrices `refs` (treated ones, by block): the same for each without an allocation. What it said is kept
    in `out` while the run is unfinished."""
    layers = [ref.layer for block in refs for ref in block]
    if recipe.plan is not None:
        return planned(recipe.plan.choices, layers)
    if recipe.allocation is None:
        return LayerSparsities({layer.name: recipe.sparsity for layer in layers})
    file = out / "allocation.json"
    kept = read_kept(file)
    if kept is not None:
        return kept
    job = AllocationJob(
        layers,
        recipe.sparsity,
        recipe.pattern,
        partial(dense_weights, checkpoint, refs, progress),
        partial(scored_weights, checkpoint, recipe, refs, progress),
    )
    made = recipe.allocation.allocate(job)
    texts = {name: str(pattern) for name, pattern in made.patterns.items()} if made.patterns else None
    content = {"sparsity": made.sparsity, "patterns": texts}
    write_text(file, pretty_json(content | {"sha256": sha256_of(content)}))
    return made


def planned(choices: Mapping[str, Choice], layers: list[Layer]) -> LayerSparsities:
    """As a plan has it, which names every one of `layers`."""
    own = {layer.name: choices[layer.name] for layer in layers}
    return LayerSparsities(
        {name: choice.sparsity for name, choice in own.items()},
        {name: choice.pattern for name, choice in own.items() if choice.pattern is not None},
        {name: choice.bits for name, choice in own.items() if choice.bits is not None},
    )


def to_the_weight(asked: LayerSparsities, layers: list[Layer]) -> LayerSparsities:
    """The shares of `layers` as whole numbers of weights over theirs. What one layer is owed beyond a whole number, the
    next one gets: the first so many together lose floor(sum s_l N_l), so that all together lose what was asked for to
    one weight, and each is less than one weight off its own share."""
    shares, owed = dict(asked.sparsity), 0.0
    for layer in layers:
        owed += asked.sparsity[layer.name] * layer.n_weights
        count = min(max(pruned_count(1, owed), 0), layer.n_weights)
        shares[layer.name] = count / layer.n_weights
        owed -= count
    return replace(asked, sparsity=shares)


def read_kept(file: Path) -> LayerSparsities | None:
    """What the unfinished run wrote; None where that is missing or damaged, so that it is made again."""
    try:
        kept = read_json(file, "allocation of the unfinished run")
    except UserError:
        return None
    if not isinstance(kept, dict) or kept.pop("sha256", "") != sha256_of(kept):
        return None
    texts = kept["patterns"] or {}
    patterns = {name: nofm for name, text in texts.items() if (nofm := parse_pattern(text)) is not None}
    return LayerSparsities(kept["sparsity"], patterns or None)


def dense_weights(
    checkpoint: OpenModel, refs: list[list[LinearRef]], progress: Progress
) -> Iterator[tuple[Layer, torch.Tensor]]:
    for number, block in enumerate(refs):
        progress("allocating", number, len(refs))
        yield from block_weights(checkpoint, block, number)


def scored_weights(
    checkpoint: OpenModel, recipe: Recipe, refs: list[list[LinearRef]], progress: Progress
) -> Iterator[tuple[Layer, torch.Tensor, torch.Tensor | None]]:
    """(layer, weight, feature norm) of every matrix while the calibration set runs through the dense model (methods
    0.3)."""
    assert recipe.calibration is not None
    model = family_of(checkpoint).walk(checkpoint)
    batches = micro_batches(recipe.calibration.data)
    hidden = [model.embed(batch) for batch in batches]
    checkpoint.release(checkpoint.model)
    for number, block_refs in enumerate(refs):
        progress("allocating", number, len(refs))
        if not any(refs[number:]):
            return
        hidden = model.advance_all(number, batches, hidden)
        block, total, outputs = checkpoint.load_block(number), Sums(), []
        with InputWatch(block, block_refs) as watch:
            for output, sums in ordered_map(watched(watch, model, number), hidden):
                outputs.append(output)
                merge(total, sums)
        moments = InputMoments(len(recipe.calibration.ids), total)
        for ref in block_refs:
            yield ref.layer, ref.matrix(block).float(), moments.feature_norm(ref.layer.name)
        hidden = outputs
        checkpoint.release(block)


def watched(watch: InputWatch, model: Walk, number: int) -> Callable[[torch.Tensor], tuple[torch.Tensor, Sums]]:
    """Runs a block on a batch: (its output, the sums of its inputs)."""
    return lambda batch: watch.observe(lambda: model.run(number, batch))
