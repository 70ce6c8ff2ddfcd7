"""Jobs of SLURM by submitit, or of its local stand-in, as an executor: one job of SLURM for each that is submitted,
those of one moment as one array."""

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.executors.asked import StudyExecutor
from studies.executors.executor import WorkerLost, ended
from studies.telling import warn
from workloads.errors import UserError, one_line

MINUTES = 60  # of a job, unless `set.timeout_min` says otherwise
EVERY_S = {"slurm": 2.0, "local": 0.1}  # between looks at what has ended
LOCAL_WORKERS = 2


@contextmanager
def submitit(asked: StudyExecutor, workers: int, out: Path, beside: Path) -> Iterator[Executor]:
    """`workers`: jobs at a time. Their pickled calls and logs lie in `out`/jobs, which is removed when all went well.
    Raises UserError where submitit is not installed, SLURM is not at hand, or `set` has what submitit does not take."""
    try:
        from submitit import AutoExecutor
    except ModuleNotFoundError:
        raise UserError("executor.name = 'submitit' needs submitit: pip install 'prunesim[submitit]'") from None
    if asked.cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise UserError("executor.name = 'submitit': there is no `sbatch` and `srun` on this machine; run where jobs "
                        "of SLURM are submitted, or set cluster = \"local\" to try it here")  # fmt: skip
    folder = out / "jobs"
    auto = AutoExecutor(folder=folder.resolve(), cluster=asked.cluster)
    shared = {"slurm_array_parallelism": workers} if asked.cluster == "slurm" else {}
    try:
        auto.update_parameters(name="prunesim", timeout_min=MINUTES, **shared)
        auto.update_parameters(**asked.set)
    except (AssertionError, NameError, TypeError, ValueError) as error:
        raise UserError(f"executor.set: submitit does not take it: {one_line(error)}") from None
    jobs = Jobs(auto, None if asked.cluster == "slurm" else workers, EVERY_S[asked.cluster])
    with ended(jobs):
        yield jobs
    if not jobs.lost:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Outcome:
    """What a job hands back; an error of its own, which submitit would make a text."""

    result: Any = None
    error: Exception | None = None


def caught(function: Callable[..., Any], args: Any, kwargs: Any) -> Outcome:
    """What runs in the job."""
    try:
        return Outcome(function(*args, **kwargs))
    except Exception as error:
        return Outcome(error=error)


class Jobs(Executor):
    """Futures of submitit's jobs: a thread submits what came since it last looked, at most `most` at a time, and looks
    every `every_s` seconds for what has ended."""

    def __init__(self, auto: Any, most: int | None, every_s: float):
        self._auto, self._most, self._every_s = auto, most, every_s
        self._waiting: list[tuple[Future[Any], Any]] = []
        self._running: dict[Any, Future[Any]] = {}  # by job
        self._changed, self._ended = threading.Event(), False
        self._lock = threading.Lock()
        self.lost = 0  # jobs without a result
        self._keeper = threading.Thread(target=self._keep, name="prunesim-jobs", daemon=True)
        self._keeper.start()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            self._waiting.append((future, (function, args, kwargs)))
        self._changed.set()
        return future

    def _keep(self) -> None:
        while not self._ended:
            self._changed.wait(self._every_s if self._running else None)
            self._changed.clear()
            for job in [job for job in self._running if job.done()]:
                self._hand_back(job, self._running.pop(job))
            self._send()

    def _send(self) -> None:
        with self._lock:
            free = len(self._waiting) if self._most is None else self._most - len(self._running)
            sent, self._waiting = self._waiting[: max(0, free)], self._waiting[max(0, free) :]
        if not sent or self._ended:
            return
        try:
            with self._auto.batch():
                jobs = [self._auto.submit(caught, *call) for _, call in sent]
        except Exception as error:
            for future, _ in sent:
                future.set_exception(UserError(f"executor: submitit could not submit a job: {one_line(error)}"))
            return
        self._running.update(zip(jobs, (future for future, _ in sent), strict=True))

    def _hand_back(self, job: Any, future: Future[Any]) -> None:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        try:
            outcome = job.result()
        except (FailedJobError, UncompletedJobError, OSError) as error:
            self.lost += 1
            warn(f"job {job.job_id} ended without a result; its log: {job.paths.stderr}")
            future.set_exception(WorkerLost(f"job {job.job_id} ended without a result: {one_line(error)}"))
            return
        if outcome.error is not None:
            future.set_exception(outcome.error)
        else:
            future.set_result(outcome.result)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Without `wait` what runs is cancelled."""
        with self._lock:
            futures = [*self._running.values(), *(future for future, _ in self._waiting)] if wait else []
        for future in futures:
            with suppress(Exception):
                future.result()
        self._ended = True
        self._changed.set()
        self._keeper.join()
        for job in self._running:
            job.cancel()
