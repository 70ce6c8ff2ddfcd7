"""Sparsity patterns as users write them: "unstructured" or "N:M"; and "dense", which a bundle calls what was left
alone."""

import re
from dataclasses import dataclass

import numpy as np

from workloads.errors import NotForThisModel, UserError

UNSTRUCTURED = "unstructured"
DENSE = "dense"  # the pattern of a layer that was left alone: every weight kept, run as the unpruned layer is
SMALLER = (
    "smaller"  # of one from which rows or columns were taken: every weight of the rest kept, run as a dense layer is
)
GONE = "gone"  # of one whose block or sub-layer was taken out: nothing is left to run
FACTORED = "factored"  # of one that is the product of two factors (workloads/factors.py), which run as dense layers do
WHOLE = (DENSE, SMALLER, FACTORED)
RUNS = (2, 4, 8, 16, 32)  # the M that are looked for, in this order
_FULL = 0.9  # share of the N kept from which a mask is N:M rather than one that happens to fit


@dataclass(frozen=True)
class Runs:
    """What the runs of a mask (or of several, `+`) keep: for every M of RUNS the most and the least of any run, None
    where M does not divide the inputs or a row has but one run. `kept` of `weights` are kept."""

    extremes: tuple[tuple[int, int] | None, ...]
    kept: int
    weights: int

    @classmethod
    def of(cls, extremes: np.ndarray, cols: int, kept: int, weights: int) -> "Runs":
        """`extremes` as workloads.bits.run_extremes has them."""
        pairs = [(int(most), int(least)) for most, least in extremes]
        whole = tuple(pair if cols % m == 0 and cols >= 2 * m else None for m, pair in zip(RUNS, pairs, strict=True))
        return cls(whole, kept, weights)

    def __add__(self, other: "Runs") -> "Runs":
        both = tuple(
            None if a is None or b is None else (max(a[0], b[0]), min(a[1], b[1]))
            for a, b in zip(self.extremes, other.extremes, strict=True)
        )
        return Runs(both, self.kept + other.kept, self.weights + other.weights)

    def complement(self) -> "Runs":
        """With kept and pruned exchanged."""
        flipped = tuple(
            None if pair is None else (m - pair[1], m - pair[0]) for m, pair in zip(RUNS, self.extremes, strict=True)
        )
        return Runs(flipped, self.weights - self.kept, self.weights)

    def pattern(self) -> "NofM | None":
        """The N:M with the shortest runs that no run exceeds and nearly all fill: nine tenths of N/M are kept."""
        for m, pair in zip(RUNS, self.extremes, strict=True):
            if pair is not None and 0 < pair[0] < m and self.kept * m >= _FULL * pair[0] * self.weights:
                return NofM(pair[0], m)
        return None

    def follows(self, pattern: "NofM") -> bool:
        """Of an M of RUNS."""
        pair = self.extremes[RUNS.index(pattern.m)]
        return pair is not None and pair[0] <= pattern.n

    @property
    def sparsity(self) -> float:
        return 1 - self.kept / self.weights


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
                f"{where}: pattern {self} needs in_features divisible by {self.m}, not {in_features}; choose another "
                "N:M, an unstructured pattern or a `fallback` (unstructured, skip)"
            )


def parse_pattern(text: str) -> NofM | None:
    """None for "unstructured", NofM for "N:M". Raises UserError for anything else."""
    if text == UNSTRUCTURED:
        return None
    match = re.fullmatch(r"([0-9]{1,6}):([0-9]{1,6})", text)
    if not match:
        raise UserError(f"unknown pattern {text[:60]!r}; use 'unstructured' or N:M such as 2:4")
    n, m = int(match[1]), int(match[2])
    if not 1 <= n < m <= 64:
        raise UserError(f"pattern {text} is not possible: needs 1 <= N < M <= 64")
    return NofM(n, m)


def check_sparsity(sparsity: float) -> float:
    """Raises UserError unless 0 <= sparsity < 1 (a fraction, not a percentage)."""
    if not 0 <= sparsity < 1:
        raise UserError(f"sparsity is a fraction in [0, 1), not {sparsity}; 0.5 prunes half of the weights")
    return sparsity


def kept_of_four(pattern: str) -> int | None:
    """How many of four weights a mask of this pattern keeps at most, None where it may break 2:4.

    "2:4" -> 2, "1:4" -> 1, "1:2" -> 2; "unstructured", "4:8", "3:4" and "2:8" do not fit in general.
    """
    n, separator, m = pattern.partition(":")
    if not separator or not n.isdigit() or not m.isdigit() or int(m) not in (2, 4):
        return None
    kept = int(n) * 4 // int(m)
    return kept if 1 <= kept <= 2 else None
