"""How long a pruning run will take, before it starts: the matrix products it cannot do without, by their number and by
the rate that this machine reaches now.

A multiply-add is two operations. With T calibration tokens and matrices of n outputs and k inputs:

    a pass            2 T n k of every matrix; of experts the share of tokens that is routed to them. Gathering and
                      the pass over the pruned block are two, a stream of the unpruned model's states one more
    X^T X             T k (k + 1) for every input that is different, the half of it that is computed
    solving with it   k^3 / 3 to factorize and as much to invert, k^3 / 3 to factorize that, and n k^2 for the columns
                      (SparseGPT, GPTQ)
    a gradient        three passes (forward, backward to inputs and to weights), and one more to run it again
    training          three, of a block, for every sequence that a method trains on

Attention's own products, norms, choosing masks, the second walk that fits grids where pruning and rounding are one,
reading and writing are not counted: they are what the range is for.
"""

import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from pruning.evidence.needs import ACTIVATIONS, GRADIENTS, Need
from pruning.parallel import PIECE_TOKENS, one_thread_per_operation
from pruning.run.recipe import Recipe
from workloads.experts import expert_of, experts_of
from workloads.layers import Layer
from workloads.threads import worker_count

LEAST, MOST = 1.0, 4.0  # times of these products: 2.1 of Wanda, 2.3 of SparseGPT, 1.6 of a step of BESA were measured
START_S = 10.0  # the libraries, the tokenizer, hashes of the weights
SHARED = {"k": "q", "v": "q", "up": "gate", "expert_up": "expert_gate", "shared_up": "shared_gate"}  # have its input
MEASURED_S = 0.25


@dataclass(frozen=True)
class Work:
    """Operations of each part; `width`: the shorter side of the largest matrices."""

    width: int = 0
    passes_flop: float = 0.0
    squares_flop: float = 0.0
    solving_flop: float = 0.0
    gradients_flop: float = 0.0
    training_flop: float = 0.0

    @property
    def flop(self) -> float:
        return sum(getattr(self, each.name) for each in fields(self) if each.name.endswith("_flop"))

    def __add__(self, other: "Work") -> "Work":
        sums = {e.name: getattr(self, e.name) + getattr(other, e.name) for e in fields(self)}
        return Work(**sums | {"width": max(self.width, other.width)})


def work_of(
    layers: Sequence[Layer], config: Mapping[str, Any], samples: int, tokens: int, recipe: Recipe
) -> Work | None:
    """Of a model with these matrices and `tokens` calibration tokens in `samples` sequences. None of methods that
    search, train whole models, take something out or factorize: how much they compute shows as they go. Raises
    NotForThisModel as the run would."""
    if recipe.method.leaves or recipe.method.trains:
        return None
    treated = recipe.treatment(list(layers)).treated
    blocks: dict[int, list[Layer]] = {}
    for layer in layers:
        blocks.setdefault(layer.block, []).append(layer)
    return sum((block_work(each, treated, config, samples, tokens, recipe) for each in blocks.values()), Work())


def block_work(
    layers: Sequence[Layer],
    treated: Container[str],
    config: Mapping[str, Any],
    samples: int,
    tokens: int,
    recipe: Recipe,
) -> Work:
    """Of a block with these matrices; `treated`: the names of those that are pruned, anywhere."""
    needs, chosen = recipe.needs, [layer for layer in layers if layer.name in treated]
    if not samples or not needs:
        return Work()
    one_pass = sum(2.0 * seen(layer, config, tokens) * layer.n_weights for layer in layers)
    passes = (2 + (Need.DENSE in needs)) * one_pass if needs & ACTIVATIONS else 0.0
    squares = solving = 0.0
    if Need.HESSIAN in needs:
        inputs = {(SHARED.get(layer.role, layer.role), expert_of(layer.name)): layer for layer in chosen}
        for layer in inputs.values():
            squares += seen(layer, config, tokens) * layer.in_features * (layer.in_features + 1.0)
        solving = sum(float(layer.in_features) ** 3 + layer.n_weights * float(layer.in_features) for layer in chosen)
    trained = recipe.method.training_sequences(samples) if chosen else 0
    gradients = 4 * one_pass if needs & GRADIENTS else 0.0
    width = max(min(layer.shape) for layer in layers)
    return Work(width, passes, squares, solving, gradients, 3 * one_pass * trained / samples)


def seen(layer: Layer, config: Mapping[str, Any], tokens: int) -> float:
    """Of `tokens`, those that come into a matrix."""
    if expert_of(layer.name) is None:
        return tokens
    experts = experts_of(config, layer.block)
    return tokens * (1.0 if experts is None else experts.per_token / experts.count)


def rate_flop_s(width: int, device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of products of PIECE_TOKENS tokens with a matrix of `width` squared, by as many threads as a
    run has: one is measured, for a quarter of a second, as this machine is loaded now."""
    tokens = PIECE_TOKENS.get(device.type, PIECE_TOKENS["cuda"])
    left = torch.ones(tokens, width, device=device, dtype=dtype)
    right = torch.ones(width, width, device=device, dtype=dtype)
    with one_thread_per_operation(), torch.no_grad():
        _ended(left @ right)
        count, began = 0, time.perf_counter()
        while (took := time.perf_counter() - began) < MEASURED_S:
            _ended(left @ right)
            count += 1
    return 2.0 * tokens * width * width * count / took * (worker_count() if device.type == "cpu" else 1)


def _ended(made: torch.Tensor) -> None:
    if made.is_cuda:
        torch.cuda.synchronize(made.device)


def seconds_of(work: Work, rate: float) -> tuple[float, float]:
    """(least, most) seconds at `rate` operations a second."""
    return LEAST * work.flop / rate, MOST * work.flop / rate + START_S
