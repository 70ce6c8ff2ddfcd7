"""Learning something about a block's weights from the error of its output: shared by BESA and LWC.

The block itself runs, with other numbers in its weights. What comes back is the gradient of the loss with respect to
each matrix, handed over as soon as it is known, so that the gradients of a whole block are never held together.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from checkpoints.discovery import LinearRef
from workloads.errors import UserError

Normalisation = Literal["channel", "token", "none"]
FIRST_LOSS_SCALE = 2.0**16  # float16 only


class StandIn:
    """Within this context the block runs with whatever `set` wrote into its matrices; afterwards its own weights are
    back."""

    def __init__(self, block: nn.Module, refs: list[LinearRef]):
        self._refs: dict[tuple[str, str], list[LinearRef]] = {}
        for ref in refs:
            self._refs.setdefault((ref.module_path, ref.parameter), []).append(ref)
        self._modules = {place: block.get_submodule(place[0]) for place in self._refs}
        self._own: dict[tuple[str, str], nn.Parameter] = {
            place: getattr(module, place[1]) for place, module in self._modules.items()
        }
        self._stand_ins: dict[tuple[str, str], nn.Parameter] = {}
        self._loss_scale = 1.0
        if any(weight.dtype == torch.float16 for weight in self._own.values()):
            self._loss_scale = FIRST_LOSS_SCALE

    def __enter__(self) -> "StandIn":
        for place, module in self._modules.items():
            stand_in = nn.Parameter(self._own[place].detach().clone())
            self._stand_ins[place] = module._parameters[place[1]] = stand_in
        return self

    def __exit__(self, *error: object) -> None:
        for place, module in self._modules.items():
            module._parameters[place[1]] = self._own[place]
        self._stand_ins = {}

    def view(self, ref: LinearRef) -> torch.Tensor:
        """What the block runs with in place of a matrix, (out, in), to be written into."""
        return ref.view(self._stand_ins[ref.module_path, ref.parameter].data)

    def set(self, ref: LinearRef, weight: torch.Tensor) -> None:
        """weight (out, in)"""
        self.view(ref).copy_(weight)

    def backward(
        self, loss_of: Callable[[], torch.Tensor], receive: Callable[[LinearRef, torch.Tensor], None]
    ) -> float:
        """Runs loss_of() and calls receive(ref, dLoss/dW) once for every matrix that took part, dLoss/dW (out, in)
        float32, contiguous; returns the loss.

        float16 gradients are taken of a scaled loss, whose scale is halved until they are finite; so `receive` may be
        called again for a matrix, and its last call counts. Raises UserError if the loss or, at any scale, a gradient
        is not finite.
        """
        while True:
            finite = True

            def hook(parameter: torch.Tensor, refs: list[LinearRef]) -> None:
                nonlocal finite
                gradient, parameter.grad = parameter.grad, None
                assert gradient is not None
                if self._loss_scale != 1:
                    finite = finite and bool(torch.isfinite(gradient).all())
                for ref in refs:
                    own = ref.view(gradient).float().contiguous()
                    receive(ref, own if self._loss_scale == 1 else own / self._loss_scale)

            handles = [
                stand_in.register_post_accumulate_grad_hook(lambda p, refs=self._refs[place]: hook(p, refs))
                for place, stand_in in self._stand_ins.items()
            ]
            try:
                with torch.enable_grad():
                    loss = loss_of()
                    if not bool(torch.isfinite(loss)):
                        raise UserError(
                            f"the output of the block is NaN or Inf (loss {float(loss.detach())}); use `dtype=float32` "
                            "or bfloat16"
                        )
                    (loss * self._loss_scale).backward()
            finally:
                for handle in handles:
                    handle.remove()
            if finite:
                return float(loss.detach())
            self._loss_scale /= 2
            if self._loss_scale < 1:
                raise UserError(
                    "gradients overflow in float16 however small the loss is; use `dtype=float32` or bfloat16"
                )


def output_error(output: torch.Tensor, reference: torch.Tensor, normalisation: Normalisation) -> torch.Tensor:
    """How far a block's output is from what it should be, both (batch, seq, hidden); a float32 scalar (methods 4.5).

    channel: mean over channels c of sum_bt ((Y - Y_ref)_btc / sigma_c)^2, sigma_c = ||Y_ref[:, :, c]||_2 (released
    BESA), with 1e-6 max(sigma) added to each so that a silent channel cannot divide by zero; none: mean over tokens of
    ||Y - Y_ref||^2; token: mean over tokens t of ||(Y - Y_ref)_t||^2 / ||Y_ref,t||^2, for what reads the output divides
    each token by its own norm (ours).
    """
    reference = reference.float()
    difference = (output.float() - reference).flatten(0, 1)  # (tokens, hidden)
    if normalisation == "none":
        return difference.square().sum(dim=1).mean()
    if normalisation == "token":
        energy = reference.flatten(0, 1).square().sum(dim=1)  # (tokens,)
        energy = energy + 1e-6 * energy.mean().clamp_min(torch.finfo(torch.float32).tiny)
        return (difference.square().sum(dim=1) / energy).mean()
    sigma = reference.flatten(0, 1).norm(dim=0)
    sigma = sigma + 1e-6 * sigma.max().clamp_min(torch.finfo(torch.float32).tiny)
    return (difference / sigma).square().sum(dim=0).mean()
