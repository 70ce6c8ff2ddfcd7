"""From a space to trials: all designs, or those that a sampler chooses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from studies.executors.executor import Here
from studies.progress import ProgressLine
from studies.search.evaluation import Evaluator, Outcome
from studies.search.figures import Constraint, broken
from studies.search.sampling import Sampling, Told
from studies.search.space import Design, Space

AT_A_TIME, MANY = 32, 1024  # designs that are enumerated between two words on how far it is: here, elsewhere


@dataclass(frozen=True)
class Trial:
    """`values`: of every parameter by its name; `repeats`: the number of an earlier trial that is the same design."""

    number: int
    values: Mapping[str, Any]
    design: Design
    outcome: Outcome
    repeats: int | None = None


def enumerated(space: Space, evaluator: Evaluator, progress: ProgressLine) -> list[Trial]:
    """Every design once, in the order of the space."""
    different: dict[Any, tuple[Mapping[str, Any], Design]] = {}
    for values in space.every():
        design = space.design(values)
        different.setdefault(design.key, (values, design))
    every = list(different.values())
    evaluator.prepare([design.choice for _, design in every], progress)
    trials: list[Trial] = []
    count = AT_A_TIME if isinstance(evaluator.executor, Here) else MANY
    for start in range(0, len(every), count):
        part = every[start : start + count]
        progress("trying designs", len(trials), len(every))
        outcomes = evaluator.outcomes([design for _, design in part], progress)
        for (values, design), outcome in zip(part, outcomes, strict=True):
            trials.append(Trial(len(trials), values, design, outcome))
    progress("trying designs", len(trials), len(every))
    progress.close()
    return trials


class Walk:
    """Trials by a sampler. What its journal holds is gone through first, and must be what the designs give."""

    def __init__(
        self, space: Space, evaluator: Evaluator, sampling: Sampling, constraints: Sequence[Constraint],
        progress: ProgressLine,
    ):  # fmt: skip
        self.space = space
        self.evaluator = evaluator
        self.sampling = sampling
        self.constraints = constraints
        self.progress = progress
        self.trials: list[Trial] = []
        self._first: dict[Any, int] = {}

    def go(self, count: int) -> list[Trial]:
        search = self.space.search
        if not self._resumed():
            self.sampling.begin_anew()
            self.trials, self._first = [], {}
        while len(self.trials) < count:
            self.progress("searching", len(self.trials), count)
            self.sampling.tell([self._told(trial) for trial in self._tried(self.sampling.ask(search.batch))])
        self.progress("searching", count, count)
        self.progress.close()
        return self.trials[:count]

    def _resumed(self) -> bool:
        """Whether the journal ends with a whole batch, and every trial in it was told what its design gives."""
        known = self.sampling.trials
        if any(told is None for _, told in known) or len(known) % self.space.search.batch:
            return False
        if any(set(values) != set(self.space.free) for values, _ in known):
            return False
        made = self._tried([values for values, _ in known]) if known else []
        return all(told is not None and self._told(trial).values == told.values
                   for trial, (_, told) in zip(made, known, strict=True))  # fmt: skip

    def _tried(self, drawn: Sequence[Mapping[str, Any]]) -> list[Trial]:
        fixed = self.space.fixed_values
        designs = [self.space.design(fixed | dict(values)) for values in drawn]
        made = []
        for values, design, outcome in zip(
            drawn, designs, self.evaluator.outcomes(designs, self.progress), strict=True
        ):
            number = len(self.trials)
            first = self._first.setdefault(design.key, number)
            made.append(Trial(number, fixed | dict(values), design, outcome, None if first == number else first))
            self.trials.append(made[-1])
        return made

    def _told(self, trial: Trial) -> Told:
        figures = trial.outcome.figures
        if not figures or any(name not in figures for name in self.space.search.objectives):
            return Told(None, {})
        values = tuple(figures[name] for name in self.space.search.objectives)
        return Told(values, {each.text: each.excess(figures[each.figure]) for each in self.constraints})


def meets(trial: Trial, constraints: Sequence[Constraint]) -> bool:
    return bool(trial.outcome.figures) and not broken(constraints, trial.outcome.figures)
