"""Tasks in order, each as soon as what it needs is there. What is found is not made again."""

import sys
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

from studies.progress import ProgressLine, Silent
from studies.running.backends import Here, finished
from studies.running.store import Store
from studies.running.task import Task
from studies.telling import warnings_spelled
from workloads.errors import NotForThisModel, UserError


@dataclass
class Results:
    """By task: what was found or made; and the tasks whose model cannot take them, each with the refusal."""

    found: dict[Task, Any] = field(default_factory=dict)
    refused: dict[Task, NotForThisModel] = field(default_factory=dict)


def execute(tasks: Sequence[Task], store: Store, executor: Executor, progress: ProgressLine) -> Results:
    """Every task after those it needs, which stand before it. One that is refused by its model takes those that need it
    with it; the first other error ends the run, and what was made by then stays."""
    run = _Run(tasks, store, executor, progress)
    run.go()
    progress.close()
    if run.unchanged:
        sys.stderr.write(f"{run.unchanged} of {len(run.numbers)} steps were unchanged and not run again\n")
    return run.results


def make(task: Task, store: Store, key: str, inputs: Sequence[Any], progress: ProgressLine) -> None:
    """What is sent to an executor."""
    with warnings_spelled():
        task.make(store, key, inputs, progress)


class _Run:
    def __init__(self, tasks: Sequence[Task], store: Store, executor: Executor, progress: ProgressLine):
        self.waiting = list(tasks)
        self.store = store
        self.executor = executor
        self.progress = progress
        self.results = Results()
        self.unchanged = 0
        self.numbers = {task: number for number, task in enumerate((t for t in tasks if t.counted), start=1)}
        self.made: dict[Future[Any], tuple[Task, str]] = {}

    def go(self) -> None:
        while self.waiting or self.made:
            task = next((task for task in self.waiting if self._ready(task)), None)
            if task is not None:
                self.waiting.remove(task)
                self._begin(task)
                if not isinstance(self.executor, Here):
                    continue  # until nothing more can begin
            if not self.made:
                if task is None:
                    raise AssertionError("tasks stand after those that they need")
                continue
            for future in finished(set(self.made)):
                self._end(future)

    def _ready(self, task: Task) -> bool:
        return all(need in self.results.found or need in self.results.refused for need in task.needs)

    def _inputs(self, task: Task) -> list[Any]:
        return [self.results.found[need] for need in task.needs]

    def _begin(self, task: Task) -> None:
        refusals = [self.results.refused[need] for need in task.needs if need in self.results.refused]
        if refusals:
            self.results.refused[task] = refusals[0]
            return
        inputs = self._inputs(task)
        try:
            key = task.key(inputs)
        except NotForThisModel as error:
            self.results.refused[task] = error
            return
        found = None if task.fresh else task.find(self.store, key, inputs)
        if found is not None:
            self.unchanged += bool(key)
            self.results.found[task] = found
            return
        self.progress.step(self.numbers[task], len(self.numbers), task.title)
        shown = self.progress if isinstance(self.executor, Here) else Silent()
        self.made[self.executor.submit(make, task, self.store, key, inputs, shown)] = (task, key)

    def _end(self, future: Future[Any]) -> None:
        task, key = self.made.pop(future)
        try:
            future.result()
        except NotForThisModel as error:
            self.results.refused[task] = error
            return
        found = task.find(self.store, key, self._inputs(task))
        if found is None:
            raise UserError(f"{task.title}: the result was changed or lost as soon as it was made; run the study again")
        self.results.found[task] = found
