"""SparseGPT of the matrices that share an input (q, k and v of a 7B block) against a plain reference, CPU: time and
memory.

    python benchmarks/sparsegpt_speed.py [--size 4096] [--tokens 16384] [--sparsity 0.5]

The reference is the method as it is usually written: one Hessian and one factorisation a matrix, then column after
column in torch, a rank-one update of the 128-column slab each, lazy updates of the rest; torch may use all cores. Ours
(the project's moments, factors and walk) runs under the project's rule of one thread an operation, rows side by
side. The masks must agree.
"""

import argparse
from collections.abc import Callable

import torch
from measuring import measure
from torch import nn

from checkpoints.discovery import LinearRef
from pruning.evidence.moments import InputMoments, InputWatch, Sums, merge
from pruning.parallel import one_thread_per_operation, ordered_map, worker_count
from pruning.second_order.hessians import Factors
from pruning.second_order.obs import MaskChoice, compensate
from workloads.layers import Layer

NAMES = ("q_proj", "k_proj", "v_proj")
BLOCKSIZE, DAMPING, BATCH = 128, 0.01, 2048


def problem(size: int, tokens: int) -> tuple[nn.ModuleDict, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    linears = {name: nn.Linear(size, size, bias=False).requires_grad_(False) for name in NAMES}
    for linear in linears.values():
        linear.weight.copy_(torch.randn(size, size, generator=draw) * 0.02)
    layers = nn.ModuleDict(linears)
    inputs = torch.randn(tokens, size, generator=draw)
    inputs += 0.5 * torch.randn(tokens, 1, generator=draw)  # correlated features
    return layers, inputs


def ours(size: int, tokens: int, sparsity: float) -> Callable[[], list[torch.Tensor]]:
    layers, inputs = problem(size, tokens)
    refs = [LinearRef(Layer(name, name[0], 0, size, size), name, "weight", None, False) for name in NAMES]

    class Job:  # what Factors asks of a block's job
        moments = InputMoments(1, {})

        @staticmethod
        def warn(text: str) -> None:
            print(text)

    def work() -> list[torch.Tensor]:
        total: Sums = {}
        with one_thread_per_operation(), InputWatch(layers, refs, hessian=True) as watch:

            def observe(batch: torch.Tensor) -> Sums:
                return watch.observe(lambda: [layer(batch) for layer in layers.values()][-1])[1]

            for sums in ordered_map(observe, list(inputs.split(BATCH)), large=True):
                merge(total, sums)
            Job.moments = InputMoments(1, total)
            factors = Factors(Job, DAMPING, "")  # type: ignore[arg-type]
            return [
                compensate(ref.matrix(layers), factors.of(ref)[0], MaskChoice(sparsity=sparsity), BLOCKSIZE).keep
                for ref in refs
            ]

    return work


def plain(size: int, tokens: int, sparsity: float) -> Callable[[], list[torch.Tensor]]:
    layers, inputs = problem(size, tokens)

    def work() -> list[torch.Tensor]:
        masks = []
        for layer in (each for each in layers.values() if isinstance(each, nn.Linear)):
            hessian = torch.zeros(size, size)
            for batch in inputs.split(BATCH):
                layer(batch)
                hessian += batch.T @ batch
            masks.append(plain_sparsegpt(layer.weight.detach().clone(), hessian, sparsity))
        return masks

    return work


def plain_sparsegpt(weight: torch.Tensor, hessian: torch.Tensor, sparsity: float) -> torch.Tensor:
    """The keep mask; weight is pruned and updated in place."""
    hessian.diagonal().add_(DAMPING * hessian.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    upper = torch.linalg.cholesky(inverse, upper=True)
    rows, cols = weight.shape
    keep = torch.ones(rows, cols, dtype=torch.bool)
    for start in range(0, cols, BLOCKSIZE):
        stop = min(start + BLOCKSIZE, cols)
        slab, corner = weight[:, start:stop].clone(), upper[start:stop, start:stop]
        errors = torch.zeros_like(slab)
        scores = (slab / corner.diagonal()).square()
        lowest = scores.flatten().argsort(stable=True)[: int(rows * (stop - start) * sparsity)]
        keep[lowest // (stop - start), start + lowest % (stop - start)] = False
        for j in range(stop - start):
            value = torch.where(keep[:, start + j], slab[:, j], 0.0)
            errors[:, j] = (slab[:, j] - value) / corner[j, j]
            slab[:, j:] -= errors[:, j : j + 1] * corner[j, j:]
            slab[:, j] = value
        weight[:, start:stop] = slab
        weight[:, stop:] -= errors @ upper[start:stop, stop:]
    return keep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--sparsity", type=float, default=0.5)
    args = parser.parse_args()
    settings = (args.size, args.tokens, args.sparsity)
    measure(ours, 256, 512, 0.5)  # compiles
    reference, found = measure(plain, *settings), measure(ours, *settings)
    same = [float((a == b).float().mean()) for a, b in zip(reference.result, found.result, strict=True)]
    print(
        f"q, k, v of {args.size} x {args.size}, {args.tokens} tokens, {args.sparsity} sparsity, {worker_count()} cores"
    )
    for name, measured in (("plain reference", reference), ("prunesim", found)):
        print(f"{name:<16} {measured.seconds:8.1f} s   {measured.own_gb:6.2f} GB beyond weights and inputs")
    print(f"ratio            {reference.seconds / found.seconds:8.2f} x   masks agree on {min(same):.4%}")


if __name__ == "__main__":
    main()
