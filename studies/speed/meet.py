"""Pruning for a speed: table, errors, plan, masks; then the whole model with the very masks is run again on the
machine, and the budget scaled until the speed that was asked for is met there."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np

from checkpoints.checkpoint import Checkpoint
from checkpoints.decoders import decoder_of
from checkpoints.prunable import refs_left
from pruning.block_job import Warn
from pruning.budget.knapsack import Solution, solve
from pruning.config import CalibrationConfig, PruneConfig
from pruning.evaluation.against_dense import against_dense
from pruning.forward.hidden_states import Progress
from pruning.plan import Plan
from pruning.run.base import Base
from pruning.run.driver import prune
from pruning.run.error_table import Kind, error_table, learns
from pruning.run.recipe import Recipe
from pruning.run.replace_one import SEQUENCES
from simulator.inference.steps import times_of
from studies.phase_rows import phase_of
from studies.prune import recipe_for
from studies.speed.asked import SpeedConfig
from studies.speed.costs import Machine, cached_table, cost_table
from studies.speed.result import Met, Round, read_met
from studies.speed.shapes import KINDS, Found, Shapes
from workloads.bundle import HEADER_FILE, MaskBundle
from workloads.choices import LEVELS, Choice, choices_of
from workloads.cost_curve import priced
from workloads.cost_table import CostTable
from workloads.decoder.bundled import bundled
from workloads.decoder.dimensions import Decoder
from workloads.errors import UserError, unknown
from workloads.files import pretty_json, read_json, sha256_of, write_text
from workloads.locking import writing
from workloads.patterns import UNSTRUCTURED
from workloads.phases import Phase
from workloads.removal import Removal

ROUNDS = 8
ENOUGH = 0.005  # more speed than this beyond what was asked is worth another round
SPARE = 0.002  # of a budget, when one more round follows a miss
COSTS, ERRORS = "costs.json", "errors.json"
STAND_IN = "wanda"  # judges choices where the method trains blocks


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
        bundle, best, rounds = self.meet(table, self.errors(table, work), budget, machine, phase, decoder, work)
        met = Met(
            self.speed.speedup, best.additive, best.final, best.gap, table.reference, table.reference / best.final,
            table.fixed, best.error, rounds, table.facts, self.base.removal.words if self.base is not None else "",
        )  # fmt: skip
        return bundle, met, best.plan

    def _best(self, work: Path) -> Found:
        """Of several smaller models, masks on each."""
        data = self.data

        def take_out(asked: PruneConfig, folder: Path) -> MaskBundle:
            return prune(self.opened(), self._recipe_of(asked), folder, self.progress, self.warn)

        def found(after: Path | None, folder: Path) -> Found:
            return replace(self, asked=replace(self.asked, after=after), data=data).found(folder)

        def apart(bundle: MaskBundle) -> float:
            calibration = self._judge().calibration
            assert calibration is not None
            return against_dense(self.opened(), calibration.ids[:SEQUENCES], bundle, self.progress).kl

        return Shapes(take_out, found, apart).best(self._structured, self.asked.seed, work)

    @property
    def settings(self) -> str:
        """Hash of all that decides the masks."""
        made, asked = self._judge().header(self.opened()), vars(self.asked)
        return sha256_of([made.sha256(), *({name: str(value) for name, value in of.items()} for of in
                                           (asked, vars(self.speed)))])  # fmt: skip

    @property
    def _removal(self) -> Removal:
        return Removal() if self.base is None else self.base.removal

    @cached_property
    def base(self) -> MaskBundle | None:
        """What is left of the model after an earlier structured run."""
        return None if self.asked.after is None else MaskBundle.open(self.asked.after)

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
            if self.base is not None and not solution.choices.any():
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

    def _alone(
        self, table: CostTable, solution: Solution, final_us: float, work: Path
    ) -> tuple[MaskBundle, Round, int]:
        """What was taken out is enough. Raises UserError where it was so before: there is nothing to do."""
        assert self.base is not None
        final = table.reference / final_us
        if self.base.folder.parent != work:
            raise UserError(f"{self.base.folder} is {final:.3f} times as fast already; ask for more `speedup`")
        return self.base, Round(final, final, solution.error, 0.0, {}), 1

    def _check(self) -> None:
        self.speed.check()
        for name in ("sparsity", "pattern", "allocation", "plan", "bits"):
            if getattr(self.asked, name) is not None:
                raise UserError(f"`speedup` says what each matrix gets; leave `{name}` out")
        if self._structured and self.asked.after is not None:
            taken = " and ".join(self._structured)
            raise UserError(f"`choices` takes {taken} out of the unpruned model; leave `after` out")
        if len(self._choices) < 2:
            raise UserError(
                "`choices`: neurons and heads go in steps, so name what meets the rest of the speed beside them: "
                "unstructured, 2:4 or bits:4"
            )
        if self.base is not None and Base(self.base).has_zeros:
            raise UserError(
                f"{self.base.folder} holds masks already; go on from what structured pruning left, or MODEL"
            )
        if self._kind not in get_args(Kind):
            raise unknown("kind of `errors`", self._kind, get_args(Kind))
        if len([choice for choice in {choice.bits for choice in self._choices} if choice]) > 1:
            raise UserError("`choices` names two numbers of bits; give one")

    @property
    def _kind(self) -> Kind:
        return self.speed.errors or "probe"  # type: ignore[return-value]

    @property
    def _kinds(self) -> list[str]:
        return [part.strip() for part in (self.speed.choices or UNSTRUCTURED).split(",")]

    @property
    def _structured(self) -> list[str]:
        return sorted({kind for kind in self._kinds if kind in KINDS})

    @property
    def _choices(self) -> list[Choice]:
        masks = [kind for kind in self._kinds if kind not in KINDS]
        return choices_of(masks, LEVELS if self.speed.levels is None else self.speed.levels)

    def machine(self) -> Machine:
        assert self.speed.on is not None
        return Machine.open(self.speed.on)

    def phase(self) -> Phase:
        phase = phase_of(self.speed.phase or "decode", self.speed.batch, self.speed.prompt, self.speed.context)
        assert phase is not None
        return phase

    def decoder(self) -> Decoder:
        """Of the unpruned model."""
        return decoder_of(self.opened().config.to_dict())

    def table(self, machine: Machine, phase: Phase, decoder: Decoder, file: Path) -> CostTable:
        layers = [ref.layer for block in refs_left(self.opened(), self._removal) for ref in block]
        chosen = self.asked.selection.names(layers)
        layers = [layer for layer in layers if layer.name in chosen]
        group = self.asked.group_size or 0
        left, reference = decoder, 0.0
        if self.base is not None:
            left = bundled(decoder, self.base)
            reference = times_of(machine.runner, decoder, phase, machine.numbers, machine.stack).us()
        even = self._judge().rule == "row"
        key = {
            "even": even, "facts": machine.facts(phase), "choices": [str(choice) for choice in self._choices],
            "group": group, "layers": [[layer.name, *layer.shape] for layer in layers],
        }  # fmt: skip
        return cached_table(
            file,
            lambda: cost_table(
                left,
                layers,
                machine,
                phase,
                self._choices,
                group_size=group,
                done=self.progress,
                unpruned=reference,
                even=even,
            ),
            key,
        )

    def errors(self, table: CostTable, work: Path) -> list[np.ndarray]:
        """Of each unit the sum over its matrices."""
        recipe = self._judge()
        if learns(recipe.method):
            recipe = self._judge(method=STAND_IN, set=None, rule=None)
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
        by_layer = {name: np.array(row, dtype=np.float64) for name, row in kept["errors"].items()}
        rows = [np.sum([by_layer[name] for name in unit.layers], axis=0) for unit in table.units]
        return [np.where(np.isnan(costs), 0.0, row) for row, costs in zip(rows, table.costs, strict=True)]

    def _judge(self, **others: Any) -> Recipe:
        """The recipe by which choices are judged."""
        bits = max((choice.bits for choice in self._choices if choice.bits), default=None)
        rest = replace(self.asked, sparsity=0.5, bits=bits, only=None, skip=None, fallback=None, **others)
        return self._recipe_of(rest if bits else replace(rest, quantizer=None, group_size=None))

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
