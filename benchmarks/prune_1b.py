"""A pruning method on a LLaMA of 1.1 B random weights, CPU: time and peak memory a block, against the forward passes it
must do.

    python benchmarks/prune_1b.py [--method cfsp] [--samples 4] [--seq-len 1024] [--blocks 22]

Times are those of processors, all threads together. The baseline runs in the same process on the same blocks and hidden
states: load the block, run it (twice where the method also needs what the pruned block gives), no statistics, no
selection, nothing written. The checkpoint (2.2 GB, bfloat16; with `--blocks` fewer blocks) is made once under
out/benchmarks.
"""

import argparse
import resource
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from checkpoints.checkpoint import Checkpoint
from pruning.config import PruneConfig
from pruning.data.calibration import Calibration
from pruning.forward.blockwise import BlockwiseModel
from pruning.forward.hidden_states import micro_batches
from pruning.methods.structured.method import StructuredMethod
from pruning.parallel import ordered_map, worker_count
from pruning.run.driver import prune
from pruning.run.make_recipe import make_recipe
from workloads.files import pretty_json, write_text

CONFIG = LlamaConfig(
    vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32,
    num_key_value_heads=4, max_position_embeddings=2048, dtype="bfloat16", architectures=["LlamaForCausalLM"],
)  # fmt: skip
BASELINE_BLOCKS = 4


def make_model(folder: Path) -> None:
    """Random bfloat16 weights, a block a shard."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(CONFIG)
    draw = torch.Generator().manual_seed(0)
    shards: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in skeleton.state_dict().items():
        part = name.split(".")[2] if name.startswith("model.layers.") else "rest"
        weight = torch.randn(tensor.shape, generator=draw) * 0.02 if tensor.ndim == 2 else torch.ones(tensor.shape)
        shards.setdefault(f"model-{part}.safetensors", {})[name] = weight.bfloat16()
    for file, tensors in shards.items():
        save_file(tensors, folder / file, metadata={"format": "pt"})
    weight_map = {name: file for file, tensors in shards.items() for name in tensors}
    write_text(folder / "model.safetensors.index.json", pretty_json({"metadata": {}, "weight_map": weight_map}))
    CONFIG.save_pretrained(folder)


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def forwards(folder: Path, ids: torch.Tensor, passes: int) -> float:
    """Seconds a block to load it and run it so many times."""
    model = BlockwiseModel(Checkpoint(folder, torch.float32))
    hidden = [model.embed(batch) for batch in micro_batches(ids)]
    began = time.process_time()
    for number in range(BASELINE_BLOCKS):
        model.checkpoint.load_block(number)
        for _ in range(passes - 1):
            list(ordered_map(partial(model.run, number), hidden))
        hidden = list(ordered_map(partial(model.run, number), hidden))
        model.checkpoint.release(model.blocks[number])
    return (time.process_time() - began) / BASELINE_BLOCKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--method", default="wanda")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--seq-len", type=int, default=1024)
    parser.add_argument("--blocks", type=int, default=CONFIG.num_hidden_layers)
    args = parser.parse_args()
    folder = Path(f"out/benchmarks/llama-1b-{args.blocks}")
    CONFIG.num_hidden_layers = args.blocks
    if not (folder / "config.json").exists():
        make_model(folder)
    ids = torch.randint(0, CONFIG.vocab_size, (args.samples, args.seq_len), generator=torch.Generator().manual_seed(1))
    recipe = replace(
        make_recipe(PruneConfig(args.method, 0.5)), model_id="llama-1b", calibration=Calibration(ids, "random ids")
    )
    method = recipe.method
    passes = 1 if isinstance(method, StructuredMethod) and not method.propagates else 2
    baseline = forwards(folder, ids, passes)
    before = peak_gb()
    starts: dict[str, list[float]] = {}

    def progress(what: str, done: int, of: int) -> None:
        starts.setdefault(what, []).append(time.process_time())

    out = folder.with_name(f"{folder.name}-{args.method}")
    shutil.rmtree(out, ignore_errors=True)
    prune(Checkpoint(folder, torch.float32), recipe, out, progress, print)
    seconds = {what: (times[-1] - times[0]) / (len(times) - 1) for what, times in starts.items() if len(times) > 1}
    block = sum(seconds.values())
    print(
        f"{args.samples} x {args.seq_len} tokens, {worker_count()} threads, float32, {CONFIG.num_hidden_layers} blocks"
    )
    print(f"{passes} forward passes     {baseline:8.2f} s a block   peak {before:5.2f} GB")
    parts = ", ".join(f"{what} {each:.2f} s" for what, each in seconds.items())
    print(f"{args.method:<20} {block:8.2f} s a block   peak {peak_gb():5.2f} GB   ({parts})")
    print(f"ratio                {block / baseline:8.2f} x")


if __name__ == "__main__":
    main()
