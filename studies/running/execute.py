"""Tasks in order, each as soon as what it needs is there. What is found is not made again."""

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from studies.executors.executor import Here, WorkerLost
from studies.progress import ProgressLine, Silent
from studies.running.remote import make, make_there, origin
from studies.running.store import Store
from studies.running.task import Task
from studies.telling import warn
from workloads.errors import NotForThisModel, UserError

WINDOW = 1000  # jobs handed to an executor at a time, no more than an array of SLURM holds
TRIES = 3  # of a job whose worker is lost
LATE_S = (0.0, 0.1, 0.5, 2.0, 5.0, 10.0, 30.0)  # until a shared file system shows what another machine wrote


@dataclass
class Results:
    """By task: what was found or made; and the tasks whose model cannot take them, each with the refusal."""

    found: dict[Task, Any] = field(default_factory=dict)
    refused: dict[Task, NotForThisModel] = field(default_factory=dict)


@dataclass
class _Job:
    """What is handed to an executor: a task, or a part of one, `whole`."""

    task: Task
    key: str
    inputs: list[Any]
    whole: "_Whole | None" = None
    lost: int = 0


@dataclass
class _Whole:
    """A task that is made in parts: its key, and what was found of each part by now."""

    task: Task
    key: str
    parts: Sequence[Task]
    found: dict[Task, Any] = field(default_factory=dict)


def execute(
    tasks: Sequence[Task],
    store: Store,
    executor: Executor,
    progress: ProgressLine,
    tries: int = TRIES,
    ahead: Callable[[Sequence[Task]], None] = lambda tasks: None,
    told: bool = True,
) -> Results:
    """Every task after those it needs, which stand before it. One that is refused by its model takes those that need it
    with it; a job that loses its worker runs again, up to `tries` times in all; the first other error ends the run, and
    what was made by then stays. `ahead` hears which tasks are not there before the first is made. `told`: also says how
    many were there."""
    run = _Run(tasks, store, executor, progress, tries)
    run.look()
    if run.waiting:
        ahead(run.waiting)
    run.go()
    progress.close()
    if run.unchanged and told:
        sys.stderr.write(f"{run.unchanged} of {len(run.numbers)} steps were unchanged and not run again\n")
    return run.results


