"""Budgets that are learned against what matrices cost on a machine: the cost table as curves, handed to the method."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from checkpoints.checkpoint import Checkpoint
from checkpoints.decoders import decoder_of
from checkpoints.prunable import all_refs
from pruning.config import CalibrationConfig, PruneConfig
from pruning.run.make_recipe import make_recipe
from pruning.run.recipe import Recipe
from simulator.simulate import rows_on
from studies.phase_rows import phase_of
from studies.prune import recipe_for
from studies.speed.asked import SpeedConfig
from studies.speed.costs import MEASURES, WITHOUT_MASKS, Machine, cost_table
from studies.speed.demands import measured
from workloads.bundle import MaskBundle
from workloads.choices import LEVELS, choices_of
from workloads.conditions import Conditions
from workloads.cost_curve import Priced, priced
from workloads.costs import cost_of, dense_cost_of
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.operations import linears_of
from workloads.patterns import UNSTRUCTURED
from workloads.phases import Phase

NEAR = 0.005  # of the unpruned cost, above the budget and not told


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
    on, measure = _machine_and_measure(speed)
    phase = _phase(speed)
    decoder, choices = decoder_of(checkpoint.config.to_dict()), choices_of([UNSTRUCTURED], speed.levels or LEVELS)
    return priced(cost_table(decoder, layers, Machine.open(on), phase, choices, measure, even=True))


@dataclass(frozen=True)
class Spent:
    """Shares of what the unpruned matrices cost: by the table, and with the masks themselves where the machine sees
    them."""

    what: str
    budget: float
    by_table: float
    with_masks: float | None

    @property
    def line(self) -> str:
        real = "" if self.with_masks is None else f"; with these masks {self.with_masks:.4f}"
        shares = f"{self.by_table:.4f} of the unpruned matrices' by the table, {self.budget:g} was asked for"
        return f"{self.what}: {shares}{real}"

    @property
    def excess(self) -> str:
        """What to warn of where the masks cost more than the budget; "" where they do not."""
        if self.with_masks is None or self.with_masks <= self.budget + NEAR:
            return ""
        return (
            f"{self.what}: with these masks {self.with_masks:.4f} of the unpruned matrices', {self.budget:g} was asked "
            "for. The table is of rows that keep as many; where they differ, a machine may wait for the fullest. `set` "
            "lanes=64 or imbalance=1 evens them, a smaller budget prunes more"
        )


def spent_by(recipe: Recipe, bundle: MaskBundle, speed: SpeedConfig) -> Spent:
    """What the matrices of a bundle cost, of a recipe that `priced_recipe` made."""
    costs, budget = recipe.costs, speed.budget
    assert costs is not None
    assert budget is not None
    sparsities = {entry.name: entry.sparsity for entry in bundle.layers}
    spent = sum(curve.at(sparsities[name]) for name, curve in costs.curves.items())
    what = f"{costs.facts['measure']} on {costs.facts['target']}"
    return Spent(what, budget, spent / costs.dense, with_masks(bundle, costs.curves, speed))


def with_masks(bundle: MaskBundle, names: Container[str], speed: SpeedConfig) -> float | None:
    """The share of what the unpruned matrices `names` cost that they do with the bundle's own masks; None where the
    machine does not see masks, or the measure needs none."""
    on, measure = _machine_and_measure(speed)
    machine = Machine.open(on)
    if measure in WITHOUT_MASKS or not machine.sees_masks:
        return None
    linears = (linear for linear in linears_of(bundle) if linear.name in names)
    masked, dense = 0.0, 0.0
    for row in rows_on([machine.target], bundle.header, linears, Conditions(_phase(speed).tokens)):
        masked += measured(cost_of(row), measure, machine.target)
        dense += measured(dense_cost_of(row), measure, machine.target)
    return masked / dense


def _machine_and_measure(speed: SpeedConfig) -> tuple[str, str]:
    on, _, measure = (speed.cost or "").rpartition(":")
    if not on or measure not in MEASURES:
        raise UserError(f"`cost` {speed.cost!r}: MACHINE:MEASURE, a measure of {', '.join(MEASURES)}, as in vitcod:us")
    return on, measure


def _phase(speed: SpeedConfig) -> Phase:
    phase = phase_of(speed.phase or "decode", speed.batch, speed.prompt, speed.context)
    assert phase is not None
    return phase
