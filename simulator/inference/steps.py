"""Times of all operations of a prefill, a decode step or a generation on whatever runs them (runner.py).

Operations of one stream follow each other, so a step is their sum and the host's. In a generation only attention's time
changes from step to step: it is evaluated at up to as many contexts as the runner samples (every one where there are
fewer steps), which holds the places where a window fills, and taken as linear between them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simulator.gpu.operators.stack import STACKS, Stack
from simulator.inference.host import added_us
from simulator.inference.runner import Numbers, Runner, Timed
from workloads.counts import Counts
from workloads.decoder.accounting import account, grouped, linear_stretches
from workloads.decoder.dimensions import Decoder
from workloads.operations import DecoderOperation
from workloads.phases import Generation, Phase, decode

GRAPH = STACKS["cuda-graph"]
GROUPS = ("linears", "attention", "head", "elementwise", "experts", "communication", "host")
_OF_ROLE = {
    "attention": "attention", "kv_write": "attention", "head": "head", "experts": "experts", "router": "experts",
    "expert_sum": "experts", "all_reduce": "communication", "norm": "elementwise", "add_norm": "elementwise",
    "add": "elementwise", "rotary": "elementwise", "activation": "elementwise", "embedding": "elementwise",
}  # fmt: skip


@dataclass(frozen=True)
class TimedRow:
    """An operation of a phase: `executions` of it in all blocks and steps, `us` of all of these, what they do together;
    of a decoder on several GPUs those of one. `bound`, `extrapolated`, `assumed` and `unused` as Timed has them,
    where most of the time is spent."""

    operation: DecoderOperation
    phase: str
    executions: int
    us: float
    error_p90: float
    bound: str
    extrapolated: str
    kernel: str
    assumed: str
    counts: Counts
    unused: str = ""

    @property
    def group(self) -> str:
        """One of GROUPS."""
        return _OF_ROLE.get(self.operation.role, "linears")


@dataclass(frozen=True)
class Times:
    """Of prefill and decode, each with its rows; `host_us` by phase, and of how many decode steps."""

    rows: list[TimedRow]
    host_us: dict[str, float]
    steps: int

    def us(self, phase: str = "") -> float:
        """Rows and host, of a phase or of both."""
        own = sum(row.us for row in self.rows if phase in ("", row.phase))
        return own + sum(us for name, us in self.host_us.items() if phase in ("", name))

    def shares(self) -> dict[str, float]:
        """Of the whole time, by GROUPS."""
        whole = self.us()
        found = dict.fromkeys(GROUPS, 0.0)
        for row in self.rows:
            found[row.group] += row.us / whole
        found["host"] += sum(self.host_us.values()) / whole
        return found

    def error_p90(self) -> float:
        """Of the sum: rows of one group are off together, groups independently of each other; the host's is not
        known and counts for none."""
        by_group: dict[str, float] = {}
        for row in self.rows:
            by_group[row.group] = by_group.get(row.group, 0.0) + row.us * row.error_p90
        return math.hypot(*by_group.values()) / self.us() if by_group else 0.0

    def unused(self) -> list[str]:
        """Why masks gain nothing, each once."""
        return list(dict.fromkeys(row.unused for row in self.rows if row.unused))

    def bound(self) -> str:
        """What most of the time goes to: a row's bound, communication or the host."""
        spent: dict[str, float] = {"host": sum(self.host_us.values())}
        for row in self.rows:
            name = row.group if row.group == "communication" else row.bound
            spent[name] = spent.get(name, 0.0) + row.us
        return max(spent, key=lambda name: spent[name])


