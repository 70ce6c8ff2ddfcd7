"""The tasks of a study, in the order in which one process makes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from studies.entries import executed, passes_of, tried_of
from studies.method_entry import GENERATED, StudyMethod, base_of
from studies.names import whole_name
from studies.phases import runs_whole_models
from studies.running.masks_tasks import AttentionGiven, GeneratedMasks, GivenMasks, MasksTask, PrunedMasks, ShapesAlone
from studies.running.rows_tasks import LayersTask, QualityTask, UtilisationTask
from studies.running.task import Place, Task
from studies.running.whole_tasks import WholeTask
from studies.shapes import NEEDS_NO_MASK
from studies.study import Study, StudyAccelerator, StudyModel
from studies.treatments import DENSE
from workloads.phases import Phase
from workloads.targets import Target


@dataclass(frozen=True)
class Plan:
    """What a study asks of each of its models."""

    study: Study
    fresh: bool = False  # gather statistics and simulate again, whatever is there

    @property
    def place(self) -> Place:
        return Place(self.study.path.parent)

    def methods_of(self, model: StudyModel) -> list[StudyMethod]:
        return [method for method in self.study.methods if method.runs_for(model.name)]

    def places_of(
        self, model: StudyModel, method: StudyMethod
    ) -> list[tuple[StudyAccelerator, tuple[int, Phase | None]]]:
        """Where a method's masks run: on the targets that execute their kind of operation."""
        runs = [on for on in self.study.file.accelerators if on.runs(model) and self.executes(on, method)]
        return [(on, each) for on in runs for each in passes_of(on)]

    def executes(self, on: StudyAccelerator, method: StudyMethod) -> bool:
        return executed(method) in self.targets[id(on)][0].executes

    @cached_property
    def targets(self) -> dict[int, list[Target]]:
        """Of every entry of [[accelerators]], by its id; of a large sweep every value once."""
        return {id(on): tried_of(on) for on in self.study.file.accelerators}

    def tasks(self) -> list[Task]:
        tasks: list[Task] = []
        for model in self.study.models:
            if model.evaluated:
                tasks.append(QualityTask(self.place, model))
            methods = self.methods_of(model)
            if not any(method.treat == DENSE for method in methods) and not model.is_network:
                tasks += self.whole_tasks(model, None, "")
            made: dict[int, MasksTask] = {}  # by a method's id
            for method in methods:
                if method.treat:
                    tasks += self.whole_tasks(model, method, whole_name(method))
                    continue
                base = base_of(method, self.study.methods)
                masks = self.masks_task(model, method, () if base is None else (made[id(base)],))
                made[id(method)] = masks
                tasks.append(masks)
                if model.evaluated and not method.of_attention:
                    tasks.append(QualityTask(self.place, model, method, (masks,)))
                if not method.of_attention and not model.is_network:
                    tasks += self.whole_tasks(model, method, whole_name(method, methods), (masks,))
                for on, (tokens, phase) in self.places_of(model, method):
                    run = (self.place, model, method, on, tokens, (masks,))
                    tasks += [UtilisationTask(*run)] if on.trace else []
                    tasks.append(LayersTask(*run, self.fresh, self.study.file.executor.job_rows, phase))
        return tasks

    def whole_tasks(
        self, model: StudyModel, method: StudyMethod | None, named: str, needs: Sequence[MasksTask] = ()
    ) -> list[Task]:
        """Of every target that runs whole models, one for each of [[phases]]."""
        targets = [on for on in self.study.file.accelerators if on.runs(model) and runs_whole_models(on)]
        return [
            WholeTask(self.place, model, method, named or DENSE, on, phase, needs)
            for on in targets
            for phase in self.study.file.phases
        ]

    def masks_task(self, model: StudyModel, method: StudyMethod, needs: Sequence[MasksTask] = ()) -> MasksTask:
        kind: type[MasksTask] = GivenMasks if method.masks else PrunedMasks
        if method.of_attention:
            kind = AttentionGiven
        elif method.method == GENERATED:
            kind = ShapesAlone if self._shapes_suffice(model, method) else GeneratedMasks
        return kind(self.place, model, method, needs)

    def _shapes_suffice(self, model: StudyModel, method: StudyMethod) -> bool:
        targets = [target for on, _ in self.places_of(model, method) for target in self.targets[id(on)]]
        predicted = bool(targets) and all(target.source == "predicted" for target in targets)
        plain = method.pattern == NEEDS_NO_MASK and method.selection.everything and method.fallback == "refuse"
        return predicted and plain and not model.evaluated
