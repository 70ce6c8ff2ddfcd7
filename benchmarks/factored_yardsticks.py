"""FFN matrices as products of smaller ones (LowRank, BlockDense, BlockShuffle): perplexity of stories260K, 64 x 256
calibration tokens, 48 windows of 512, dense 3.725, nothing trained; speedups of all linears of its blocks at 512
tokens; and of the FFN matrices of llama-2-7b's shapes, at 2048 tokens and at 1.

    python benchmarks/factored_yardsticks.py ../shared/data
"""

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Any

import prunesim as ps
from checkpoints.catalog import resolve_config
from checkpoints.catalog_layers import linears_of
from pruning.methods import find_method
from simulator.simulate import rows_on
from simulator.targets import find_target
from workloads.bundle import BundleHeader
from workloads.conditions import Conditions
from workloads.operations import Linear, without_mask
from workloads.patterns import FACTORED

METHODS = {"lowrank": {}, "blockdense": {"blocks": 4}, "blockshuffle": {"blocks": 2}}
LEFT = (0.8, 0.63, 0.5, 0.32)  # of the parameters of each FFN matrix
TARGETS = ("systolic", "vitcod", "a100-pcie")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    print(f"method, left; perplexity data-aware / of the weight alone; {', '.join(TARGETS)}")
    for method in METHODS:
        for left in LEFT:
            aware, speedups = of_stories(asked.data, method, left, True)
            plain, _ = of_stories(asked.data, method, left, False)
            print(f"  {method:<13} {left:.2f}  {aware:8.2f} / {plain:8.2f}   {speedups}", flush=True)
    print(f"FFN matrices of llama-2-7b at 2048 and 1 tokens; {', '.join(TARGETS)}")
    for method in METHODS:
        for left in LEFT:
            at = [of_shapes(method, left, tokens) for tokens in (2048, 1)]
            print(f"  {method:<13} {left:.2f}  {'   '.join(at)}", flush=True)


def of_stories(data: Path, method: str, left: float, aware: bool) -> tuple[float, str]:
    """(perplexity, speedups)."""
    model, texts = data / "models/stories260K", data / "text"
    drawn: dict[str, Any] = {
        "calibration": str(texts / "tinystories_train_first2MB.txt"),
        "samples": 64,
        "seq_len": 256,
    }
    with tempfile.TemporaryDirectory() as out:
        bundle = ps.prune(
            model, out=out, method=method, sparsity=1 - left, set=METHODS[method] | {"data_aware": aware},
            **(drawn if aware else {}),
        )  # fmt: skip
        text = texts / "tinystories_valid_clean.txt"
        found = ps.evaluate(model, text=text, masks=bundle, seq_len=512, windows=48).frame
        speedups = [ps.simulate(bundle, on=target, tokens=512).speedup for target in TARGETS] if aware else []
    return float(found["perplexity"][0]), "  ".join(f"{speedup:.2f}x" for speedup in speedups)


def of_shapes(method: str, left: float, tokens: int) -> str:
    """Of one block's gate, up and down: the time of the unpruned ones over that of their factors."""
    made: Any = find_method(method)(**METHODS[method])
    layers = [layer for layer in linears_of(resolve_config("llama-2-7b")[1]) if layer.block == 1 and made.takes(layer)]
    linears = []
    for layer in layers:
        sizes = made.sizes(layer, 1 - left)
        weights = without_mask(FACTORED, sizes.n_weights)
        linears.append(Linear(layer.name, layer.role, layer.block, *layer.shape, weights, factors=sizes))
    texts = []
    for target in TARGETS:
        rows = list(rows_on([find_target(target)], BundleHeader("llama-2-7b", method), linears, Conditions(tokens)))
        texts.append(f"{sum(row['dense_latency_us'] for row in rows) / sum(row['latency_us'] for row in rows):.2f}x")
    return "  ".join(texts)


if __name__ == "__main__":
    main()
