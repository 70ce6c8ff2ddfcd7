"""What a job costs on every executor, and 100,000 designs on the seven linears of a LLaMA-7B block by one worker and
by two.

    python benchmarks/executors.py costs                # seconds of an empty job, by executor
    python benchmarks/executors.py designs [100000 [10000]]   # designs a minute, by workers; rows a job

`costs` sends jobs that do nothing: the first, which waits for a worker to start, and the mean of many after it (a
worker's first real job also imports, for some seconds). `designs` runs a study of a sweep (systolic: array x bandwidth
x buffers) as `prunesim run` does, without its page; statistics and rows are within the time, masks are not. Two workers
are two processes of one thread each. Seconds of processor are those of the workers and of the process that hands out
jobs.
"""

import os
import resource
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

FOLDER = Path("out/benchmarks/executors")
TOKENS = 512
STUDY = """
title = "100,000 designs"
[[models]]
name = "block"
shapes = "block.json"
[[methods]]
method = "generated"
sparsity = 0.5
[[accelerators]]
name = "systolic"
tokens = {tokens}
[accelerators.sweep]
"array.rows" = "64:{rows}:8"
"dram.bandwidth_gbps" = "10:{bandwidths}:10"
"buffers.weight_kib" = "256:{buffers}:32"
[executor]
workers = {workers}
job_rows = {job_rows}
"""
BLOCK = """{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 1,
 "num_attention_heads": 32, "vocab_size": 32000}"""


def nothing() -> None:
    """The job of `costs`."""


def costs() -> None:
    from studies.executors.asked import StudyExecutor
    from studies.executors.named import opened

    print(f"{'executor':<22}{'first s':>9}{'further ms':>12}")
    for label, asked, jobs in (
        ("this process", StudyExecutor(), 1000),
        ("processes, 2", StudyExecutor(workers=2), 1000),
        ("dask, 2 processes", StudyExecutor("dask", workers=2), 1000),
        ("submitit, 2 local", StudyExecutor("submitit", workers=2, cluster="local"), 8),
    ):
        with opened(asked, FOLDER, FOLDER) as executor:
            began = time.perf_counter()
            executor.submit(nothing).result()
            first = time.perf_counter()
            for future in [executor.submit(nothing) for _ in range(jobs)]:
                future.result()
            each = (time.perf_counter() - first) / jobs
        print(f"{label:<22}{first - began:>9.2f}{1000 * each:>12.2f}", flush=True)


def study_of(designs: int, workers: int, job_rows: int) -> Path:
    """A sweep of 50 arrays, 40 bandwidths and as many buffers as make `designs`."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "block.json").write_text(BLOCK)
    sizes = {"rows": 56 + 8 * 50, "bandwidths": 10 * 40, "buffers": 224 + 32 * max(1, designs // 2000)}
    # arrays of 64 x 128 to 456 x 128, whose tiles fit all of the buffers
    file = FOLDER / "study.toml"
    file.write_text(STUDY.format(tokens=TOKENS, workers=workers, job_rows=job_rows, **sizes))
    return file


def processor_s(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True)
class Ran:
    """`head_s`, `workers_s`: seconds of processor of the process that hands out jobs, and of the others, their start
    included; with one worker they are one."""

    designs: int
    seconds: float
    head_s: float
    workers_s: float


def run(designs: int, workers: int, job_rows: int) -> Ran:
    """The rows of the sweep; its masks are there before the clock runs."""
    from studies.executors.named import opened
    from studies.progress import ProgressLine
    from studies.running.execute import execute
    from studies.running.store import Store
    from studies.running.study_run import StudyRun
    from studies.study import read_study

    study = StudyRun(read_study(study_of(designs, workers, job_rows)), FOLDER / f"by-{workers}")
    shutil.rmtree(study.out, ignore_errors=True)
    tasks, of_children = study.plan.tasks(), processor_s(resource.RUSAGE_CHILDREN)
    with opened(study.executor, study.out, FOLDER) as executor:
        execute(tasks[:1], Store(study.out), executor, ProgressLine())
        if workers > 1:  # the second process starts, too
            for future in [executor.submit(time.sleep, 2.0) for _ in range(workers)]:
                future.result()
        before, began = processor_s(resource.RUSAGE_SELF), time.perf_counter()
        frame = execute(tasks, Store(study.out), executor, ProgressLine()).found[tasks[-1]]
        seconds, head = time.perf_counter() - began, processor_s(resource.RUSAGE_SELF) - before
    return Ran(frame["settings"].nunique(), seconds, head, processor_s(resource.RUSAGE_CHILDREN) - of_children)


def designs(wanted: int, job_rows: int) -> None:
    ran: dict[int, Ran] = {}
    for workers in (1, 2):
        load = os.getloadavg()[0]
        one = ran[workers] = run(wanted, workers, job_rows)
        print(
            f"{workers} worker{'s' * (workers > 1)}: {one.designs:,} designs x 7 linears in {one.seconds:,.0f} s, "
            f"{60 * one.designs / one.seconds:,.0f} designs a minute; seconds of processor: {one.head_s:,.1f} of the "
            f"command, {one.workers_s:,.1f} of workers; load {load:.1f} at the start on {os.cpu_count()} cores",
            flush=True,
        )
    alone, two = ran[1], ran[2]
    print(f"2 workers against 1: {alone.seconds / two.seconds:.2f}x on the clock; by processor time, had each a core: "
          f"{alone.head_s / (two.head_s + two.workers_s / 2):.2f}x or more")  # fmt: skip


def main() -> None:
    what, *numbers = sys.argv[1:] or ["costs"]
    if what == "costs":
        costs()
    else:
        designs(int(numbers[0]) if numbers else 100_000, int(numbers[1]) if numbers[1:] else 10_000)


if __name__ == "__main__":
    main()