def times_of(
    runner: Runner, decoder: Decoder, work: Phase | Generation, numbers: Numbers, stack: Stack = GRAPH
) -> Times:
    """Raises UserError for what the runner cannot run."""
    runner = runner.under(stack)
    phases = [work] if isinstance(work, Phase) else [work.prefill]
    rows = _rows(runner, decoder, phases, np.ones(1), numbers)
    executions = sum(number for _, number in grouped(decoder, runner.fusion))
    added: dict[str, float] = {phases[0].name: added_us(stack, sum(row.us for row in rows), executions)}
    if isinstance(work, Phase) or not work.contexts:
        return Times(rows, added, int(phases[0].name == "decode"))
    contexts, weights = sampled(decoder, work.contexts, runner.samples)
    steps = [decode(work.batch, context) for context in contexts]
    more = _rows(runner, decoder, steps, weights, numbers, work)
    count = len(work.contexts)
    added["decode"] = count * added_us(stack, sum(row.us for row in more) / count, executions)
    return Times([*rows, *more], added, count)


def sampled(decoder: Decoder, contexts: range, samples: int) -> tuple[list[int], np.ndarray]:
    """Contexts, and weights with which a function that is linear between them sums up over all of `contexts`."""
    wanted = {context for stretch in linear_stretches(decoder, contexts) for context in (stretch[0], stretch[-1])}
    wanted |= {round(place) for place in np.linspace(contexts[0], contexts[-1], samples)}
    if len(contexts) <= samples:
        wanted = set(contexts)
    chosen = sorted(wanted)
    every = np.arange(contexts.start, contexts.stop)
    right = np.searchsorted(chosen, every)
    left = np.maximum(right - 1, 0)
    below, above = np.asarray(chosen)[left], np.asarray(chosen)[right]
    share = np.where(above > below, (every - below) / np.maximum(above - below, 1), 1.0)
    weights = np.bincount(right, share, len(chosen)) + np.bincount(left, 1 - share, len(chosen))
    return chosen, weights


def _rows(
    runner: Runner, decoder: Decoder, phases: Sequence[Phase], weights: np.ndarray, numbers: Numbers,
    work: Generation | None = None,
) -> list[TimedRow]:  # fmt: skip
    """One for each kind of operation; `weights`: how often a phase is run."""
    counted = account(decoder, work if work is not None else phases[0], numbers.elements, runner.fusion)
    counts = {row.operation: row.total for row in counted if row.phase == phases[0].name}
    steps = float(weights.sum())
    rows = []
    for operation, number in grouped(decoder, runner.fusion):
        found = _timed(runner, operation, phases, numbers)
        spent = found.us * weights * number
        if found.counts is None:
            own = counts[operation]
            own = replace(own, bytes_weight=own.bytes_weight * found.weight_share)
        else:
            own = sum(
                (one * (float(weight) * number) for one, weight in zip(found.counts, weights, strict=True)), Counts()
            )
        rows.append(_row(operation, phases[0].name, round(number * steps), spent, found, own))
    return rows


def _timed(runner: Runner, operation: DecoderOperation, phases: Sequence[Phase], numbers: Numbers) -> Timed:
    """Once for all models of a runner; and for all steps, where it does not see the context."""
    first = phases[0]
    contexts = tuple(phase.context for phase in phases) if operation.sees_context else ()
    key = operation, first.name, first.batch, first.new, contexts, numbers
    if key not in runner.memo:
        runner.memo[key] = runner.time_of(operation, phases if contexts else [first], numbers)
    return runner.memo[key] if contexts else runner.memo[key].of_each(len(phases))


def _row(
    operation: DecoderOperation, phase: str, executions: int, spent: np.ndarray, found: Timed, counts: Counts
) -> TimedRow:
    most = int(np.argmax(spent))
    extrapolated = next((str(text) for text in found.extrapolated if text), "")
    values: dict[str, Any] = {"error_p90": float(found.error_p90.max()), "bound": str(found.bound[most])}
    return TimedRow(
        operation, phase, executions, float(spent.sum()), extrapolated=extrapolated, kernel=found.kernel,
        assumed=found.assumed, counts=counts, unused=found.unused, **values,
    )  # fmt: skip
