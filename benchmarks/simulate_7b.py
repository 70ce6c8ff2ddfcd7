"""LLaMA-7B, 224 layers, from a stored bundle to rows: seconds and peak memory of a design's first run, and of each
further design.

    python benchmarks/simulate_7b.py [ACCELERATOR ...]

The bundle (0.8 GB of masks, generated at 50 %) is made once under out/benchmarks. Every line comes from a process of
its own, after one that warms the JIT and file caches. "first" gathers the statistics from the masks and evaluates;
"further" is the mean of ten more designs of the same tile geometry (other bandwidths) on the statistics in memory. The
baseline reads every shard and popcounts its words, nothing else: no checksums, no rows.
"""

import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measuring import measure, peak_gb

BUNDLE = Path("out/benchmarks/llama-7b")
DESIGNS = 10


def read_and_popcount():
    import numpy as np
    from safetensors import safe_open

    from workloads.bits import row_counts

    def work() -> int:
        kept = 0
        for shard in sorted(BUNDLE.glob("masks-*.safetensors")):
            with safe_open(shard, framework="np") as reader:
                for name in reader.keys():  # noqa: SIM118 (not a dict)
                    kept += int(row_counts(reader.get_tensor(name).view(np.uint64)).sum())
        return kept

    row_counts(np.zeros((1, 1), dtype=np.uint64))
    return work


def first_and_further(on: str, tokens: int):
    """Returns (seconds of the first design, seconds of a further one, peak GB of the first)."""
    from simulator.accelerators.named import open_accelerator
    from simulator.simulate import simulate_layers
    from simulator.statistics import StatisticsStore
    from workloads import MaskBundle
    from workloads.conditions import Conditions
    from workloads.operations import linears_of

    bundle = MaskBundle.open(BUNDLE)
    conditions = Conditions(tokens)

    def run(store: StatisticsStore, sets: list[str], layers: int | None = None) -> None:
        chosen = list(linears_of(bundle))[:layers]
        for row in simulate_layers([open_accelerator(on, sets)], bundle.header, chosen, conditions, store):
            assert row["feasible"], row["reason"]

    run(StatisticsStore(), [], 7)  # compiles

    def work() -> tuple[float, float, float]:
        store = StatisticsStore(hold=True)
        began = time.perf_counter()
        run(store, [])
        first, memory = time.perf_counter() - began, peak_gb()
        if on == "vitcod-paper":
            return first, float("nan"), memory
        began = time.perf_counter()
        for number in range(DESIGNS):
            run(store, [f"dram.bandwidth_gbps={30 + 7 * number}"])
        return first, (time.perf_counter() - began) / DESIGNS, memory

    return work


def main() -> None:
    names = sys.argv[1:] or [
        "vitcod-paper",
        "vitcod",
        "systolic",
        "stc",
        "sparten",
        "sigma",
        "dstc",
        "highlight",
        "vegeta",
    ]
    if not (BUNDLE / "bundle.json").exists():
        command = ["generate", "--model", "llama-7b", "--density", "0.5", "--out", str(BUNDLE)]
        subprocess.run([sys.executable, "-m", "studies.cli", *command], check=True)
    measure(read_and_popcount)
    plain = measure(read_and_popcount)
    print(f"{'':<14}{'tokens':>8}{'first s':>10}{'x baseline':>12}{'further s':>11}{'peak GB':>9}")
    print(f"{'read, popcount':<14}{'':>8}{plain.seconds:>10.2f}{1:>12}{'':>11}{plain.peak_gb:>9.2f}")
    for name in names:
        for tokens in (1,) if name == "vitcod-paper" else (1, 2048):
            first, further, memory = measure(first_and_further, name, tokens).result
            print(
                f"{name:<14}{tokens:>8}{first:>10.2f}{first / plain.seconds:>12.1f}{further:>11.2f}{memory:>9.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
