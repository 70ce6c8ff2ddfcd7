"""Products of factors in training (methods 8.3, 19.6): the model runs with the matrix that the factors make, as they
will be stored, and the optimizer moves the factors:

    W_hat = second . first        dLoss/dsecond = dLoss/dW_hat first^T        dLoss/dfirst = second^T dLoss/dW_hat

block by block. With a guide W_g, which is trained too and starts from the unpruned weight, it runs with a W_g + (1 - a)
W_hat, a falling from 1 to 0: the same as y = a W_g x + (1 - a) second first x."""

import torch

from checkpoints.discovery import LinearRef
from checkpoints.factored import Pair, product
from pruning.block_job import Decision
from pruning.recovery.masked_weights import MaskedWeight, StraightThrough


class FactoredWeight(MaskedWeight):
    """stored: the type that the files hold factors in. guide (rows, cols): what W_g starts from; None: no guide.
    `share`: a."""

    def __init__(self, ref: LinearRef, pair: Pair, stored: torch.dtype, guide: torch.Tensor | None = None):
        device = pair[0].device
        super().__init__(ref, torch.ones(ref.layer.shape, dtype=torch.bool, device=device), None)
        self._factors = [factor.detach().clone().requires_grad_() for factor in pair]
        self._guide = None if guide is None else guide.detach().clone().requires_grad_()
        self._stored = stored
        self.parameters = [*self._factors, *([] if self._guide is None else [self._guide])]

    def free(self) -> torch.Tensor:
        first, second = (StraightThrough.apply(one, one.detach().to(self._stored).float()) for one in self._factors)
        made = product(first, second)
        return made if self._guide is None else self.share * self._guide + (1 - self.share) * made

    @torch.no_grad()
    def decision(self) -> Decision:
        first, second = (factor.detach() for factor in self._factors)
        return Decision(self.keep, factors=(first, second))
