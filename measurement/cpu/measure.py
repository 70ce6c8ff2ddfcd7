"""Shapes x tokens, all candidates of a shape together: check the results, then time them in turns.

Rows are those of measurement/measure.py. A kernel that cannot run, or is wrong, is a row with the reason and is not
timed. Cold and warm times are refused each by their own spread (noise.py), with them every other's of a group whose
dense kernel's spread too far, as nothing then is left to be held against. What was refused for its spread is measured
again when the command is repeated.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from measurement.cpu.clock import RoundClock
from measurement.cpu.host import load_average
from measurement.cpu.kernels import CpuKernel, pattern_of
from measurement.kernels import Prepared, reference_error
from measurement.measure import Progress, columns_of, quiet, wrong
from measurement.noise import any_steady, beside, noise
from measurement.problem import Operands, Problem, draw_whole
from measurement.records import SITUATIONS
from measurement.shapes import ANY, SPREAD, Shape
from workloads.errors import UserError, one_line
from workloads.patterns import DENSE, kept_of_four

ROUNDS, FEWEST = 20, 5
MOST_THREADS = 1024


@dataclass(frozen=True)
class CpuProcedure:
    """What holds for every case. `spread`: how far above the least time of a kernel its median may be. Raises
    UserError."""

    dtype: str = "fp32"
    rounds: int = ROUNDS
    threads: int = 1
    spread: float = SPREAD
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in ("fp32", "bf16"):
            raise UserError(f"`dtype` {self.dtype!r}: fp32 or bf16 on a CPU")
        if self.rounds < FEWEST:
            raise UserError(f"`runs` {self.rounds}: at least {FEWEST}, so that the least of them says something")
        if not 1 <= self.threads <= MOST_THREADS:
            raise UserError(f"`threads` {self.threads}: 1 to {MOST_THREADS:,}")
        if not self.spread >= 1:
            raise UserError(f"`spread` {self.spread}: the median over the least time, 1 or more; {SPREAD} unless given")


@dataclass(frozen=True)
class Case:
    """One candidate: a kernel on a mask of a pattern."""

    kernel: CpuKernel
    problem: Problem

    def facts(self) -> dict[str, Any]:
        """The key of a row (records.KEY, in its order)."""
        problem = self.problem
        return {
            "out_features": problem.out_features, "in_features": problem.in_features, "tokens": problem.tokens,
            "kernel": self.kernel.name, "dtype": problem.dtype, "pattern": problem.pattern, "density": problem.density,
            "compiled": "",
        }  # fmt: skip


def groups(shapes: Sequence[tuple[Shape, Sequence[int]]], kernels: Sequence[CpuKernel], dtype: str) -> list[list[Case]]:
    """The candidates of each weight matrix and token count, the dense kernel first, whatever masks are on it."""
    found: dict[tuple[int, int, int], dict[tuple[str, str, float], Case]] = {}
    for shape, tokens_list in shapes:
        for tokens in tokens_list:
            cases = found.setdefault((shape.out_features, shape.in_features, tokens), {})
            whole = Problem(shape.out_features, shape.in_features, tokens, dtype, DENSE)
            for kernel in kernels:
                for pattern, density in _masks(kernel, shape):
                    case = Case(kernel, replace(whole, pattern=pattern, density=density))
                    cases.setdefault((kernel.name, pattern, density), case)
    return [list(cases.values()) for cases in found.values()]


def _masks(kernel: CpuKernel, shape: Shape) -> list[tuple[str, float]]:
    """(pattern, density) that a kernel runs of a shape: none or one."""
    pattern = kernel.masks if shape.pattern == ANY else pattern_of(kernel, shape.pattern)
    if not pattern:
        return []
    kept = kept_of_four(pattern)
    return [(pattern, 1.0 if pattern == DENSE else kept / 4 if kept else shape.density)]


def measure(
    clock: RoundClock,
    shapes: Sequence[tuple[Shape, Sequence[int]]],
    kernels: Sequence[CpuKernel],
    procedure: CpuProcedure,
    done: Collection[tuple[Any, ...]] = (),
    progress: Progress = lambda what, done, of: None,
) -> Iterator[list[dict[str, Any]]]:
    """The rows of each shape and token count, in order, as they are measured; of a group that is not complete in `done`
    (records.KEY) all, as only times of one run compare. The caller pins threads."""
    wanted = groups(shapes, kernels, procedure.dtype)
    for number, cases in enumerate(wanted):
        progress(f"measuring {cases[0].problem}", number, len(wanted))
        if not all((*case.facts().values(),) in done for case in cases):
            yield group_rows(clock, cases, procedure)
    progress("measuring", len(wanted), len(wanted))


def group_rows(clock: RoundClock, cases: Sequence[Case], procedure: CpuProcedure) -> list[dict[str, Any]]:
    weight, inputs = draw_whole(cases[0].problem, "cpu", procedure.seed)
    operands = Operands(inputs, weight, weight)  # masks are each kernel's own
    rows: list[dict[str, Any]] = []
    timed: list[tuple[int, Prepared]] = []
    with torch.inference_mode(), quiet():
        for case in cases:
            row, prepared = _checked(case, operands)
            if prepared is not None:
                timed.append((len(rows), prepared))
            rows.append(row)
        load = load_average()
        calls = [prepared.call for _, prepared in timed]
        cold, warm = clock.cold(calls, procedure.rounds), clock.warm(calls, procedure.rounds)
    for (place, _), cold_one, warm_one in zip(timed, cold, warm, strict=True):
        rows[place] |= {
            "feasible": True, **columns_of("cold", cold_one), **columns_of("warm", warm_one),
            "warm_how": warm_one.how, "load_average": load,
            "reason": noise({"cold": cold_one.spread, "warm": warm_one.spread}, procedure.spread),
        }  # fmt: skip
    return refused(rows)


def _checked(case: Case, operands: Operands) -> tuple[dict[str, Any], Prepared | None]:
    """The row so far, and the kernel where its result is right."""
    facts = case.facts()
    if reason := case.kernel.refuses(case.problem):
        return {**facts, "feasible": False, "reason": reason}, None
    try:
        prepared = case.kernel.prepare(case.problem, operands)
        error = reference_error(prepared, prepared.call())
    except (RuntimeError, NotImplementedError) as failure:  # torch's words for what a build cannot do
        return {**facts, "feasible": False, "reason": f"does not run: {one_line(failure)}"}, None
    row = {**facts, "variant": prepared.variant, "error": error}
    return ({**row, **wrong(prepared, error)}, None) if not error <= prepared.tolerance else (row, prepared)


def refused(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a group, the dense one first: a case did not run whose times are noisy cold and warm, its own or the
    dense kernel's."""
    dense = rows[0]["reason"]
    for row in rows:
        if row["feasible"]:
            reason = row["reason"] if row is rows[0] else beside(dense, row["reason"], SITUATIONS)
            row |= {"reason": reason, "feasible": any_steady(reason, SITUATIONS)}
    return rows
