"""One optimizer step: gradients of the model's weights, piece by piece, handed to the numbers behind them.

A batch is cut into pieces (pruning/parallel.py), the same for any number of threads. On the CPU pieces run side by
side, each operation on one thread, and their gradients are added in order: the same bits whatever the thread count. On
a GPU they run one after the other; its own sums are not promised to be the same twice.
"""

import math

import torch
from torch import nn

from checkpoints.opened import OpenModel
from checkpoints.prunable import parameter_name
from pruning.parallel import side_by_side, split
from pruning.recovery.hook import Hook
from pruning.recovery.masked_weights import MaskedWeight
from pruning.recovery.objective import Batch, Objective

LONGEST_GRADIENT = 1.0  # a longer one (2-norm over all trained numbers) is scaled down to it


class Trainer:
    """A whole model in memory and the weights in it that are trained; float32 Adam (0.9, 0.999; no weight decay)."""

    def __init__(
        self, checkpoint: OpenModel, weights: list[MaskedWeight], objective: Objective, hook: Hook | None = None
    ):
        self.weights = weights
        self.objective = objective
        self.hook = hook or Hook()
        self.hook.begin(weights)
        self._device = checkpoint.device
        self._stored = {
            weight.ref.layer.name: checkpoint.stored_dtype(parameter_name(weight.ref)) for weight in weights
        }
        self._places: dict[int, tuple[nn.Parameter, list[MaskedWeight]]] = {}
        for weight in weights:
            module = checkpoint.blocks[weight.ref.layer.block].get_submodule(weight.ref.module_path)
            parameter = getattr(module, weight.ref.parameter)
            self._places.setdefault(id(parameter), (parameter, []))[1].append(weight)
        self._parameters = [parameter.requires_grad_() for parameter, _ in self._places.values()]
        self.trained = [leaf for weight in weights for leaf in weight.parameters]
        self.optimizer = torch.optim.Adam(self.trained, lr=0.0, foreach=False)
        self.write()

    @torch.no_grad()
    def write(self) -> None:
        """Puts the weights into the model, rounded as the files store them."""
        for parameter, weights in self._places.values():
            for weight in weights:
                stored = self._stored[weight.ref.layer.name]
                weight.ref.view(parameter.data).copy_(weight.weight().to(stored))

    def guide(self, share: float) -> None:
        """How much of the guides the model runs with, of weights that have one."""
        for weight in self.weights:
            weight.share = share
        self.write()

    def step(self, batch: Batch, lr: float, number: int) -> float:
        """Trains on a batch, (samples, ...) tensors, in step `number` from 0; the mean loss of what counts in it,
        before the step. A loss or gradient that is not finite changes nothing, and comes back as NaN or Inf."""
        count = self.objective.count(batch)

        def gradients(piece: Batch) -> tuple[torch.Tensor, ...]:
            with torch.enable_grad():
                loss = self.objective(piece) / count
                return loss.detach(), *torch.autograd.grad(loss, self._parameters, materialize_grads=True)

        total, sums = 0.0, list[torch.Tensor]()
        for loss, *found in side_by_side(gradients, self._pieces(batch), self._device):
            total += float(loss)
            sums = sums or [torch.zeros_like(gradient, dtype=torch.float32) for gradient in found]
            for own, gradient in zip(sums, found, strict=True):
                own += gradient
        if not math.isfinite(total) or not all(bool(torch.isfinite(gradient).all()) for gradient in sums):
            return total if not math.isfinite(total) else math.nan
        sums.reverse()
        for _, weights in self._places.values():
            gradient = sums.pop()  # given back matrix by matrix
            for weight in weights:
                weight.receive(weight.ref.view(gradient))
        nn.utils.clip_grad_norm_(self.trained, LONGEST_GRADIENT, foreach=False)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        for weight in self.weights:
            weight.settle()
        with torch.no_grad():
            self.hook.after(number + 1, self.optimizer)
        self.write()
        return total

    def held_out_loss(self, batch: Batch) -> float:
        """The mean loss over what counts, of the model alone, without training."""

        def loss(piece: Batch) -> float:
            with torch.no_grad():
                return float(self.objective.own_loss(piece))

        return sum(side_by_side(loss, self._pieces(batch), self._device)) / self.objective.count(batch)

    def _pieces(self, batch: Batch) -> list[Batch]:
        return split(self._device, self.objective.at_once(self._device, batch), batch)
