"""Structured pruning of a weight (pruning/second_order/groups.py), all counts in one sweep, against what any
second-order method pays before it starts: X^T X of the calibration tokens, and one Cholesky factorisation. CPU.

    python benchmarks/second_order_groups.py [--inputs 4096] [--outputs 1024] [--size 1] [--block 32] [--tokens 16384]

Size 1 and a block of 32: neurons of an FFN, 32 at a time; 128 and 1: heads of o_proj. X^T X grows with the tokens (128
samples of 2,048 are 262,144), the sweep does not. Everything runs under the project's rule of one thread an operation,
pieces side by side.
"""

import argparse
from collections.abc import Callable

import torch
from measuring import measure

from pruning.parallel import one_thread_per_operation, ordered_map, worker_count
from pruning.second_order.groups import adjacent, exact, sweep
from pruning.second_order.obs import factorise

DAMPING, BATCH = 0.01, 2048


def problem(inputs: int, outputs: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, inputs, generator=draw) + 0.5 * torch.randn(tokens, 1, generator=draw)  # correlated
    return torch.randn(outputs, inputs, generator=draw) * 0.02, x * torch.rand(inputs, generator=draw).add(0.1)


def hessian_of(x: torch.Tensor) -> torch.Tensor:
    total = torch.zeros(x.shape[1], x.shape[1])
    with one_thread_per_operation():
        for part in ordered_map(lambda batch: batch.T @ batch, list(x.split(BATCH)), large=True):
            total += part
    return total


def prepared(inputs: int, outputs: int, tokens: int, size: int, block: int) -> Callable[[], None]:
    x = problem(inputs, outputs, tokens)[1]

    def work() -> None:
        hessian = hessian_of(x)
        with one_thread_per_operation():
            factorise(hessian, DAMPING)

    return work


def swept(inputs: int, outputs: int, tokens: int, size: int, block: int) -> Callable[[], list[float]]:
    weight, x = problem(inputs, outputs, tokens)
    hessian, groups = hessian_of(x), adjacent(inputs, size)

    def work() -> list[float]:
        errors = sweep(weight, hessian, groups, (), DAMPING, block).errors
        return [float(errors[int(share * len(errors)) - 1] / errors[-1]) for share in (0.25, 0.5, 0.75)]

    return work


def refitted(inputs: int, outputs: int, tokens: int, size: int, block: int) -> Callable[[], None]:
    weight, x = problem(inputs, outputs, tokens)
    hessian, keep = hessian_of(x), torch.arange(inputs) % 2 == 0

    def work() -> None:
        exact(weight, hessian, keep, DAMPING)

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for name, default in (("inputs", 4096), ("outputs", 1024), ("tokens", 16384), ("size", 1), ("block", 32)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    settings = (args.inputs, args.outputs, args.tokens, args.size, args.block)
    before, found, refit = (measure(each, *settings) for each in (prepared, swept, refitted))
    print(
        f"{args.outputs} x {args.inputs}, groups of {args.size}, {args.block} at a time, {args.tokens} tokens, "
        f"{worker_count()} cores"
    )
    for name, measured in (
        ("X^T X + Cholesky", before),
        ("sweep, all counts", found),
        ("exact, one in two kept", refit),
    ):
        print(
            f"{name:<23} {measured.seconds / 60:7.2f} min   {measured.peak_gb:6.2f} GB at most   "
            f"{measured.seconds / before.seconds:6.2f} x"
        )
    print("relative error with 1/4, 1/2, 3/4 gone: " + ", ".join(f"{error:.4f}" for error in found.result))


if __name__ == "__main__":
    main()
