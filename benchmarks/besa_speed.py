"""BESA on one LLaMA block against the method as it is usually written, CPU: seconds a training step, and memory.

    python benchmarks/besa_speed.py [--hidden 2048] [--ffn 5504] [--tokens 256] [--steps 3]

The reference holds, for every matrix, 64-bit ranks, a soft and a hard mask in float32, and lets autograd differentiate
through W * (hard - stop(soft) + soft). Ours is optimizer=prodigy of methods/besa on the same block, inputs, dtype
(float32) and first logits. Both run every torch operation on one thread. The matrix products of forward and backward
pass are the same in both: the fewer tokens a step has, the more the masks weigh. --hidden 4096 --ffn 11008 is the block
of LLaMA-7B (the reference then takes about 12 GB).
"""

import argparse
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
from pruning.methods.besa import besa
from pruning.methods.besa.coefficients import candidates
from pruning.methods.besa.ranks import ranks_of, sums_below
from pruning.training import output_error

SPARSITY = 0.5


def problem(hidden: int, ffn: int, tokens: int, steps: int):
    """(block, run(states), sequences (1, tokens, hidden))"""
    torch.set_num_threads(1)
    config = LlamaConfig(
        hidden_size=hidden, intermediate_size=ffn, num_attention_heads=hidden // 128 or 1, num_hidden_layers=1
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


def ours(hidden: int, ffn: int, tokens: int, steps: int) -> Callable[[], float]:
    block, run, sequences = problem(hidden, ffn, tokens, steps)
    refs, statistics, outputs = observed(block, run, sequences)
    job = BlockJob(
        0, block, refs, run, {ref.layer.name: SPARSITY for ref in refs}, {ref.layer.name: None for ref in refs},
        lambda ref, scores: scores > 0, print, lambda ref: None, steps, statistics, sequences, outputs,
    )  # fmt: skip

    draw, scores = torch.randn(8, 8), torch.rand(8, 8)  # compiled code is loaded before the clock starts
    sums_below(draw, draw, ranks_of(scores, 8), torch.arange(9), 8)

    def work() -> float:
        decisions = besa.Besa(optimizer="prodigy").decide(job)
        return sum(float((~d.keep).sum()) for d in decisions.values()) / sum(d.keep.numel() for d in decisions.values())

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
        return float(pruned.detach())

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--ffn", type=int, default=5504)
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args()
    measure(ours, 128, 256, 8, 1)  # compiles
    weights = 4 * args.hidden**2 + 3 * args.hidden * args.ffn
    print(
        f"LLaMA block of {weights / 1e6:.0f} M weights, float32, one thread an operation; seconds of one more training "
        f"step"
    )
    for tokens in args.tokens:
        figures = {}
        for name, variant in (("dense masks", plain), ("prunesim", ours)):
            short, long = (measure(variant, args.hidden, args.ffn, tokens, steps) for steps in (1, 1 + args.steps))
            step = (long.seconds - short.seconds) / args.steps
            figures[name] = step, long.own_gb * 1e9 / weights
            print(f"{tokens:>5} tokens: {name:<12} {step:6.2f} s, {figures[name][1]:5.1f} B a weight; ", end="")
        (slow, fat), (fast, thin) = figures.values()
        print(f"{slow / fast:5.2f}x faster, {thin / fat:5.2f} of the memory", flush=True)


if __name__ == "__main__":
    main()
