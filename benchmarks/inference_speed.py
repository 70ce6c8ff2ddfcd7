"""What whole models cost: CPU seconds of a configuration of a 70B model, and of a thousand points of an 8B one.

    python benchmarks/inference_speed.py                       on an H100 and on the accelerators vitcod and systolic
    python benchmarks/inference_speed.py --on stc --on b200    on others

loading: a small model before all others, most of it the compiled GEMM kernels' from numba's cache, once a process.
first: with shapes that are met for the first time; next: another batch of the same model. points: 10
batches x 100 contexts, each a prefill and a decode step, from the first."""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from studies.asked import open_model
from studies.configurations import configurations
from studies.inference import inference_frame
from studies.progress import ProgressLine

BATCHES = [1 << i for i in range(10)]
CONTEXTS = [64 * i for i in range(1, 101)]


def cpu_s(model: str, on: str, batches: list[int], prompts: list[int], new: int) -> float:
    asked, wanted = open_model(model), configurations([on], batches, prompts, [new])
    started = time.process_time()
    inference_frame(asked, wanted, ProgressLine(terminal_only=True))
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", action="append")
    for on in parser.parse_args().on or ["h100-sxm", "vitcod", "systolic"]:
        loading = cpu_s("llama-3.2-1b", on, [1], [128], 2)
        first, following = (cpu_s("llama-3-70b", on, [batch], [2048], 256) for batch in (4, 8))
        points = cpu_s("llama-3-8b", on, BATCHES, CONTEXTS, 2)
        count = len(BATCHES) * len(CONTEXTS)
        times = f"loading {loading:.3f} s; 70B first {first:.3f} s, next {following:.3f} s"
        print(f"{on}: {times}; {count:,} points of 8B {points:.2f} s")


if __name__ == "__main__":
    main()
