"""BESA on one LLaMA block against the method as it is usually written, CPU: seconds a training step, and memory.

    python benchmarks/besa_speed.py [--hidden 2048] [--ffn 5504] [--tokens 64 256 1024] [--steps 3]

The reference holds, for every matrix, 64-bit ranks, a soft and a hard mask in float32, and lets autograd differentiate
through W * (hard - stop(soft) + soft). Ours is methods/besa on the same block, inputs and dtype (float32), with either
optimizer; with prodigy the first logits are the same too. All run every torch operation on one thread; seconds are of
the processor, for wall time says little on a machine that others use. The matrix products of forward and backward pass
are the same in all three (ours go to oneDNN where that is as exact, pruning/float_products.py): the fewer tokens a step
has, the more the masks weigh. The floor is the time of those products, linears and attention, at the rate that this
machine reaches on them. --hidden 4096 --ffn 11008 is the block of LLaMA-7B (the reference then takes about 12 GB),
--hidden 576 --ffn 1536 --tokens 512 about SmolLM2-135M's.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from measuring import measure
from prodigyopt import Prodigy
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from checkpoints.discovery import block_linears
from pruning.block_job import BlockJob
from pruning.evidence.moments import InputMoments, InputWatch, Sums, merge
from pruning.methods.besa import besa, budgets
from pruning.methods.besa.budgets import sums_between
from pruning.methods.besa.coefficients import candidates
from pruning.methods.besa.ranks import ranks_of, sums_below
from pruning.parallel import one_thread_per_operation
from pruning.training import output_error

SPARSITY = 0.5


def problem(hidden: int, ffn: int, tokens: int, steps: int):
    """(block, run(states), sequences (1, tokens, hidden))"""
    torch.set_num_threads(1)
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=ffn,
        num_attention_heads=hidden // (128 if hidden % 128 == 0 else 64),
        num_hidden_layers=1,
    )
    config._attn_implementation = "sdpa"
    draw = torch.Generator().manual_seed(0)
    block = LlamaDecoderLayer(config, 0).eval().requires_grad_(False)
    for parameter in block.parameters():
        if parameter.ndim == 2:
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * hidden**-0.5)
    positions = torch.arange(tokens)[None]
    rotary = LlamaRotaryEmbedding(config)(torch.zeros(1, tokens, hidden), positions)

    def run(states: torch.Tensor) -> torch.Tensor:
        output = block(states, position_embeddings=rotary, position_ids=positions)
        return output[0] if isinstance(output, tuple) else output

    return block, run, [torch.randn(1, tokens, hidden, generator=draw) for _ in range(steps)]


def observed(block, run, sequences: list[torch.Tensor]):
    """(refs, statistics of the inputs, outputs) of the dense block."""
    refs, outputs, total = block_linears(block, "block", 0), [], Sums()
    with torch.no_grad(), InputWatch(block, refs) as watch:
        for states in sequences:
            output, sums = watch.observe(partial(run, states))
            outputs.append(output)
            merge(total, sums)
    return refs, InputMoments(len(sequences), total), outputs


def ours(optimizer: str, hidden: int, ffn: int, tokens: int, steps: int) -> Callable[[], float]:
    """Processor seconds of `steps` training steps, and of what else the method does to the block."""
    block, run, sequences = problem(hidden, ffn, tokens, steps)
    refs, statistics, outputs = observed(block, run, sequences)
    job = BlockJob(
        0, block, refs, run, {ref.layer.name: SPARSITY for ref in refs}, {ref.layer.name: None for ref in refs},
        lambda ref, scores: scores > 0, lambda text: None, lambda ref: None, steps, statistics, sequences, outputs,
    )  # fmt: skip

    draw, scores = torch.randn(8, 8), torch.rand(8, 8)  # compiled code is loaded before the clock starts
    sums_below(draw, draw, ranks_of(scores, 8), torch.arange(9), 8)
    sums_between(draw, draw, ranks_of(scores, 8), torch.zeros(8), torch.full((8,), 4))
    budgets.ROUND = steps
    settings = besa.Besa(rounds=1) if optimizer == "adam" else besa.Besa(optimizer="prodigy")

    def work() -> float:
        began = time.process_time()
        with one_thread_per_operation():
            settings.decide(job)
        return time.process_time() - began

    return work


class DenseMasks(nn.Module):
    """A linear under a straight-through mask whose soft part autograd differentiates."""

    def __init__(self, linear: nn.Linear, norm: torch.Tensor):
        super().__init__()
        self.weight = linear.weight
        scores = linear.weight.abs() * norm
        order = scores.argsort(dim=1, stable=True)
        self.ranks = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))
        self.logits = nn.Parameter(torch.zeros(len(scores), 101))
        self.grid = candidates(101)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        rows, cols = self.weight.shape
        pi = torch.softmax(torch.sigmoid(self.logits), dim=1)
        self.sparsity = pi @ self.grid
        thresholds = (cols * self.grid).floor().long()
        bins = torch.searchsorted(thresholds, torch.arange(cols), right=True)
        above = torch.cat([pi.flip(1).cumsum(1).flip(1), torch.zeros(rows, 1)], dim=1)  # sum of pi over candidates >= d
        soft = 1 - above.gather(1, bins[self.ranks])
        hard = (self.ranks >= (cols * self.sparsity.detach() + 1e-3).floor().long()[:, None]).float()
        return nn.functional.linear(inputs, self.weight * (hard - soft.detach() + soft))


def plain(hidden: int, ffn: int, tokens: int, steps: int) -> Callable[[], float]:
    block, run, sequences = problem(hidden, ffn, tokens, steps)
    refs, statistics, outputs = observed(block, run, sequences)

    def work() -> float:
        began = time.process_time()
        masked = []
        for ref in refs:
            parent, _, name = ref.module_path.rpartition(".")
            norm = statistics.feature_norm(ref.layer.name)
            masked.append(DenseMasks(block.get_submodule(ref.module_path), norm))
            setattr(block.get_submodule(parent), name, masked[-1])
        optimizer = Prodigy([layer.logits for layer in masked], lr=1.0, d_coef=1.0)
        size = sum(layer.weight.numel() for layer in masked)
        for states, wanted in zip(sequences, outputs, strict=True):
            loss = output_error(run(states), wanted, "channel")
            pruned = torch.stack([layer.weight.numel() * layer.sparsity.mean() for layer in masked]).sum() / size
            optimizer.zero_grad()
            (loss + 5 * ((pruned - SPARSITY) / SPARSITY) ** 2).backward()
            optimizer.step()
        return time.process_time() - began

    return work


def floor_seconds(hidden: int, ffn: int, tokens: int) -> float:
    """Of the products of one step: of every linear forward, for its weights and, but for q, k and v, for its inputs;
    of causal attention, two forward and four backward."""
    x, w = torch.randn(tokens, hidden), torch.randn(ffn, hidden)
    best = float("inf")
    with one_thread_per_operation():
        for _ in range(20):
            began = time.process_time()
            nn.functional.linear(x, w)
            best = min(best, time.process_time() - began)
    rate = 2 * x.numel() * ffn / best
    linears = 2 * tokens * (3 * (4 * hidden**2 + 3 * hidden * ffn) - 3 * hidden**2)
    attention = 6 * 2 * tokens**2 / 2 * hidden
    print(f"{tokens:>5} tokens: {(linears + attention) / 1e9:.1f} GFLOP at {rate / 1e9:.0f} GFLOP/s; ", end="")
    return (linears + attention) / rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--ffn", type=int, default=5504)
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args()
    measure(ours, "adam", 128, 256, 8, 1)  # compiles
    weights = 4 * args.hidden**2 + 3 * args.hidden * args.ffn
    print(
        f"LLaMA block of {weights / 1e6:.0f} M weights, float32, one thread an operation; processor seconds of one "
        "more training step"
    )
    for tokens in args.tokens:
        floor = floor_seconds(args.hidden, args.ffn, tokens)
        print(f"floor {floor:.3f} s")
        base = 0.0, 0.0
        for name, variant in (
            ("dense masks", plain),
            ("prodigy", partial(ours, "prodigy")),
            ("adam", partial(ours, "adam")),
        ):
            # the shorter run has a round's two checks of held-out sequences too
            short, long = (measure(variant, args.hidden, args.ffn, tokens, steps) for steps in (2, 2 + args.steps))
            step, bytes_each = (long.result - short.result) / args.steps, long.own_gb * 1e9 / weights
            base = base if base[0] else (step, bytes_each)
            print(
                f"{name:>18} {step:7.3f} s, {step / floor:4.2f}x the floor, {bytes_each:5.1f} B a weight; "
                f"{step / base[0]:4.2f}x the time and {bytes_each / base[1]:4.2f}x the memory of dense masks",
                flush=True,
            )


if __name__ == "__main__":
    main()
