"""Rows of whole models: one task for each entry of [[phases]] of a model, a method and a target."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from checkpoints.catalog import resolve_config
from studies import asked, configurations, inference, phases
from studies.asked import Asked
from studies.configurations import Configuration
from studies.entries import targets_of
from studies.inference import inference_frame, operations_frame
from studies.method_entry import GENERATED, StudyMethod
from studies.names import slug
from studies.phases import asked_of
from studies.progress import ProgressLine
from studies.running.code import SIMULATING, code_sha256
from studies.running.masks_tasks import Masks, MasksTask
from studies.running.rows_tasks import routing_of
from studies.running.store import Store
from studies.running.task import Place, Task, file_sha256
from studies.shapes import NEEDS_NO_MASK
from studies.study import StudyAccelerator, StudyModel, StudyPhase
from workloads.columns.inference import INFERENCE_COLUMNS, OPERATION_COLUMNS
from workloads.errors import NothingRan
from workloads.files import sha256_of
from workloads.plugins import shown
from workloads.routing import Routing

MODULES = (asked, configurations, inference, phases)


@dataclass(frozen=True)
class WholeRows:
    """`operations`: of the smallest and the largest batch."""

    rows: pd.DataFrame
    operations: pd.DataFrame


@dataclass(frozen=True, eq=False)
class WholeTask(Task):
    """`method` None: the model as it is. `needs`: its masks, of a method that makes or has some; `named`: what rows
    call the method."""

    place: Place
    model: StudyModel
    method: StudyMethod | None
    named: str
    accelerator: StudyAccelerator
    phase: StudyPhase
    needs: Sequence[MasksTask] = ()

    @property
    def title(self) -> str:
        on = shown(self.accelerator.name)
        return f"{self.phase.kind} of the whole {self.model.name}, {self.named} on {on}"

    def key(self, inputs: Sequence[Any]) -> str:
        targets = [target.key for target in targets_of(self.accelerator)]
        wanted = [asdict(self.phase), targets, self._routing.text]
        named = [self.model.name, self.named, self.method.treat if self.method else ""]
        config = resolve_config(model_place(self.place, self.model))[1]
        own = [file_sha256(Path(str(module.__file__))) for module in MODULES]
        return sha256_of([wanted, named, [masks.sha256 for masks in inputs], config, own, code_sha256(SIMULATING)])

    @property
    def _name(self) -> str:
        on, phase = self.accelerator, self.phase
        settings = sha256_of([self.named, asdict(phase), on.set, on.sweep, on.routing])[:8]
        return slug("whole", phase.kind, self.model.name, self.named, shown(on.name), on.dtype, settings)

    def find(self, store: Store, key: str, inputs: Sequence[Any]) -> WholeRows | None:
        rows = store.find_rows(self._name, key, INFERENCE_COLUMNS)
        operations = store.find_rows(f"{self._name}-of-operations", key, OPERATION_COLUMNS)
        return None if rows is None or operations is None else WholeRows(rows, operations)

    def make(self, store: Store, key: str, inputs: Sequence[Any], progress: ProgressLine) -> None:
        model, wanted = self.asked(inputs)

        def operations() -> pd.DataFrame:
            ends = min(self.phase.batch), max(self.phase.batch)
            try:
                frame = operations_frame(model, [one for one in wanted if one.work.batch in ends], progress)
            except NothingRan:  # as its rows say
                frame = pd.DataFrame(columns=[column.name for column in OPERATION_COLUMNS])
            return self._called(frame)

        store.make_rows(self._name, key, lambda: self._called(inference_frame(model, wanted, progress)))
        store.make_rows(f"{self._name}-of-operations", key, operations)

    def asked(self, inputs: Sequence[Masks] = ()) -> tuple[Asked, list[Configuration]]:
        """The model with its masks, and what is asked of it."""
        folder = inputs[0].folder if inputs else None
        if folder is not None:
            return asked_of(str(folder), "", self.phase, self.accelerator, self._routing)
        treatment = of_shapes(self.method) if self.method is not None else ""
        place = model_place(self.place, self.model)
        return asked_of(place, treatment, self.phase, self.accelerator, self._routing)

    @property
    def _routing(self) -> Routing:
        return routing_of(self.place, self.accelerator)

    def _called(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(model=self.model.name, method=self.named)


def model_place(place: Place, model: StudyModel) -> str:
    """What `inference` takes for the model: a catalog name, a config or a folder."""
    name = place.beside_or_name(model.path or model.shapes)
    if model.shapes or Path(name).exists():
        return name
    from checkpoints.model_folder import find_model

    return str(find_model(name))


def of_shapes(method: StudyMethod) -> str:
    """The treatment that a method of no masks amounts to, "" for others."""
    return method.treat or (NEEDS_NO_MASK if method.method == GENERATED and method.pattern == NEEDS_NO_MASK else "")
