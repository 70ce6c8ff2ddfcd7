"""A million designs on the 560 linears of LLaMA-2-70B's shapes on 100 nodes: how long, on paper and by simulating the
run job by job.

    python benchmarks/cluster_estimate.py [ACCELERATOR ...]

Measured here, in seconds of processor, so that a busy machine does not matter: a row (a design on a linear, mean of the
seven), the statistics of a mask for one geometry, a row written as Parquet, a job handed out and taken back by this
process. Assumed, and printed with the result: the nodes and their workers, how much jobs differ, how often one takes
three times as long, how often a node fails, when that is noticed, and what starting a worker takes.

On paper: (rows x seconds of a row + statistics) / workers. The simulation has what paper leaves out: one process hands
out the jobs, they differ, the last ones run alone, workers are lost with their job and come back. Its random numbers
are seeded; five runs give the least and the most. Both end when the last piece is written: so many rows fit no page.
"""

import heapq
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

DESIGNS, GEOMETRIES, BLOCKS = 1_000_000, 50, 80
SHAPES = [(8192, 8192), (1024, 8192), (1024, 8192), (8192, 8192), (28672, 8192), (28672, 8192), (8192, 28672)]
TRIED, TOKENS, SEEDS = 20, 512, 5


@dataclass(frozen=True)
class Costs:
    """Seconds of processor: of a row, of a mask's statistics for a geometry, of a row as Parquet, of a job for the
    process that hands them out."""

    row_s: float
    statistics_s: float
    parquet_s: float
    handing_s: float


@dataclass(frozen=True)
class Cluster:
    """Assumed. `spread`: sigma of the logarithm of a job's time; `slow`: the share of jobs that take `times` as long;
    a node fails every `fails_h` hours on average, which is noticed after `noticed_s`, and is back after `back_s`; a
    worker is ready for its first job after `start_s`, and for each with `each_s` (SLURM starts a process a job)."""

    nodes: int = 100
    workers_a_node: int = 16
    spread: float = 0.2
    slow: float = 0.01
    times: float = 3.0
    fails_h: float = 24.0 * 30
    noticed_s: float = 60.0
    back_s: float = 600.0
    start_s: float = 10.0
    each_s: float = 0.0

    @property
    def workers(self) -> int:
        return self.nodes * self.workers_a_node