class _Run:
    def __init__(self, tasks: Sequence[Task], store: Store, executor: Executor, progress: ProgressLine, tries: int):
        self.waiting = list(tasks)
        self.store = store
        self.executor = executor
        self.here = isinstance(executor, Here)
        self.progress = progress
        self.tries = tries
        self.results = Results()
        self.unchanged = 0
        self.numbers = {task: number for number, task in enumerate((t for t in tasks if t.counted), start=1)}
        self.absent: set[Task] = set()  # that were looked for
        self.jobs: deque[_Job] = deque()  # ready to run
        self.running: dict[Future[Any], _Job] = {}
        self.ended: SimpleQueue[Future[Any]] = SimpleQueue()

    def look(self) -> None:
        """Takes what is there, in order, as far as it does not need what is not."""
        for task in list(self.waiting):
            if self._ready(task) and self._look(task):
                self.waiting.remove(task)

    def _look(self, task: Task) -> bool:
        inputs = self._inputs(task) if all(need in self.results.found for need in task.needs) else None
        if inputs is None or task.fresh:
            return False
        try:
            key = task.key(inputs)
        except NotForThisModel:  # told when its turn comes
            return False
        if task.parts(key, inputs):
            return False
        found = task.find(self.store, key, inputs)
        if found is None:
            self.absent.add(task)
            return False
        self._take(task, key, found)
        return True

    def _take(self, task: Task, key: str, found: Any) -> None:
        self.unchanged += bool(key)
        self.results.found[task] = found

    def go(self) -> None:
        while self.waiting or self.jobs or self.running:
            task = None if self.here and self.jobs else next(filter(self._ready, self.waiting), None)
            if task is not None:
                self.waiting.remove(task)
                self._begin(task)
                if not self.here:
                    continue  # until nothing more can begin
            while self.jobs and len(self.running) < (1 if self.here else WINDOW):
                self._submit(self.jobs.popleft())
            if self.running:
                self._end(self.ended.get())
            elif task is None and not self.jobs:
                raise AssertionError("tasks stand after those that they need")

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
        parts = task.parts(key, inputs)
        if parts:
            self._begin_parts(_Whole(task, key, parts), inputs)
            return
        found = None if task.fresh or task in self.absent else task.find(self.store, key, inputs)
        if found is not None:
            self._take(task, key, found)
            return
        self._say(task)
        self.jobs.append(_Job(task, key, inputs))

    def _begin_parts(self, whole: _Whole, inputs: list[Any]) -> None:
        """Of a task that was stopped half-way the parts that are there are found again."""
        missing = []
        for part in whole.parts:
            key = part.key(inputs)
            found = None if part.fresh else part.find(self.store, key, inputs)
            if found is None:
                missing.append(_Job(part, key, inputs, whole))
            else:
                whole.found[part] = found
        if missing:
            self._say(whole.task)
            self.jobs += missing
        else:
            self.unchanged += bool(whole.key)
            self._join(whole)

    def _say(self, task: Task) -> None:
        self.progress.step(self.numbers[task], len(self.numbers), task.title)

    def _submit(self, job: _Job) -> None:
        shown = self.progress if self.here and job.whole is None else Silent()
        if self.here:
            future = self.executor.submit(make, job.task, self.store, job.key, job.inputs, shown)
        else:
            there = (job.task, self.store, job.key, job.inputs, shown)
            future = self.executor.submit(make_there, origin(), *there)
        self.running[future] = job
        future.add_done_callback(self.ended.put)

    def _end(self, future: Future[Any]) -> None:
        job = self.running.pop(future)
        try:
            future.result()
        except NotForThisModel as error:
            self._refuse(job.whole.task if job.whole else job.task, error)
            return
        except (WorkerLost, BrokenExecutor, CancelledError) as error:
            self._again(job, error)
            return
        found = self._found(job)
        if job.whole is None:
            self.results.found[job.task] = found
            return
        whole = job.whole
        whole.found[job.task] = found
        self.progress(f"jobs of {whole.task.title}", len(whole.found), len(whole.parts))
        if len(whole.found) == len(whole.parts) and whole.task not in self.results.refused:
            self._join(whole)

    def _join(self, whole: _Whole) -> None:
        self.results.found[whole.task] = whole.task.joined(self.store, [whole.found[part] for part in whole.parts])

    def _refuse(self, task: Task, error: NotForThisModel) -> None:
        self.results.refused[task] = error
        self.jobs = deque(job for job in self.jobs if job.whole is None or job.whole.task is not task)

    def _again(self, job: _Job, error: BaseException) -> None:
        job.lost += 1
        why = str(error) or type(error).__name__
        if isinstance(error, BrokenExecutor | CancelledError):  # of another's, which runs nothing more
            raise UserError(
                f"{job.task.title}: the executor was lost ({why}); what was made is kept: run the study again to go on"
            ) from None
        if job.lost >= self.tries:
            times = "once" if job.lost == 1 else f"{job.lost} times"
            raise UserError(
                f"{job.task.title}: its worker was lost {times} ({why}); give it more memory or time, or make jobs "
                "smaller (executor.job_rows), and run the study again to go on"
            ) from None
        warn(f"{job.task.title}: a worker was lost ({why}); the job runs again")
        self.jobs.append(job)

    def _found(self, job: _Job) -> Any:
        for wait_s in LATE_S[:1] if self.here else LATE_S:
            time.sleep(wait_s)
            found = job.task.find(self.store, job.key, job.inputs)
            if found is not None:
                return found
        hint = "" if self.here else f"; do the workers see the same {self.store.folder.absolute()}?"
        raise UserError(
            f"{job.task.title}: the result was changed or lost as soon as it was made; run the study again{hint}"
        )
