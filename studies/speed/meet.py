"""Pruning for a speed: table, errors, plan, masks; then the whole model with the very masks is run again on the
machine, and the budget scaled until the speed that was asked for is met there."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
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
from studies.speed.demands import PHASES, Demand, of_matrices, whole_us
from studies.speed.outliers import owl_shares
from studies.speed.planners import EVEN, KNAPSACK, OWL, SEARCHED, CostsOf, Planned, Planner, even, knapsack, owl
from studies.speed.request import Request
from studies.speed.result import Met, Round, read_met
from studies.speed.scaling import Tried, scaled
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
            try:
                bundle, met, plan = self._best(work) if self._structured else self.found(work)
            except UserError:
                if not any(work.rglob(ERRORS)):  # of tables alone nothing is left: they are made again in no time
                    for file in work.glob("costs*.json"):
                        file.unlink()
                raise
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
        demands = self.demands(work)
        table = demands[0].table
        planners = self.planners(demands, self.errors(table, work), work)
        (bundle, best, rounds), name, judged = nearest(planners, partial(self.meet, demands, work=work), self.apart)
        met = Met(
            self.speed.speedup, best.additive, best.final, best.gap, table.reference, table.reference / best.final,
            table.fixed, best.error, rounds, table.facts, self.base.removal.words if self.base is not None else "",
            plan=name, held_out=len(self._drawn[1]), judged=judged,
            also={one.name: [one.factor, best.others[one.name]] for one in demands[1:]}, missed_above=best.missed_above,
        )  # fmt: skip
        return bundle, met, best.plan

    def demands(self, work: Path) -> list[Demand]:
        """The speed that is asked for first; tables are kept in `work`. Raises UserError for what cannot be met."""
        assert self.speed.speedup is not None
        machine, phase, decoder = self.machine(), self.phase(), self.decoder()
        table = self.table(machine, phase, decoder, work / COSTS)
        found = [Demand(phase.name, self.speed.speedup, table, partial(whole_us, machine, phase, decoder))]
        names = frozenset(name for unit in table.units for name in unit.layers)
        for name, factor in self.also.items():
            file, asked = work / f"costs-{name}.json", f"`also` {name}:{factor:g}"
            if name in PHASES:
                other = self.phase(name)
                of_phase = self.table(machine, other, decoder, file)
                found.append(Demand(name, factor, of_phase, partial(whole_us, machine, other, decoder), asked))
            else:
                counted = self.table(machine, phase, decoder, file, name)
                found.append(Demand(name, factor, counted, partial(of_matrices, machine, phase, name, names), asked))
        for demand in found:
            _ = demand.budget
        return found

    def planners(
        self, demands: Sequence[Demand], errors: list[np.ndarray], work: Path
    ) -> dict[str, Callable[[], Planner]]:
        """By name what makes them; the search takes long."""
        most = SEARCHES if self.speed.searches is None else self.speed.searches
        tables = [demand.table for demand in demands]

        def searched() -> Planner:
            recipe, ids = self._stands_in(), self._drawn[0].ids[:SEQUENCES]
            search = Search(self.opened, recipe, ids, work, self.progress, self.warn)
            budgets = [demand.budget for demand in demands]
            return knapsack(tables, errors, search.factors(tables, errors, budgets, most, recipe.seed))

        def by_outliers() -> Planner:
            shares = owl_shares(self.opened, self._stands_in(), tables[0].units, work, self.progress)
            return owl(tables, errors, costs_of, shares)

        costs_of = self._costs_of(demands)
        made: dict[str, Callable[[], Planner]] = {
            KNAPSACK: lambda: knapsack(tables, errors),
            EVEN: lambda: even(tables, errors, costs_of),
            OWL: by_outliers,
        }
        return made | ({SEARCHED: searched} if most else {})

    def _costs_of(self, demands: Sequence[Demand]) -> CostsOf:
        """Of choices between those of the tables too."""
        machine, decoder = self.machine(), self.decoder()

        @cache
        def costs_of(choice: Choice) -> list[np.ndarray]:
            found = []
            for demand in demands:
                table = demand.table
                if choice not in table.choices:
                    phase = self.phase(demand.name if demand.name in PHASES else "")
                    table = self._table(machine, phase, decoder, [UNTOUCHED, choice], table.measure)
                found.append(table.costs[:, table.choices.index(choice)])
            return found

        return costs_of

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

    def meet(self, demands: Sequence[Demand], planner: Planner, work: Path) -> tuple[MaskBundle, Round, int]:
        """The masks with the least error among those that meet all demands, of a planner's plans."""
        table, budgets = demands[0].table, [demand.budget for demand in demands]
        least = [float(np.nanmin(demand.table.costs, axis=1).sum()) for demand in demands]
        made = dict[str, tuple[MaskBundle, Round, Tried]]()

        def attempt(scales: Sequence[float]) -> Tried:
            asked = [max(b * scale, low) for b, scale, low in zip(budgets, scales, least, strict=True)]
            solution = planner(asked)
            plan = plan_of(table, solution)
            key = sha256_of(plan.facts)[:16]
            if key not in made:
                bundle, costs = self._masks(demands, solution, plan, work, key)
                finals = [demand.table.reference / cost for demand, cost in zip(demands, costs, strict=True)]
                others = {demand.name: final for demand, final in zip(demands[1:], finals[1:], strict=True)}
                additive = table.reference / (solution.costs[0] + table.fixed)
                changeable = [cost - demand.table.fixed for demand, cost in zip(demands, costs, strict=True)]
                off = tuple(c / spent if spent else 1.0 for c, spent in zip(changeable, solution.costs, strict=True))
                tried = Tried(key, over(finals), off, ())
                made[key] = bundle, Round(additive, finals[0], solution.error, solution.gap, plan.facts, others), tried
            at_least = tuple(b * scale <= low for b, scale, low in zip(budgets, scales, least, strict=True))
            return replace(made[key][2], least=at_least)

        def over(finals: Sequence[float]) -> tuple[float, ...]:
            return tuple(final / demand.factor for demand, final in zip(demands, finals, strict=True))

        missed_above = scaled(attempt, len(demands))
        met = [(bundle, one) for bundle, one, tried in made.values() if tried.met]
        if not met:
            finals = max(([one.final, *one.others.values()] for _, one, _ in made.values()), key=lambda f: min(over(f)))
            near = ", ".join(f"{d.name} {final:.3f}" for d, final in zip(demands, finals, strict=True))
            wanted = ", ".join(f"{d.name} {d.factor:g}" for d in demands)
            raise UserError(
                f"`speedup` on {table.facts['target']} ({wanted}) was not met with real masks in {len(made)} rounds; "
                f"the nearest is {near}: ask for less, or allow more choices"
            )
        bundle, best = min(met, key=lambda one: one[1].error)
        return bundle, replace(best, missed_above=missed_above), len(made)

    def _masks(
        self, demands: Sequence[Demand], solution: Planned, plan: Plan, work: Path, key: str
    ) -> tuple[MaskBundle, list[float]]:
        """(masks of a plan, what they cost by each demand). Raises UserError where what was taken out before is enough
        and there is nothing to do."""
        table = demands[0].table
        if self.base is not None and not solution.changes:
            cost = demands[0].costs(self.base)
            if self.base.folder.parent != work:
                final = table.reference / cost
                raise UserError(f"{self.base.folder} is {final:.3f} times as fast already; ask for more `speedup`")
            return self.base, [cost]
        recipe = self._recipe(plan, work / f"plan-{key}.json")
        if recipe.method.takes_costs and any(choice.zeros for choice in table.choices):
            bits = {name: choice.bits for name, choice in plan.choices.items() if choice.bits}
            recipe = replace(recipe, costs=priced(table, bits))  # blocks cost what the plan says, in it they learn
        bundle = prune(self.opened(), recipe, work / f"try-{key}", self.progress, self.warn)
        return bundle, [demand.costs(bundle) for demand in demands]

    def table(self, machine: Machine, phase: Phase, decoder: Decoder, file: Path, measure: str = "us") -> CostTable:
        key = {
            **({} if measure == "us" else {"measure": measure}),
            "even": self._is_even, "facts": machine.facts(phase), "choices": [str(choice) for choice in self._choices],
            "group": self.asked.group_size or 0, "layers": [[layer.name, *layer.shape] for layer in self._layers],
        }  # fmt: skip
        return cached_table(file, lambda: self._table(machine, phase, decoder, self._choices, measure), key)

    def _table(
        self, machine: Machine, phase: Phase, decoder: Decoder, choices: list[Choice], measure: str
    ) -> CostTable:
        left, reference = decoder, 0.0
        if self.base is not None:
            left = bundled(decoder, self.base)
            reference = times_of(machine.runner, decoder, phase, machine.numbers, machine.stack).us()
        return cost_table(
            left, self._layers, machine, phase, choices, measure, group_size=self.asked.group_size or 0,
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
