"""LLaMA-7B, 224 layers, from a stored bundle to rows: seconds, peak memory, and multiples of merely reading and counting.

    python benchmarks/simulate_7b.py

The bundle (0.8 GB of masks, generated at 50 %) is made once under out/benchmarks. Every figure comes from a process of its
own, started after one that warms the JIT and file caches. The baseline reads every shard and popcounts its words, nothing
else: no hashes, no rows.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

BUNDLE = Path("out/benchmarks/llama-7b")
TASKS = ("read and popcount", "vitcod-paper", "vitcod", "vitcod 2048 tokens")


def read_and_popcount() -> int:
    """Kept weights of the bundle, from its bytes alone."""
    import numpy as np
    from safetensors import safe_open

    from workloads.bits import row_counts

    kept = 0
    for shard in sorted(BUNDLE.glob("masks-*.safetensors")):
        with safe_open(shard, framework="np") as reader:
            for name in reader.keys():  # noqa: SIM118 (not a dict)
                kept += int(row_counts(reader.get_tensor(name).view(np.uint64)).sum())
    return kept


def simulate(name: str, tokens: int) -> int:
    """Total cycles of the bundle on an accelerator."""
    from simulator.simulate import open_target, simulate_layers
    from workloads import MaskBundle

    bundle = MaskBundle.open(BUNDLE)
    return sum(row["cycles"] for row in simulate_layers(open_target(name), bundle.header, bundle, tokens))


def task(name: str) -> None:
    """Runs one task and prints its seconds (imports excluded: a second layer-free call pays them) and peak memory."""
    import numba  # noqa: F401  (its import is no part of the work)
    import pandas  # noqa: F401

    import simulator.simulate  # noqa: F401

    began = time.perf_counter()
    if name == TASKS[0]:
        result = read_and_popcount()
    else:
        accelerator, *rest = name.split()
        result = simulate(accelerator, int(rest[0]) if rest else 1)
    seconds = time.perf_counter() - began
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"seconds": seconds, "peak_gb": peak_gb, "result": result}))


def main() -> None:
    if len(sys.argv) > 1:
        task(sys.argv[1])
        return
    if not (BUNDLE / "bundle.json").exists():
        command = ["generate", "--model", "llama-7b", "--density", "0.5", "--out", str(BUNDLE)]
        subprocess.run([sys.executable, "-m", "studies.cli", *command], check=True)
    baseline = None
    print(f"{'task':<22}{'seconds':>10}{'x baseline':>12}{'peak GB':>10}")
    for name in TASKS:
        for _ in range(2):  # the first run warms the caches
            run = subprocess.run([sys.executable, __file__, name], check=True, capture_output=True, text=True)
            figures = json.loads(run.stdout)
        baseline = baseline or figures["seconds"]
        print(f"{name:<22}{figures['seconds']:>10.2f}{figures['seconds'] / baseline:>12.1f}{figures['peak_gb']:>10.2f}")


if __name__ == "__main__":
    main()
