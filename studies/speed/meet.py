"""Pruning for a speed: table, errors, plan, masks; then the whole model with the very masks is run again on the
machine, and the budget scaled until the speed that was asked for is met there."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path

import numpy as np

from pruning.config import PruneConfig
from pruning.evaluation.against_dense import against_dense
from pruning.methods.structured.method import StructuredMethod
from pruning.methods.structured.obs_sp import ObsSp
from pruning.plan import Plan
from pruning.run.driver import prune
from pruning.run.error_table import error_table
from pruning.run.replace_one import SEQUENCES
from pruning.run.structure_errors import structure_errors
from simulator.inference.steps import times_of
from studies.speed.choosing import nearest
from studies.speed.costs import Machine, cached_table, cost_table
from studies.speed.planners import EVEN, KNAPSACK, SEARCHED, Planned, Planner, even, knapsack
from studies.speed.request import Request
from studies.speed.result import Met, Round, read_met
from studies.speed.searching import Search
from studies.speed.shapes import BLOCKS, Found, Shapes, units_of
from studies.speed.structures import Structure, Structures
from workloads.bundle import HEADER_FILE, MaskBundle
from workloads.choices import UNTOUCHED, Choice
from workloads.cost_curve import priced
from workloads.cost_table import CostTable
from workloads.decoder.bundled import bundled
from workloads.decoder.dimensions import Decoder
from workloads.errors import UserError
from workloads.files import pretty_json, read_json, sha256_of, write_text
from workloads.locking import writing
from workloads.phases import Phase
from workloads.removal import KV_GROUP, NEURON

ROUNDS = 8
ENOUGH = 0.005  # more speed than this beyond what was asked is worth another round
SPARE = 0.002  # of a budget, when one more round follows a miss
SEARCHES = 40
MASKS = 8  # of a ladder, beside what is taken out
COSTS, ERRORS = "costs.json", "errors.json"


@dataclass(frozen=True)
class Meeting(Request):
    """A run that prunes for a speed."""

    def run(self, out: Path) -> tuple[MaskBundle, Met]:
        """Writes the bundle to `out`, with speed.json and costs.json beside its masks. Raises UserError where the speed
        cannot be reached, before or after masks were tried."""
        self._check()
        work = out.absolute().parent / f".{out.name}.speed"
        with writing(out), writing(work):
            settings = self.settings
            if (there := read_met(out, settings)) is not None:
                return MaskBundle.open(out), there
            if (out / HEADER_FILE).exists() and not any(work.rglob(ERRORS)):
                raise UserError(f"{out} already holds another bundle; choose another folder or delete it")
            bundle, met, plan = self._best(work) if self._structured else self.found(work)
            for file in bundle.folder.iterdir():
                if file.is_file() and not file.name.startswith("."):
                    shutil.move(file, out / file.name)
            shutil.copy(bundle.folder.parent / COSTS, out / COSTS)
            met.write(out, plan, settings)
        shutil.rmtree(work)
        return MaskBundle.open(out), met

    def found(self, work: Path) -> Found:
        """The masks, in a folder within `work`, what they came to and their plan."""
        assert self.speed.speedup is not None
        machine, phase, decoder = self.machine(), self.phase(), self.decoder()
        table = self.table(machine, phase, decoder, work / COSTS)
        budget = table.budget(self.speed.speedup)
        planners = self.planners(table, self.errors(table, work), budget, machine, work)
        meet = partial(self.meet, table, budget, machine=machine, phase=phase, decoder=decoder, work=work)
        (bundle, best, rounds), name, judged = nearest(planners, meet, self.apart)
        met = Met(
            self.speed.speedup, best.additive, best.final, best.gap, table.reference, table.reference / best.final,
            table.fixed, best.error, rounds, table.facts, self.base.removal.words if self.base is not None else "",
            plan=name, held_out=len(self._drawn[1]), judged=judged,
        )  # fmt: skip
        return bundle, met, best.plan

    def planners(
        self, table: CostTable, errors: list[np.ndarray], budget: float, machine: Machine, work: Path
    ) -> dict[str, Callable[[], Planner]]:
        """By name what makes them; the search takes long."""
        most = SEARCHES if self.speed.searches is None else self.speed.searches

        def costs_of(choice: Choice) -> np.ndarray:
            if choice not in table.choices:
                return self._table(machine, self.phase(), self.decoder(), [UNTOUCHED, choice]).costs[:, 1]
            return table.costs[:, table.choices.index(choice)]

        def searched() -> Planner:
            recipe, ids = self._stands_in(), self._drawn[0].ids[:SEQUENCES]
            search = Search(self.opened, recipe, ids, work, self.progress, self.warn)
            return knapsack(table, errors, search.factors(table, errors, budget, most, recipe.seed))

        made: dict[str, Callable[[], Planner]] = {
            KNAPSACK: lambda: knapsack(table, errors),
            EVEN: lambda: even(table, errors, lru_cache(maxsize=None)(costs_of)),
        }
        return made | ({SEARCHED: searched} if most else {})

    def apart(self, bundle: MaskBundle) -> float:
        """How far predictions on the held-out sequences are from the unpruned model's."""
        return against_dense(self.opened(), self._drawn[1], bundle, self.progress).kl

    def _best(self, work: Path) -> Found:
        """Of several smaller models, masks on each."""
        assert self.speed.speedup is not None
        speedup, whole = self.speed.speedup, work / "whole"
        with_blocks = BLOCKS in self._structured

        def take_out(method: StructuredMethod, share: float, after: Path | None, folder: Path) -> MaskBundle:
            asked = PruneConfig(ObsSp.name, share, seed=self.asked.seed, after=after)
            recipe = replace(self._recipe_of(asked), method=method)
            return prune(self.opened(), recipe, folder, self.progress, self.warn)

        def found(after: Path | None, folder: Path) -> Found:
            return replace(self, asked=replace(self.asked, after=after)).found(folder)

        @cache
        def structures() -> Structures:
            whole.mkdir(parents=True, exist_ok=True)
            choices = self._choices
            taken = list(range(0, len(choices), -(-len(choices) // MASKS)))
            of_masks = {name: row[taken] for name, row in self.errors_by_layer(whole).items()}
            units = frozenset({KV_GROUP, NEURON})
            errors = structure_errors(self.opened, self._drawn[0], units, self.progress)
            return Structures(
                self.decoder(), self.machine(), self.phase(), units_of(self._structured),
                [choices[j] for j in taken], errors, of_masks, self.progress, self.asked.group_size or 0, self._is_even,
            )  # fmt: skip

        def planned(weight: float) -> Structure:
            return structures().plan(speedup, with_blocks, weight)

        return Shapes(planned, take_out, found, self.apart).best(work)

    @property
    def settings(self) -> str:
        """Hash of all that decides the masks."""
        made, asked = self._judge().header(self.opened()), vars(self.asked)
        return sha256_of([made.sha256(), *({name: str(value) for name, value in of.items()} for of in
                                           (asked, vars(self.speed)))])  # fmt: skip

    def meet(
        self, table: CostTable, budget: float, planner: Planner, machine: Machine, phase: Phase, decoder: Decoder,
        work: Path,
    ) -> tuple[MaskBundle, Round, int]:  # fmt: skip
        """The masks with the least error among those that meet the speed, of a planner's plans."""
        assert self.speed.speedup is not None
        wanted, least = self.speed.speedup, float(np.nanmin(table.costs, axis=1).sum())
        best: tuple[MaskBundle, Round] | None = None
        nearest, scale, tried = 0.0, 1.0, dict[str, Round]()
        while len(tried) < ROUNDS:
            solution = planner(max(budget * scale, least))
            if self.base is not None and not solution.changes:
                return self._alone(table, solution, whole_us(machine, phase, decoder, self.base), work)
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
            additive, final = (table.reference / us for us in (solution.cost + table.fixed, final_us))
            one = Round(additive, final, solution.error, solution.gap, plan.facts)
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

    def _alone(self, table: CostTable, solution: Planned, final_us: float, work: Path) -> tuple[MaskBundle, Round, int]:
        """What was taken out is enough. Raises UserError where it was so before: there is nothing to do."""
        assert self.base is not None
        final = table.reference / final_us
        if self.base.folder.parent != work:
            raise UserError(f"{self.base.folder} is {final:.3f} times as fast already; ask for more `speedup`")
        return self.base, Round(final, final, solution.error, 0.0, {}), 1

    def table(self, machine: Machine, phase: Phase, decoder: Decoder, file: Path) -> CostTable:
        key = {
            "even": self._is_even, "facts": machine.facts(phase), "choices": [str(choice) for choice in self._choices],
            "group": self.asked.group_size or 0, "layers": [[layer.name, *layer.shape] for layer in self._layers],
        }  # fmt: skip
        return cached_table(file, lambda: self._table(machine, phase, decoder, self._choices), key)

    def _table(self, machine: Machine, phase: Phase, decoder: Decoder, choices: list[Choice]) -> CostTable:
        left, reference = decoder, 0.0
        if self.base is not None:
            left = bundled(decoder, self.base)
            reference = times_of(machine.runner, decoder, phase, machine.numbers, machine.stack).us()
        return cost_table(
            left, self._layers, machine, phase, choices, group_size=self.asked.group_size or 0,
            done=self.progress, unpruned=reference, even=self._is_even,
        )  # fmt: skip

    def errors(self, table: CostTable, work: Path) -> list[np.ndarray]:
        """Of each unit the sum over its matrices."""
        by_layer = self.errors_by_layer(work)
        rows = [np.sum([by_layer[name] for name in unit.layers], axis=0) for unit in table.units]
        return [np.where(np.isnan(costs), 0.0, row) for row, costs in zip(rows, table.costs, strict=True)]

    def errors_by_layer(self, work: Path) -> dict[str, np.ndarray]:
        """(choices,), kept in `work`."""
        recipe = self._stands_in()
        file, key = work / ERRORS, sha256_of(
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
        return {name: np.array(row, dtype=np.float64) for name, row in kept["errors"].items()}


def plan_of(table: CostTable, planned: Planned) -> Plan:
    """What each unit gets, each of its matrices gets."""
    chosen = zip(table.units, planned.choices, strict=True)
    return Plan.of({name: choice for unit, choice in chosen for name in unit.layers})


def whole_us(machine: Machine, phase: Phase, decoder: Decoder, bundle: MaskBundle) -> float:
    """Of the phase with the bundle's own masks."""
    runner, left, _ = machine.runner.holding(decoder, bundle, frozenset({phase.tokens}))
    return times_of(runner, left, phase, machine.numbers, machine.stack).us()
