"""Wanda and SparseGPT as their released programs go about it, beside `prunesim prune`: CPU time and memory of the whole
process.

    python benchmarks/released_scheme.py [--methods wanda sparsegpt] [--blocks 10] [--samples 32] [--seq-len 512]

The released scheme, in plain transformers and torch: the whole model in memory; a block after the other is run on one
sequence at a time with a hook on every linear (Wanda: the norm of its inputs; SparseGPT: their X^T X, for each linear
apart), pruned (Wanda: a stable sort of every row; SparseGPT: column after column in torch), and run again. It writes
nothing. Random weights of SmolLM2-135M's shapes, made once under out/benchmarks; one thread each; the processor time
(user and system) of each process, for wall time says little on a machine that others use.

The floor is the time of the matrix products that are needed, at the rate that this machine reaches on them: the linears
of every block twice, but the last one's product only once and the last block's second pass not at all, attention, and
the upper half of X^T X of four inputs.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from sparsegpt_speed import plain_sparsegpt
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig

FOLDER = Path("out/benchmarks")
HIDDEN, FFN, KV = 576, 1536, 192


def make_model(folder: Path, blocks: int) -> None:
    config = LlamaConfig(
        vocab_size=49152, hidden_size=HIDDEN, intermediate_size=FFN, num_hidden_layers=blocks, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, tie_word_embeddings=True, dtype="float32",
        architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


class Caught(Exception):
    pass


@torch.no_grad()
def released(method: str, model_folder: Path, ids_file: Path, sparsity: float) -> None:
    """The scheme of the released programs, on the whole model."""
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    model.config.use_cache = False
    ids = torch.from_numpy(np.load(ids_file))
    inputs = torch.zeros(*ids.shape, model.config.hidden_size)
    blocks, calls = model.model.layers, dict[int, dict]()

    class Catcher(nn.Module):
        def forward(self, hidden: torch.Tensor, **kwargs):
            inputs[len(calls)] = hidden[0]
            calls[len(calls)] = kwargs
            raise Caught

    first, blocks[0] = blocks[0], Catcher()
    for row in ids:
        with suppress(Caught):
            model(row[None])
    blocks[0] = first
    outputs, kwargs = torch.zeros_like(inputs), calls[0]
    for block in blocks:
        linears = [module for module in block.modules() if isinstance(module, nn.Linear)]
        sums = {
            linear: torch.zeros(linear.in_features, *([linear.in_features] if method == "sparsegpt" else []))
            for linear in linears
        }

        def see(linear: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor, sums=sums) -> None:
            flat = args[0].reshape(-1, args[0].shape[-1]).T
            sums[linear] += flat @ flat.T if method == "sparsegpt" else torch.norm(flat, dim=1) ** 2

        handles = [linear.register_forward_hook(see) for linear in linears]
        for number, states in enumerate(inputs):
            outputs[number] = block(states[None], **kwargs)[0]
        for handle in handles:
            handle.remove()
        for linear in linears:
            if method == "sparsegpt":
                plain_sparsegpt(linear.weight.data, sums[linear], sparsity)
            else:
                scores = linear.weight.abs() * sums[linear].sqrt()
                order = torch.sort(scores, dim=-1, stable=True).indices[:, : int(scores.shape[1] * sparsity)]
                linear.weight[torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order, True)] = 0
        for number, states in enumerate(inputs):
            outputs[number] = block(states[None], **kwargs)[0]
        inputs, outputs = outputs, inputs


def floor_seconds(method: str, blocks: int, tokens: int, seq_len: int) -> float:
    """Of the needed products at the measured rate of float32 products on one thread."""
    torch.set_num_threads(1)
    x, w = torch.randn(4096, HIDDEN), torch.randn(FFN, HIDDEN)
    best = float("inf")
    for _ in range(20):
        began = time.process_time()
        nn.functional.linear(x, w)
        best = min(best, time.process_time() - began)
    rate = 2 * x.numel() * FFN / best
    linears = 2 * HIDDEN * HIDDEN + 2 * HIDDEN * KV + 3 * HIDDEN * FFN
    attention = 2 * seq_len * HIDDEN  # of causal scores and values, a token
    passes = 2 * tokens * ((2 * blocks - 1) * (linears + attention / 2) - blocks * HIDDEN * FFN)
    squares = tokens * (3 * HIDDEN**2 + FFN**2) * blocks if method == "sparsegpt" else 0
    print(f"{rate / 1e9:.0f} GFLOP/s; {(passes + squares) / 1e9:.0f} GFLOP")
    return (passes + squares) / rate


def whole_process(command: list[str]) -> tuple[float, float, float]:
    """(processor seconds, wall seconds, peak GB) of a command."""
    environment = {**os.environ, "PRUNESIM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(told)
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - began, usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--methods", nargs="+", default=["wanda", "sparsegpt"], choices=["wanda", "sparsegpt"])
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--released", nargs=3, metavar=("METHOD", "MODEL", "IDS"), help="run only the released scheme")
    args = parser.parse_args()
    if args.released:
        method, model_folder, ids_file = args.released
        released(method, Path(model_folder), Path(ids_file), 0.5)
        return
    model, ids = FOLDER / f"smollm2-{args.blocks}", FOLDER / "released-scheme-ids.npy"
    if not (model / "config.json").exists():
        make_model(model, args.blocks)
    np.save(ids, np.random.default_rng(0).integers(0, 49152, (args.samples, args.seq_len)))
    for method in args.methods:
        floor = floor_seconds(method, args.blocks, args.samples * args.seq_len, args.seq_len)
        out = FOLDER / f"released-scheme-{method}"
        theirs = [sys.executable, __file__, "--released", method, str(model), str(ids)]
        ours = [sys.executable, "-m", "prunesim", "prune", str(model), "--method", method, "--sparsity", "0.5",
                "--calibration", str(ids), "--out", str(out)]  # fmt: skip
        for _ in range(args.rounds):
            found = {}
            for name, command in (("released scheme", theirs), ("prunesim", ours)):
                shutil.rmtree(out, ignore_errors=True)
                found[name] = whole_process(command)
                cpu, wall, peak = found[name]
                print(f"{method:<10} {name:<16} {cpu:7.1f} s of a core ({wall:6.1f} s)   {peak:5.2f} GB", flush=True)
            (cpu, _, peak), (own_cpu, _, own_peak) = found.values()
            print(
                f"{method:<10} ratio            {own_cpu / cpu:7.2f}   memory {own_peak / peak:5.2f}   prunesim "
                f"{own_cpu / floor:.2f}x the floor of {floor:.1f} s, the released scheme {cpu / floor:.2f}x",
                flush=True,
            )


if __name__ == "__main__":
    main()
