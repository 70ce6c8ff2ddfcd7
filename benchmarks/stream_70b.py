"""A bundle of LLaMA-2-70B's shapes (560 matrices, 8.6 GB of packed masks) streams through a design: seconds, peak
memory, and the ratio to merely reading and popcounting the same files.

    python benchmarks/stream_70b.py [--on sparten] [--tokens 1] [--keep]

The masks are random bits (half of the weights kept), written under out/benchmarks and deleted afterwards unless --keep
is given. Statistics are not cached: every run gathers them anew. Hashes are checked, as always when a bundle is read.
"""

import argparse
import shutil
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measuring import measure
from workloads import BundleHeader, MaskBundle, PackedMask
from workloads.bundle_writer import BundleWriter

FOLDER = Path("out/benchmarks/llama-2-70b")


def make_bundle() -> None:
    from checkpoints.catalog import resolve_config
    from checkpoints.discovery import discover_layers

    model_id, config = resolve_config("llama-2-70b")
    writer = BundleWriter(FOLDER, BundleHeader(model_id, "random-bits", target_sparsity=0.5, model_config=config))
    if writer.finished:
        return
    written, block = writer.written, None
    for number, layer in enumerate(discover_layers(config)):
        if layer.name in written:
            continue
        if layer.block != block:
            if block is not None:
                writer.commit()
            block = layer.block
        words = np.random.default_rng(number).integers(
            0, 1 << 64, (layer.out_features, layer.in_features // 64), dtype=np.uint64
        )
        writer.add(layer, PackedMask(words, layer.in_features), "unstructured")
    writer.finish()


def read_and_popcount():
    def work() -> int:
        from safetensors import safe_open

        from workloads.bits import row_counts

        kept = 0
        for shard in sorted(FOLDER.glob("masks-*.safetensors")):
            with safe_open(shard, framework="np") as reader:
                for name in reader.keys():  # noqa: SIM118 (not a dict)
                    kept += int(row_counts(reader.get_tensor(name).view(np.uint64)).sum())
        return kept

    import workloads.bits

    workloads.bits.row_counts(np.zeros((1, 1), dtype=np.uint64))
    return work


def simulate(on: str, tokens: int):
    from simulator.accelerators.named import open_accelerator
    from simulator.simulate import simulate_layers
    from simulator.statistics import StatisticsStore
    from workloads.conditions import Conditions
    from workloads.operations import linears_of

    bundle = MaskBundle.open(FOLDER)
    targets, conditions, store = [open_accelerator(on)], Conditions(tokens), StatisticsStore()
    run = partial(simulate_layers, targets, bundle.header, conditions=conditions, store=store)
    list(run(list(linears_of(bundle))[:1]))  # compiles
    return lambda: sum(row.get("cycles") or 0 for row in run(linears_of(bundle)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--on", default="sparten")
    parser.add_argument("--tokens", type=int, default=1)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    began = time.perf_counter()
    make_bundle()
    size = sum(file.stat().st_size for file in FOLDER.glob("masks-*.safetensors"))
    print(f"bundle: {size / 1e9:.2f} GB of masks in {time.perf_counter() - began:.0f} s")
    try:
        measure(read_and_popcount)  # the file cache, as far as memory allows
        plain = measure(read_and_popcount)
        ours = measure(simulate, arguments.on, arguments.tokens)
    finally:
        if not arguments.keep:
            shutil.rmtree(FOLDER)
    print(
        f"{'read and popcount':<22}{plain.seconds:8.1f} s  {size / 1e9 / plain.seconds:6.2f} GB/s  peak "
        f"{plain.peak_gb:.2f} GB"
    )
    ratio = ours.seconds / plain.seconds
    print(
        f"{arguments.on:<22}{ours.seconds:8.1f} s  {size / 1e9 / ours.seconds:6.2f} GB/s  peak {ours.peak_gb:.2f} GB  "
        f"{ratio:.2f}x the time"
    )


if __name__ == "__main__":
    main()