def measured(on: str) -> Costs:
    from simulator.simulate import rows_on
    from studies.designs import combined
    from studies.masks import in_memory
    from studies.running.store import parquet_bytes
    from workloads.bundle import BundleHeader
    from workloads.conditions import Conditions
    from workloads.layers import Layer
    from workloads.mask import PackedMask
    from workloads.operations import linears_in_memory
    from workloads.rows import to_frame

    rng = np.random.default_rng(0)
    header = BundleHeader("llama-2-70b", "generated")
    masks = {}  # half of the weights, as random bits
    for height, cols in sorted(set(SHAPES)):
        masks[height, cols] = PackedMask(rng.integers(0, 2**64, (height, cols // 64), dtype=np.uint64), cols)

    def rows(count: int, shapes: list[tuple[int, int]]) -> tuple[list, float]:
        layers = [(Layer(f"l.{n}", "q", 0, *shape), masks[shape]) for n, shape in enumerate(shapes)]
        operations = list(linears_in_memory(in_memory(header, layers)))
        targets = combined(on, [], [[f"dram.bandwidth_gbps={10 + 3 * n}" for n in range(count)]])
        began = time.process_time()
        made = list(rows_on(targets, header, operations, Conditions(TOKENS), threads=1))
        return made, time.process_time() - began

    rows(2, SHAPES)  # compiles
    (_, few), (made, many) = rows(2, SHAPES), rows(2 + TRIED, SHAPES)
    row_s = (many - few) / (TRIED * len(SHAPES))
    piece = made * (10_000 // len(made))
    began = time.process_time()
    parquet_bytes(to_frame(piece))
    parquet_s = (time.process_time() - began) / len(piece)
    return Costs(row_s, max(0.0, few / len(SHAPES) - 2 * row_s), parquet_s, handing())


def handing() -> float:
    """Of this process, for each job: its key, what is sent, and the check of a file of 10,000 rows that came back."""
    import pickle
    import tempfile

    from studies.running.remote import origin
    from studies.running.spans import LayersPart, Span
    from studies.running.store import Store
    from workloads.files import sha256_of_file

    part = LayersPart(None, Span(slice(0, 1), slice(0, 10_000)), "0" * 64, "steps/00000", "parquet")  # type: ignore[arg-type]
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(bytes(350_000))
        began = time.process_time()
        for _ in range(200):
            pickle.dumps((origin(), part, Store(Path()), part.key([]), []))
            sha256_of_file(Path(file.name))
        return (time.process_time() - began) / 200


def job_seconds(costs: Costs, job_rows: int) -> np.ndarray:
    """Of every job of the sweep, in the order in which they are handed out: layer by layer, design by design."""
    starts = np.arange(0, DESIGNS, job_rows)
    rows = np.minimum(job_rows, DESIGNS - starts)
    geometry = DESIGNS // GEOMETRIES  # designs of one
    geometries = (starts + rows - 1) // geometry - starts // geometry + 1
    one = rows * (costs.row_s + costs.parquet_s) + geometries * costs.statistics_s
    return np.tile(one, BLOCKS * len(SHAPES))


def simulate(jobs: np.ndarray, costs: Costs, cluster: Cluster, seed: int) -> tuple[float, int]:
    """(seconds until the last job is taken back, jobs that were lost on the way).

    Events are jobs that end and nodes that fail; one process hands out a job at a time. A job that was lost is handed
    out again, first, once that is noticed."""
    rng = np.random.default_rng(seed)
    lasts = jobs * rng.lognormal(-(cluster.spread**2) / 2, cluster.spread, len(jobs))
    lasts = np.where(rng.random(len(jobs)) < cluster.slow, cluster.times * lasts, lasts) + cluster.each_s
    waiting = list(range(len(jobs)))[::-1]
    free: list[tuple[float, int]] = [(cluster.start_s, worker) for worker in range(cluster.workers)]
    heapq.heapify(free)
    fails = rng.exponential(cluster.fails_h * 3600, cluster.nodes)
    again: list[tuple[float, int]] = []  # lost jobs, by when that is noticed
    handed, ended, lost = 0.0, 0.0, 0
    while waiting or again:
        ready, worker = heapq.heappop(free)
        if again and (again[0][0] <= ready or not waiting):
            noticed, job = heapq.heappop(again)
        else:
            noticed, job = 0.0, waiting.pop()
        handed = max(handed, ready, noticed) + costs.handing_s
        begins, node = handed, worker // cluster.workers_a_node
        ends = begins + lasts[job]
        while fails[node] < begins:  # it failed, and came back, while it had nothing to do
            fails[node] += cluster.back_s + rng.exponential(cluster.fails_h * 3600)
        if fails[node] < ends:
            lost += 1
            heapq.heappush(again, (fails[node] + cluster.noticed_s, job))
            heapq.heappush(free, (fails[node] + cluster.back_s, worker))
            continue
        ended = max(ended, ends)
        heapq.heappush(free, (ends, worker))
    return ended, lost


def on_paper(jobs: np.ndarray, cluster: Cluster) -> float:
    return float(jobs.sum()) / cluster.workers


def told(name: str, jobs: np.ndarray, costs: Costs, cluster: Cluster) -> str:
    runs = [simulate(jobs, costs, cluster, seed) for seed in range(SEEDS)]
    times, lost = [seconds / 60 for seconds, _ in runs], [count for _, count in runs]
    paper = on_paper(jobs, cluster) / 60
    share = paper / float(np.mean(times))
    return (f"  {name:<44}{len(jobs):>8,}{jobs.mean():>8.0f}{paper:>9.1f}{min(times):>9.1f} to {max(times):<8.1f}"
            f"{100 * share:>5.0f} %{min(lost):>7} to {max(lost)}")  # fmt: skip


def main() -> None:
    rows = DESIGNS * BLOCKS * len(SHAPES)
    print(f"{DESIGNS:,} designs of {GEOMETRIES} geometries x {BLOCKS * len(SHAPES)} linears = {rows:,} rows")
    cluster = Cluster()
    print(f"assumed: {cluster}")
    for on in sys.argv[1:] or ["systolic", "stc", "sparten", "vitcod"]:
        costs = measured(on)
        print(
            f"\n{on}: {1e3 * costs.row_s:.2f} ms a row, {1e3 * costs.statistics_s:.0f} ms statistics a mask and "
            f"geometry, {1e6 * costs.parquet_s:.0f} us a row as Parquet, {1e3 * costs.handing_s:.2f} ms a job handed "
            f"out; {rows * (costs.row_s + costs.parquet_s) / 3600:,.0f} hours of a core in all"
        )
        print(f"  {'':<44}{'jobs':>8}{'s each':>8}{'paper':>9}{'minutes':>13}{'paper/it':>13}{'lost jobs':>11}")
        small, large = job_seconds(costs, 10_000), job_seconds(costs, 60_000)
        for name, jobs, one in (
            ("100 nodes x 16, 10,000 rows a job", small, cluster),
            ("100 nodes x 16, 60,000 rows a job", large, cluster),
            ("the same, a process a job (SLURM: 15 s each)", large, replace(cluster, each_s=15.0)),
            ("the same, every node fails once a day", large, replace(cluster, each_s=15.0, fails_h=24.0)),
            ("100 nodes x 1, 60,000 rows a job", large, replace(cluster, workers_a_node=1)),
        ):
            print(told(name, jobs, costs, one), flush=True)


if __name__ == "__main__":
    main()
