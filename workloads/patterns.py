"""Sparsity patterns as users write them: "unstructured" or "N:M"."""

import re
from dataclasses import dataclass

from workloads.errors import NotForThisModel, UserError


@dataclass(frozen=True)
class NofM:
    """At most n kept weights in each aligned run of m inputs of a row."""

    n: int
    m: int

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    @property
    def sparsity(self) -> float:
        return 1 - self.n / self.m

    def check_divides(self, in_features: int, where: str) -> None:
        """Raises NotForThisModel unless whole runs of m fit into a row."""
        if in_features % self.m:
            raise NotForThisModel(
                f"{where}: pattern {self} needs in_features divisible by {self.m}, not {in_features}; "
                "choose another N:M or an unstructured pattern"
            )


def parse_pattern(text: str) -> NofM | None:
    """None for "unstructured", NofM for "N:M". Raises UserError for anything else."""
    if text == "unstructured":
        return None
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match:
        raise UserError(f"unknown pattern {text!r}; use 'unstructured' or N:M such as 2:4")
    n, m = int(match[1]), int(match[2])
    if not 1 <= n < m <= 64:
        raise UserError(f"pattern {text} is not possible: needs 1 <= N < M <= 64")
    return NofM(n, m)


def check_sparsity(sparsity: float) -> float:
    """Raises UserError unless 0 <= sparsity < 1 (a fraction, not a percentage)."""
    if not 0 <= sparsity < 1:
        raise UserError(f"sparsity is a fraction in [0, 1), not {sparsity}; 0.5 prunes half of the weights")
    return sparsity
