"""A thousand designs on the seven linears of one LLaMA-7B block: seconds, by accelerator.

    python benchmarks/design_sweep.py [ACCELERATOR ...]

Ten array shapes x ten bandwidths x ten buffer sizes; the masks are generated at 50 %, statistics are gathered within
the time.
"""

import itertools
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SIZES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
SHAPES = {
    "systolic": [f"array.rows={n}" for n in SIZES],
    "vitcod": [f"array.width={n}" for n in SIZES],
    "sparten": [f"array.clusters={n}" for n in SIZES],
    "stc": [f"array.rows={n}" for n in SIZES],
}


def sweep(on: str, tokens: int) -> tuple[int, int, float]:
    """(designs, rows, seconds)."""
    from simulator.accelerators.named import open_accelerator
    from simulator.simulate import simulate_layers
    from studies.masks import generated, in_memory
    from workloads.conditions import Conditions
    from workloads.operations import linears_in_memory

    made = generated("llama-7b", "unstructured", 0.5, 0, {})
    header, masks = made.header, made.masks
    layers = list(linears_in_memory(in_memory(header, itertools.islice(masks, 7))))
    bandwidths = [f"dram.bandwidth_gbps={25 * (i + 1)}" for i in range(10)]
    buffers = [f"buffers.weight_kib={64 << (i // 2) if i % 2 else 96 << (i // 2)}" for i in range(10)]
    list(simulate_layers([open_accelerator(on)], header, layers[:1], Conditions(tokens)))  # compiles
    began = time.perf_counter()
    targets = [open_accelerator(on, list(sets)) for sets in itertools.product(SHAPES[on], bandwidths, buffers)]
    rows = list(simulate_layers(targets, header, layers, Conditions(tokens)))
    return len(targets), len(rows), time.perf_counter() - began


def main() -> None:
    for name in sys.argv[1:] or SHAPES:
        for tokens in (1, 512):
            designs, rows, seconds = sweep(name, tokens)
            print(f"{name:<10} tokens {tokens:>4}: {designs:,} designs, {rows:,} rows in {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
