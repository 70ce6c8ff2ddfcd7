"""The [executor] table of a study: where its jobs run."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from studies.executors.executor import MOST_WORKERS
from workloads.errors import UserError

OURS = ("processes", "dask", "submitit")
JOB_ROWS = 10_000  # some 10 s of designs


@dataclass(frozen=True)
class StudyExecutor:
    """`name`: processes, dask, submitit, the entry point of an installed package, or file.py:function, which gets
    `set` as keyword arguments and returns a `concurrent.futures.Executor`. `workers`: processes of this machine, or how
    many of submitit's jobs run side by side. `address`: of a Dask scheduler (tcp://host:8786), or the file it writes,
    beside the study; without it Dask's workers are processes of this machine. `cluster`: submitit's, slurm or local.
    `job_rows`: a sweep with more rows than this (layers x designs) is cut into jobs of so many. `tries`: so often a job
    may lose its worker before the run ends. `set`: for submitit what it passes on (timeout_min, mem_gb,
    slurm_partition, ...)."""

    name: str = "processes"
    workers: int | None = None
    address: str = ""
    cluster: Literal["slurm", "local"] = "slurm"
    job_rows: Annotated[int, Field(ge=1)] = JOB_ROWS
    tries: Annotated[int, Field(ge=1)] = 3
    set: dict[str, Any] = field(default_factory=dict)

    def check(self, asked: str = "executor.workers") -> None:
        """Raises UserError for a number of workers that is none, and for keys that the executor does not take. `asked`:
        what the workers were asked by."""
        workers, most = self.workers, MOST_WORKERS if self.name == "processes" else 100_000
        if workers is not None and not 1 <= workers <= most:
            hint = ", at most as many as there are cores to use" if self.name == "processes" else ""
            raise UserError(f"{asked} = {workers}: from 1 to {most}{hint}")
        for key, only in (("address", "dask"), ("cluster", "submitit")):
            if getattr(self, key) != getattr(StudyExecutor, key) and self.name != only:
                raise UserError(f"executor.{key} is for name = {only!r}, not {self.name!r}; leave it out")
        if self.set and self.name in ("processes", "dask"):
            raise UserError(
                f"executor.set is for submitit and executors of your own; {self.name!r} has no further settings"
            )
        if workers is not None and self.name not in OURS:
            raise UserError(f"{asked}: {self.name} has workers of its own; leave it out, or take it from executor.set")
        if self.address and workers is not None:
            raise UserError(
                f"{asked} is for workers that are started here; those of the Dask scheduler at "
                f"{self.address} are there already, so leave one of the two out"
            )
