"""One block of LLaMA-7B's shapes (random weights): time of every pruning method, beside the matrix products that it
must do (pruning/run/work.py) at the rate that products of that width reach here in the same minute.

    python benchmarks/block_7b.py [--samples 8] [--seq-len 2048] [--methods wanda sparsegpt gblm besa] [--device cpu]

A checkpoint of one block and a small vocabulary is made once under out/benchmarks. Every method runs as `prunesim
prune` does, in a process of its own. Extrapolated: 32 such blocks, and 80 blocks of LLaMA-70B (4.2 times the weights,
grouped attention ignored), at 128 sequences: time grows with sequences, except for the methods' work on weights, which
is measured with them here; so these hours are upper bounds for the shown device. The BESA paper reports five hours for
70B on one 80 GB GPU.
"""

import argparse
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import measure
from transformers import AutoModelForCausalLM, LlamaConfig

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs
from pruning.config import PruneConfig
from pruning.data.calibration import Calibration
from pruning.parallel import worker_count
from pruning.run.driver import prune
from pruning.run.make_recipe import make_recipe
from pruning.run.work import rate_flop_s, work_of

MODEL = Path("out/benchmarks/llama-7b-block")
CONFIG = LlamaConfig(
    vocab_size=1024, hidden_size=4096, intermediate_size=11008, num_hidden_layers=1, num_attention_heads=32,
    max_position_embeddings=4096, dtype="bfloat16", architectures=["LlamaForCausalLM"],
)  # fmt: skip


def make_model() -> None:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(CONFIG, dtype=torch.bfloat16).save_pretrained(MODEL)


def method(name: str, samples: int, seq_len: int, device: str) -> Callable[[], float]:
    from dataclasses import replace

    ids = torch.randint(0, 1024, (samples, seq_len), generator=torch.Generator().manual_seed(1))
    recipe = replace(
        make_recipe(PruneConfig(name, 0.5)), model_id="7b-block", calibration=Calibration(ids, "random ids")
    )
    out = Path(f"out/benchmarks/llama-7b-block-{name}")
    shutil.rmtree(out, ignore_errors=True)
    checkpoint = Checkpoint(MODEL, torch.float32, device)

    def work() -> float:
        starts = []

        def progress(what: str, done: int, of: int) -> None:
            if what in ("pruning", "gradients"):
                starts.append(time.perf_counter())

        prune(checkpoint, recipe, out, progress, print)
        return time.perf_counter() - starts[0]

    return work


def needed(name: str, samples: int, seq_len: int, device: str) -> tuple[float, float]:
    """(operations of the products, operations a second)"""
    checkpoint = Checkpoint(MODEL, torch.float32, device)
    layers = [ref.layer for block in all_refs(checkpoint) for ref in block]
    recipe = make_recipe(PruneConfig(name, 0.5))
    work = work_of(layers, checkpoint.config.to_dict(), samples, samples * seq_len, recipe)
    assert work is not None
    return work.flop, rate_flop_s(work.width, checkpoint.device, torch.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument("--methods", nargs="+", default=["wanda", "sparsegpt", "gblm", "besa"])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if not (MODEL / "config.json").exists():
        make_model()
    print(f"{args.samples} x {args.seq_len} tokens, float32, {args.device}, {worker_count()} threads")
    for name in args.methods:
        measured = measure(method, name, args.samples, args.seq_len, args.device)
        hours = measured.result * 128 / args.samples / 3600
        flop, rate = needed(name, args.samples, args.seq_len, args.device)
        print(
            f"{name:<10} {measured.result:8.1f} s a block, peak {measured.peak_gb:5.1f} GB; at most {32 * hours:6.1f} "
            f"h for 7B, {80 * 4.2 * hours:7.1f} h for 70B (128 sequences); {measured.result * rate / flop:.2f} times "
            f"its products ({flop / 1e12:.1f} TFLOP at {rate / 1e9:.0f} GFLOP/s)",
            flush=True,
        )


if __name__ == "__main__":
    main()
