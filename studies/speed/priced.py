"""Budgets that are learned against what matrices cost on a machine: the cost table as curves, handed to the method."""

from collections.abc import Sequence
from dataclasses import replace

from checkpoints.checkpoint import Checkpoint
from checkpoints.decoders import decoder_of
from checkpoints.prunable import all_refs
from pruning.config import CalibrationConfig, PruneConfig
from pruning.run.make_recipe import make_recipe
from pruning.run.recipe import Recipe
from studies.phase_rows import phase_of
from studies.prune import recipe_for
from studies.speed.asked import SpeedConfig
from studies.speed.costs import MEASURES, Machine, cost_table
from workloads.choices import LEVELS, choices_of
from workloads.cost_curve import Priced, priced
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.patterns import UNSTRUCTURED


def priced_recipe(
    model: str, checkpoint: Checkpoint, asked: PruneConfig, data: CalibrationConfig, speed: SpeedConfig
) -> Recipe:
    """Of a method that takes costs: it begins at the sparsity that, the same everywhere, costs the budget. Raises
    UserError."""
    assert speed.budget is not None
    for name in ("sparsity", "pattern", "allocation", "plan", "bits", "after"):
        if getattr(asked, name) is not None:
            raise UserError(f"`budget` says how much goes; leave `{name}` out")
    check_takes_costs(asked)
    layers = [ref.layer for block in all_refs(checkpoint) for ref in block]
    chosen = asked.selection.names(layers)
    found = curves_of(checkpoint, [layer for layer in layers if layer.name in chosen], speed)
    recipe = recipe_for(model, checkpoint, replace(asked, sparsity=found.even(speed.budget)), data)
    return replace(recipe, costs=Priced(found.curves, {**found.facts, "budget": speed.budget}))


def check_takes_costs(asked: PruneConfig) -> None:
    recipe = make_recipe(replace(asked, sparsity=0.5))
    if not recipe.method.takes_costs:
        raise UserError(
            f"{recipe.method.name} learns no budgets that costs could move; `cost` is for besa (optimizer=adam), and "
            "`speedup` for every method"
        )


def curves_of(checkpoint: Checkpoint, layers: Sequence[Layer], speed: SpeedConfig) -> Priced:
    """Raises UserError."""
    on, _, measure = (speed.cost or "").rpartition(":")
    if not on or measure not in MEASURES:
        raise UserError(f"`cost` {speed.cost!r}: MACHINE:MEASURE, a measure of {', '.join(MEASURES)}, as in vitcod:us")
    phase = phase_of(speed.phase or "decode", speed.batch, speed.prompt, speed.context)
    assert phase is not None
    decoder, choices = decoder_of(checkpoint.config.to_dict()), choices_of([UNSTRUCTURED], speed.levels or LEVELS)
    return priced(cost_table(decoder, layers, Machine.open(on), phase, choices, measure, even=True))


def told(recipe: Recipe, sparsities: dict[str, float]) -> str:
    """What the matrices of a bundle cost by the table: `sparsities` by layer."""
    assert recipe.costs is not None
    costs, facts = recipe.costs, recipe.costs.facts
    spent = sum(curve.at(sparsities[name]) for name, curve in costs.curves.items())
    return (
        f"{facts['measure']} on {facts['target']}: {spent / costs.dense:.4f} of the unpruned matrices' by the table, "
        f"{facts['budget']:g} was asked for"
    )
