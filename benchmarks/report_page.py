"""How long a report of many rows takes and how large its page is: `python benchmarks/report_page.py 40000`.

The rows are drawn: layers of one shape a role, every target, method, pattern and token count with other cycles, so that
nothing in the page repeats that would not in a real one."""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from workloads.csv_text import csv_text
from workloads.layers import ROLES
from workloads.rows import to_frame

BLOCKS, PATTERNS, TARGETS = 32, ("unstructured", "2:4"), ("vitcod", "sparten", "scnn")
CLOCK_MHZ = 500.0


def rows(count: int) -> list[dict]:
    """(count,) rows of as many methods as that takes."""
    draw = np.random.default_rng(0)
    made: list[dict] = []
    method = 0
    while len(made) < count:
        for target in TARGETS:
            for pattern in PATTERNS:
                for tokens in (1, 512):
                    for block in range(BLOCKS):
                        made += [_row(draw, method, target, pattern, tokens, block, role) for role in ROLES[:7]]
        method += 1
    return made[:count]


def _row(draw, method: int, target: str, pattern: str, tokens: int, block: int, role: str) -> dict:
    ideal = int(draw.integers(40_000, 60_000))
    imbalance, stall = int(draw.integers(1, 20_000)), int(draw.integers(1, 20_000))
    cycles, dense = ideal + imbalance + stall, 2 * ideal + 5_000
    energy = [float(value) for value in draw.random(5) * 1e6]
    return {
        "model": "drawn", "method": f"method-{method:02d}", "pattern": pattern, "target_sparsity": 0.5,
        "layer": f"model.layers.{block}.{role}_proj", "block": block, "role": role, "out_features": 4096,
        "in_features": 4096, "nnz": 8 * 1024**2, "sparsity": 0.5, "target": target, "settings": "", "level": "cycle",
        "source": "simulated", "tokens": tokens, "activation_density": 1.0, "weight_bits": 16, "cycles": cycles,
        "compute_cycles": ideal + imbalance, "ideal_cycles": float(ideal), "imbalance_cycles": float(imbalance),
        "stall_cycles": stall, "buffer_stall_cycles": 0, "dense_cycles": dense, "dense_compute_cycles": 2 * ideal,
        "speedup": dense / cycles, "compute_speedup": 2 * ideal / (ideal + imbalance), "weight_bytes": 2**24,
        "metadata_bytes": 2**21, "scale_bytes": 0, "activation_bytes": 2**13, "output_bytes": 2**13,
        "utilisation": ideal / cycles, "bound": "compute", "clock_mhz": CLOCK_MHZ, "latency_us": cycles / CLOCK_MHZ,
        "dense_latency_us": dense / CLOCK_MHZ, "energy_pj": sum(energy), "dense_energy_pj": 2 * sum(energy),
        **dict(zip(("mac_pj", "idle_pj", "register_pj", "buffer_pj", "dram_pj"), energy, strict=True)),
        "energy_ratio": 2.0, "area_mm2": 2.0, "feasible": True, "reason": "", "mask_sha256": f"{method}{block}{role}",
        "spec_sha256": target, "seed": 0, "tool_version": "0",
    }  # fmt: skip


def measure(count: int) -> None:
    """The whole command, as a user waits for it."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "rows.csv", Path(folder) / "out"
        path.write_text(csv_text(to_frame(rows(count))))
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "prunesim", "report", str(path), "--out", str(out)], check=True)
        took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        size = (out / "report.html").stat().st_size
        print(f"{count:,} rows: {took:.1f} s, {cpu:.1f} CPU-s, page {size / 1e6:.2f} MB")


if __name__ == "__main__":
    measure(int(sys.argv[1]) if len(sys.argv) > 1 else 40_000)
