"""The figures of designs: masks once a choice of pruning, then machines on them, on any executor."""

from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.simulate import rows_on
from simulator.statistics import StatisticsStore
from simulator.targets import find_target
from studies.executors.executor import Here, WorkerLost
from studies.method_entry import GENERATED
from studies.progress import ProgressLine, warn
from studies.running.code import SIMULATING, code_sha256
from studies.running.execute import execute
from studies.running.masks_tasks import GeneratedMasks, Masks, MasksTask, PrunedMasks
from studies.running.remote import Origin, arrive, origin
from studies.running.rows_tasks import QualityTask
from studies.running.store import Store
from studies.running.task import Place, Task
from studies.search.checks import has_perplexity
from studies.search.choices import Choice
from studies.search.figures import SUMMED, of_machine
from studies.search.log import DesignLog, Found
from studies.search.settings import StudySearch
from studies.search.space import Design
from studies.simulate import Source, bundle_source
from studies.study import StudyModel
from workloads.bundle import MaskBundle
from workloads.bundle_writer import STATISTICS
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.files import sha256_of
from workloads.targets import Target

TOGETHER = 8  # designs that an executor is sent at a time, so that they share what is read of a mask


@dataclass(frozen=True)
class Pruned:
    """A choice of pruning as it was made; a `reason` where it could not be."""

    masks: Masks | None = None
    perplexity: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """`figures` of a design, or the `reason` why it has none."""

    figures: dict[str, float]
    reason: str = ""
    mask_sha256: str = ""
    spec_sha256: str = ""


@dataclass(frozen=True)
class _Sent:
    """A job at an executor, and how often it lost its worker."""

    future: Future[list[Found]]
    asked: tuple[Any, ...]
    keys: list[str]
    lost: int


class Evaluator:
    """One search: what is made is in `store`, what is found in its log."""

    def __init__(
        self, search: StudySearch, place: Place, model: StudyModel, store: Store, executor: Executor, tries: int
    ):
        self.search = search
        self.place = place
        self.model = model
        self.store = store
        self.executor = executor
        self.tries = tries
        self.log = DesignLog(store.folder / "search" / "designs.jsonl")
        self._made: dict[int, Pruned] = {}
        self._code = code_sha256(SIMULATING)

    def prepare(self, choices: Sequence[Choice], progress: ProgressLine) -> None:
        """Masks of the choices, and perplexities where the model has a text."""
        new = {id(choice): choice for choice in choices if id(choice) not in self._made}
        tasks: list[Task] = []
        of_choice: dict[int, tuple[MasksTask, QualityTask | None]] = {}
        for number, choice in new.items():
            if choice.method is None:
                self._made[number] = Pruned(reason=choice.reason)
                continue
            kind: type[MasksTask] = GeneratedMasks if choice.method.method == GENERATED else PrunedMasks
            made = kind(self.place, self.model, choice.method)
            judged = has_perplexity(self.model)
            quality = QualityTask(self.place, self.model, choice.method, (made,)) if judged else None
            of_choice[number] = made, quality
            tasks += [made, *([] if quality is None else [quality])]
        if not tasks:
            return
        results = execute(tasks, self.store, self.executor, progress, self.tries, told=False)
        for number, (masks, quality) in of_choice.items():
            if masks not in results.found:
                self._made[number] = Pruned(reason=str(results.refused[masks]))
                continue
            perplexity = None if quality is None else float(results.found[quality]["perplexity"].iloc[0])
            self._made[number] = Pruned(results.found[masks], perplexity)

    def outcomes(self, designs: Sequence[Design], progress: ProgressLine) -> list[Outcome]:
        """Of each design, in order; equal ones are run once."""
        self.prepare([design.choice for design in designs], progress)
        places = {design.key: self._place(design) for design in designs}
        wanted: dict[str, tuple[Design, Masks]] = {}
        for design in designs:
            place, pruned = places[design.key], self._made[id(design.choice)]
            if isinstance(place, tuple) and pruned.masks is not None and self.log.get(place[0]) is None:
                wanted[place[0]] = design, pruned.masks
        self._run(wanted)
        return [self._outcome(design, places[design.key]) for design in designs]

    def _place(self, design: Design) -> tuple[str, Target] | str:
        """(the key of its figures, its machine), or why it cannot be."""
        pruned = self._made[id(design.choice)]
        if pruned.masks is None:
            return pruned.reason
        try:
            target = find_target(self.search.on, design.settings, self.search.dtype)
        except UserError as error:
            return str(error)
        asked = [list(each) for each in self.search.passes], self.search.activation_density
        return sha256_of([pruned.masks.sha256, target.key, target.source, asked, self._code]), target

    def _run(self, wanted: dict[str, tuple[Design, Masks]]) -> None:
        """Those of one choice together, a few at a time; each is kept as soon as it is known."""
        by_masks: dict[Path, list[tuple[str, Design]]] = {}
        for key, (design, masks) in wanted.items():
            assert masks.folder is not None
            by_masks.setdefault(masks.folder, []).append((key, design))
        sent: list[_Sent] = []
        for folder, each in by_masks.items():
            for start in range(0, len(each), TOGETHER):
                part = each[start : start + TOGETHER]
                settings = [design.settings for _, design in part]
                asked = self.search.on, self.search.dtype, self.search.passes, self.search.activation_density
                sent.append(self._sent((folder, settings, *asked), [key for key, _ in part]))
        while sent:
            job = sent.pop(0)
            try:
                self.log.add(dict(zip(job.keys, job.future.result(), strict=True)))
            except WorkerLost as error:
                if job.lost + 1 >= self.tries:
                    raise UserError(
                        f"designs of the search: their worker was lost {job.lost + 1} times ({error}); give it more "
                        "memory or time, and run the study again to go on"
                    ) from None
                warn(f"designs of the search: a worker was lost ({error}); the job runs again")
                sent.append(self._sent(job.asked, job.keys, job.lost + 1))
            except (BrokenExecutor, CancelledError) as error:
                why = str(error) or type(error).__name__
                raise UserError(
                    f"designs of the search: the executor was lost ({why}); what was made is kept: run the study again "
                    "to go on"
                ) from None

    def _sent(self, asked: tuple[Any, ...], keys: list[str], lost: int = 0) -> "_Sent":
        here = isinstance(self.executor, Here)
        future = (
            self.executor.submit(figures_on, *asked) if here else self.executor.submit(figures_there, origin(), *asked)
        )
        return _Sent(future, asked, keys, lost)

    def _outcome(self, design: Design, place: tuple[str, Target] | str) -> Outcome:
        pruned = self._made[id(design.choice)]
        masks = "" if pruned.masks is None else pruned.masks.sha256
        if isinstance(place, str):
            return Outcome({}, place, masks)
        key, target = place
        found = self.log.get(key)
        assert found is not None
        if found["figures"] is None:
            return Outcome({}, found["reason"], masks, target.sha256)
        figures = found["figures"] | of_machine(target)
        figures |= {} if pruned.perplexity is None else {"perplexity": pruned.perplexity}
        return Outcome(figures, "", masks, target.sha256)


