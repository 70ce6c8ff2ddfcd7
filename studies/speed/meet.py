"""Pruning for a speed: table, errors, plan, masks; then the whole model with the very masks is run again on the
machine, and the budget scaled until the speed that was asked for is met there."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from checkpoints.checkpoint import Checkpoint
from checkpoints.decoders import decoder_of
from checkpoints.prunable import all_refs
from pruning.block_job import Warn
from pruning.budget.knapsack import Solution, solve
from pruning.config import CalibrationConfig, PruneConfig
from pruning.forward.hidden_states import Progress
from pruning.plan import Plan
from pruning.run.driver import prune
from pruning.run.error_table import Kind, error_table, learns
from pruning.run.recipe import Recipe
from simulator.inference.steps import times_of
from studies.phase_rows import phase_of
from studies.prune import recipe_for
from studies.speed.asked import SpeedConfig
from studies.speed.costs import Machine, cached_table, cost_table
from workloads.bundle import MaskBundle
from workloads.choices import LEVELS, Choice, choices_of
from workloads.cost_curve import priced
from workloads.cost_table import CostTable
from workloads.decoder.dimensions import Decoder
from workloads.errors import UserError, unknown
from workloads.files import pretty_json, read_json, sha256_of, write_text
from workloads.locking import writing
from workloads.phases import Phase

ROUNDS = 8
ENOUGH = 0.005  # more speed than this beyond what was asked is worth another round
SPARE = 0.002  # of a budget, when one more round follows a miss
FILE, COSTS = "speed.json", "costs.json"
STAND_IN = "wanda"  # judges choices where the method trains blocks


@dataclass(frozen=True)
class Round:
    """A plan: speedups by the table and with the masks it led to, what its errors sum up to, and the share of it that a
    better plan within the same budget could save at most."""

    additive: float
    final: float
    error: float
    gap: float
    plan: dict[str, str]


@dataclass(frozen=True)
class Met:
    """What was asked, `additive` (the sum of the table), `final` (the masks run again); us of the whole phase."""

    asked: float
    additive: float
    final: float
    gap: float
    dense_us: float
    final_us: float
    fixed_us: float
    error: float
    rounds: int
    facts: dict[str, Any]

    @property
    def lines(self) -> list[str]:
        where, phase = self.facts["target"], self.facts["phase"]
        size = f"context {phase['context']}" if phase["name"] == "decode" else f"prompts of {phase['new']}"
        return [
            f"{phase['name']} on {where}, batch {phase['batch']}, {size}: {self.dense_us:,.1f} us dense, "
            f"{self.final_us:,.1f} us pruned",
            f"speedup: asked {self.asked:g}, by the sum of the table {self.additive:.3f}, with the final masks "
            f"{self.final:.3f} ({self.rounds} round{'s' if self.rounds > 1 else ''})",
            f"the plan's error is at most {self.gap:.2%} above the least within its budget; {self.fixed_us:,.1f} us "
            "are of what no choice changes",
        ]


@dataclass(frozen=True)
class Meeting:
    """A run that prunes for a speed. `opened()` gives the model anew."""

    opened: Callable[[], Checkpoint]
    model: str
    asked: PruneConfig
    data: CalibrationConfig
    speed: SpeedConfig
    progress: Progress
    warn: Warn

    def run(self, out: Path) -> tuple[MaskBundle, Met]:
        """Writes the bundle to `out`, with speed.json and costs.json beside its masks. Raises UserError where the speed
        cannot be reached, before or after masks were tried."""
        self._check()
        assert self.speed.speedup is not None
        work = out.absolute().parent / f".{out.name}.speed"
        with writing(out), writing(work):
            if (out / FILE).is_file():
                return MaskBundle.open(out), Met(**read_json(out / FILE, "speed")["met"])
            machine, phase, decoder = self.machine(), self.phase(), self.decoder()
            table = self.table(machine, phase, decoder, work / COSTS)
            budget = table.budget(self.speed.speedup)
            errors = self.errors(table, work)
            bundle, best, rounds = self.meet(table, errors, budget, machine, phase, decoder, work)
            met = Met(
                self.speed.speedup, best.additive, best.final, best.gap, table.dense, table.dense / best.final,
                table.fixed, best.error, rounds, table.facts,
            )  # fmt: skip
            for file in bundle.folder.iterdir():
                if file.is_file() and not file.name.startswith("."):
                    shutil.move(file, out / file.name)
            table.write(out / COSTS)
            write_text(out / FILE, pretty_json({"met": asdict(met), "plan": best.plan}))
        shutil.rmtree(work)
        return MaskBundle.open(out), met

    def meet(
        self, table: CostTable, errors: list[np.ndarray], budget: float, machine: Machine, phase: Phase,
        decoder: Decoder, work: Path,
    ) -> tuple[MaskBundle, Round, int]:  # fmt: skip
        """The masks with the least error among those that meet the speed."""
        assert self.speed.speedup is not None
        wanted, least = self.speed.speedup, float(np.nanmin(table.costs, axis=1).sum())
        best: tuple[MaskBundle, Round] | None = None
        nearest, scale, tried = 0.0, 1.0, dict[str, Round]()
        while len(tried) < ROUNDS:
            solution = solve(errors, list(table.costs), max(budget * scale, least))
            plan = plan_of(table, solution)
            key = sha256_of(plan.facts)[:16]
            if key in tried:
                break
            recipe = self._recipe(plan, work / f"plan-{key}.json")
            if recipe.method.takes_costs and any(choice.zeros for choice in table.choices):
                bits = {name: choice.bits for name, choice in plan.choices.items() if choice.bits}
                recipe = replace(recipe, costs=priced(table, bits))  # blocks cost what the plan says, in it they learn
            bundle = prune(self.opened(), recipe, work / f"try-{key}", self.progress, self.warn)
            final_us = whole_us(machine, phase, decoder, bundle)
            one = Round(
                table.dense / (solution.cost + table.fixed), table.dense / final_us, solution.error, solution.gap,
                plan.facts,
            )  # fmt: skip
            tried[key], nearest = one, max(nearest, one.final)
            met = one.final >= wanted
            if met and (best is None or one.error < best[1].error):
                best = bundle, one
            off = (final_us - table.fixed) / solution.cost if solution.cost else 1.0
            if met and one.final <= wanted * (1 + ENOUGH):
                break
            if not met and budget * scale <= least:
                break
            scale = 1 / off if met else min(1 / off, scale) * (1 - SPARE)
        if best is None:
            raise UserError(
                f"`speedup` {wanted:g} on {machine.runner.name} was not met with real masks in {len(tried)} rounds; "
                f"the nearest is {nearest:.3f}: ask for less, or allow more choices"
            )
        return *best, len(tried)

    def _check(self) -> None:
        self.speed.check()
        for name in ("sparsity", "pattern", "allocation", "plan", "bits", "after"):
            if getattr(self.asked, name) is not None:
                raise UserError(f"`speedup` says what each matrix gets; leave `{name}` out")
        if self._kind not in get_args(Kind):
            raise unknown("kind of `errors`", self._kind, get_args(Kind))
        if len([choice for choice in {choice.bits for choice in self._choices} if choice]) > 1:
            raise UserError("`choices` names two numbers of bits; give one")

    @property
    def _kind(self) -> Kind:
        return self.speed.errors or "probe"  # type: ignore[return-value]

    @property
    def _choices(self) -> list[Choice]:
        kinds = [part.strip() for part in (self.speed.choices or "unstructured").split(",")]
        return choices_of(kinds, LEVELS if self.speed.levels is None else self.speed.levels)

    def machine(self) -> Machine:
        assert self.speed.on is not None
        return Machine.open(self.speed.on)

    def phase(self) -> Phase:
        phase = phase_of(self.speed.phase or "decode", self.speed.batch, self.speed.prompt, self.speed.context)
        assert phase is not None
        return phase

    def decoder(self) -> Decoder:
        return decoder_of(self.opened().config.to_dict())

    def table(self, machine: Machine, phase: Phase, decoder: Decoder, file: Path) -> CostTable:
        refs = all_refs(self.opened())
        layers = [ref.layer for block in refs for ref in block]
        chosen = self.asked.selection.names(layers)
        layers = [layer for layer in layers if layer.name in chosen]
        group = self.asked.group_size or 0
        key = {"facts": machine.facts(phase), "choices": [str(choice) for choice in self._choices], "group": group,
               "layers": [[layer.name, *layer.shape] for layer in layers]}  # fmt: skip
        return cached_table(
            file,
            lambda: cost_table(decoder, layers, machine, phase, self._choices, group_size=group, done=self.progress),
            key,
        )

    def errors(self, table: CostTable, work: Path) -> list[np.ndarray]:
        """Of each unit the sum over its matrices."""
        bits = max((choice.bits for choice in self._choices if choice.bits), default=None)
        rest = replace(self.asked, sparsity=0.5, bits=bits, only=None, skip=None, fallback=None)
        rest = rest if bits else replace(rest, quantizer=None, group_size=None)
        recipe = self._recipe_of(rest)
        if learns(recipe.method):
            recipe = self._recipe_of(replace(rest, method=STAND_IN, set=None, rule=None))
        file, key = work / "errors.json", sha256_of(
            [recipe.header(self.opened()).sha256(), [str(choice) for choice in self._choices], self._kind]
        )  # fmt: skip
        kept = read_json(file, "errors") if file.is_file() else {}
        if kept.get("key") != key:
            found = error_table(
                self.opened, recipe, self._choices, self._kind, work / "errors", self.progress, self.warn
            )
            kept = {"key": key, "errors": {name: [None if np.isnan(e) else float(e) for e in row]
                                           for name, row in found.items()}}  # fmt: skip
            write_text(file, pretty_json(kept))
        by_layer = {name: np.array(row, dtype=np.float64) for name, row in kept["errors"].items()}
        rows = [np.sum([by_layer[name] for name in unit.layers], axis=0) for unit in table.units]
        return [np.where(np.isnan(costs), 0.0, row) for row, costs in zip(rows, table.costs, strict=True)]

    def _recipe(self, plan: Plan, file: Path) -> Recipe:
        plan.write(file)
        rest = replace(self.asked, plan=file, only=None, skip=None, fallback=None)
        return self._recipe_of(rest if plan.bits else replace(rest, quantizer=None, group_size=None))

    def _recipe_of(self, asked: PruneConfig) -> Recipe:
        return recipe_for(self.model, self.opened(), asked, self.data)


def plan_of(table: CostTable, solution: Solution) -> Plan:
    """What each unit gets, each of its matrices gets."""
    chosen = zip(table.units, solution.choices, strict=True)
    return Plan.of({name: table.choices[int(j)] for unit, j in chosen for name in unit.layers})


def whole_us(machine: Machine, phase: Phase, decoder: Decoder, bundle: MaskBundle) -> float:
    """Of the phase with the bundle's own masks."""
    runner, left, _ = machine.runner.holding(decoder, bundle, frozenset({phase.tokens}))
    return times_of(runner, left, phase, machine.numbers, machine.stack).us()
