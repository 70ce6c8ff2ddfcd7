"""What a run can gather for a method or a quantizer."""

from collections.abc import Iterable
from enum import StrEnum

from workloads.errors import unknown


class Need(StrEnum):
    ENERGY = "energy"  # sum of squares of every input
    ABSOLUTE = "absolute"  # sum of absolute values of every input
    HESSIAN = "hessian"  # X^T X
    OUTPUTS = "outputs"  # the dense block's outputs
    DENSE = "dense"  # the unpruned model's states before and after the block
    GRADIENTS_L1 = "gradients_l1"  # norms over sequences of the weight gradients of the whole model's loss
    GRADIENTS_L2 = "gradients_l2"  # (pruning/evidence/gradients.py)
    GRADIENTS_SUM = "gradients_sum"  # their sum over sequences, signs kept


ACTIVATIONS = frozenset({Need.ENERGY, Need.ABSOLUTE, Need.HESSIAN, Need.OUTPUTS, Need.DENSE})
GRADIENTS = frozenset({Need.GRADIENTS_L1, Need.GRADIENTS_L2, Need.GRADIENTS_SUM})


def check_needs(asked: Iterable[str], who: str) -> frozenset[Need]:
    """`asked` as needs; methods from outside may name them by their text. Raises UserError, with the nearest name, for
    one that nobody can gather."""
    names = [need.value for need in Need]
    for name in asked:
        if name not in names:
            raise unknown(f"need of {who}", str(name), names)
    return frozenset(Need(name) for name in asked)


def gradient_sums(needs: Iterable[Need]) -> tuple[str, ...]:
    """Which sums over the sequences' gradients `needs` ask for: "l1", "l2", "sum", in this order."""
    return tuple(sorted(need.removeprefix("gradients_") for need in needs if need in GRADIENTS))
