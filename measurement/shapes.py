"""What is measured: a weight matrix and the mask on it, in the words of a record. What goes without torch."""

from dataclasses import dataclass

ANY = "any"  # the pattern of a shape on which every kernel runs the kind of mask that it is for
SPREAD = 1.5  # of times on a CPU, median over least: above, others had the core for half of the rounds


@dataclass(frozen=True)
class Shape:
    """A weight matrix, the pattern of the mask on it, the share that it keeps where kernels depend on it (else 1)."""

    out_features: int
    in_features: int
    pattern: str
    density: float = 1.0