def figures_there(sender: Origin, *asked: Any) -> list[Found]:
    """`figures_on` in another process, maybe on another machine. Raises UserError as `arrive`."""
    arrive(sender)
    return figures_on(*asked)


def figures_on(
    folder: Path, settings: Sequence[Sequence[str]], on: str, dtype: str, passes: Sequence[tuple[int, int]],
    activation_density: float,
) -> list[Found]:  # fmt: skip
    """Of machines on the masks of a bundle: sums over layers and passes. What is sent to an executor. Statistics of
    masks are held for all of the machines, and kept beside the bundle."""
    source = bundle_source(bundle := MaskBundle.open(folder))
    statistics = StatisticsStore(folder / STATISTICS, hold=True)
    found: list[Found] = []
    for each in settings:
        try:
            figures = _summed(find_target(on, each, dtype), source, statistics, passes, activation_density)
            found.append({"figures": figures | {"sparsity": bundle.sparsity}, "reason": None})
        except UserError as error:
            found.append({"figures": None, "reason": str(error)})
    return found


def _summed(
    target: Target, source: Source, statistics: StatisticsStore, passes: Sequence[tuple[int, int]], density: float
) -> dict[str, float]:
    """Raises UserError where a layer cannot run, and where one has not the figures that others have."""
    sums: dict[str, float] = {}
    for tokens, times in passes:
        for row in rows_on([target], source.header, source.operations, Conditions(tokens, density), statistics):
            if not row["feasible"]:
                raise UserError(f"{row['layer']}: {row['reason']}")
            for name, columns in SUMMED.items():
                values = [value for column in columns if (value := row.get(column)) is not None]
                if values:
                    sums[name] = sums.get(name, 0.0) + times * float(sum(values))
            if row.get("area_mm2") is not None:
                sums["area_mm2"] = float(row["area_mm2"])
    return sums | ({"edp_pj_us": sums["energy_pj"] * sums["latency_us"]} if "energy_pj" in sums else {})
