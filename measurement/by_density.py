"""What a matrix takes under any mask, by a record: the fastest of the kernels that were measured for such weights, its
times taken as linear between the densities that were. Needs no torch.

A kernel that multiplies every weight runs any mask. Sparser than the least density measured a mask takes the time of
that, denser than the largest it runs on the dense kernel: nothing is said beyond what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from measurement.layer_facts import Case
from measurement.rows import RecordTarget
from workloads.errors import UserError
from workloads.patterns import UNSTRUCTURED

DENSE_KERNEL = "dense"
OF_BITS = {"int8-weights": 8, "int4-weights": 4, "int4": 4}  # kernels of quantized weights, inputs as they are
QUANTIZED = ("int", "fp8")  # how names of kernels begin that have a type of their own


@dataclass(frozen=True)
class TimesByDensity:
    """Of a record's situation. `dtype` of its dense kernel, "": the first that the record has."""

    target: RecordTarget
    asked_dtype: str = ""

    @cached_property
    def dtype(self) -> str:
        """Raises UserError for one that the record does not have."""
        there = list(dict.fromkeys(case["dtype"] for case in self.target.every_case if case["kernel"] == DENSE_KERNEL))
        if not there or (self.asked_dtype and self.asked_dtype not in there):
            raise UserError(
                f"the record of {self.target.name} has no dense times of {self.asked_dtype or 'any type'}; it has "
                f"{', '.join(there) or 'none'}"
            )
        return self.asked_dtype or str(there[0])

    @cached_property
    def densities(self) -> list[float]:
        """At which masks without a pattern were measured, of all shapes."""
        every = self.target.every_case
        return sorted({case["density"] for case in every if case["feasible"] and case["pattern"] == UNSTRUCTURED})

    def us(
        self, rows: int, cols: int, tokens: int, density: float = 1.0, pattern: str = "", bits: int | None = None
    ) -> tuple[float, str]:
        """(time, kernel) of a matrix (rows, cols) of which `density` is kept, of a `pattern` N:M ("": none), with
        weights of so many `bits` (None: the dense kernel's type). Raises UserError for what was not measured."""
        cases = self._cases(rows, cols, tokens)
        dense = [(self.target.us(case), DENSE_KERNEL) for case in cases if case["kernel"] == DENSE_KERNEL][:1]
        if not dense:
            raise UserError(
                f"the record of {self.target.name} has no steady dense time of {rows} x {cols} at {tokens:,} tokens in "
                f"{self.dtype}; measure it again"
            )
        if bits is not None:
            return min(dense[0], self._quantized(cases, bits, f"{rows} x {cols} at {tokens:,} tokens"))
        if density >= 1 and not pattern:
            return dense[0]
        masked = self._of_pattern(cases, pattern) if pattern else self._between(cases, density)
        return min([*dense, *masked])

    def _cases(self, rows: int, cols: int, tokens: int) -> list[Case]:
        """Those that ran. Raises UserError where there are none, with what there is."""
        of_shape = [case for case in self.target.cases.get((rows, cols), []) if case["dtype"] == self.dtype]
        if not of_shape:
            raise UserError(
                f"the record of {self.target.name} has no {rows} x {cols} in {self.dtype}; measure that matrix there"
            )
        counts = sorted({case["tokens"] for case in of_shape})
        if tokens not in counts:
            raise UserError(
                f"the record of {self.target.name} has {rows} x {cols} at {', '.join(f'{n:,}' for n in counts)} "
                f"tokens, not at {tokens:,}; measure it with `tokens` {tokens}, or choose `batch` and `prompt` "
                "for those"
            )
        return [case for case in of_shape if case["tokens"] == tokens and case["feasible"] and not case["compiled"]]

    def _quantized(self, cases: Sequence[Case], bits: int, what: str) -> tuple[float, str]:
        """Zeros gain nothing in it."""
        found = [(self.target.us(case), str(case["kernel"])) for case in cases if OF_BITS.get(case["kernel"]) == bits]
        if not found:
            raise UserError(f"the record of {self.target.name} has no kernel of {bits}-bit weights of {what}")
        return min(found)

    def _of_pattern(self, cases: Sequence[Case], pattern: str) -> list[tuple[float, str]]:
        """By kernels of the dense type alone."""
        own = [case for case in cases if case["pattern"] == pattern and not case["kernel"].startswith(QUANTIZED)]
        return [(self.target.us(case), str(case["kernel"])) for case in own]

    def _between(self, cases: Sequence[Case], density: float) -> list[tuple[float, str]]:
        points: dict[str, list[tuple[float, float]]] = {}
        for case in cases:
            if case["pattern"] == UNSTRUCTURED and case["density"] < 1:
                points.setdefault(case["kernel"], []).append((case["density"], self.target.us(case)))
        found = []
        for kernel, some in points.items():
            places, times = np.array(sorted(some)).T
            if density <= places[-1]:
                found.append((float(np.interp(density, places, times)), kernel))
        return found
