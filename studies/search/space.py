"""All designs that a search may try: every parameter with its values."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.targets import find_target
from studies.entries import overrides
from studies.search.choices import Choice, PruningChoices, check_keys
from studies.search.parameters import Choices, Parameter, parse_parameters
from studies.search.settings import StudySearch
from workloads.errors import UserError
from workloads.files import canonical_json
from workloads.targets import Target

PRUNING = "pruning."  # in front of the names of its parameters
MOST_TRIED = 200  # other settings that a value is tried with before it is refused
Values = Mapping[str, Any]  # by the name of the parameter


@dataclass(frozen=True)
class Design:
    """`settings` are "key=value" of the machine, `choice` is how the model is pruned."""

    settings: tuple[str, ...]
    choice: Choice

    @property
    def key(self) -> tuple[tuple[str, ...], int]:
        """Of a design of one search."""
        return self.settings, id(self.choice)


class Space:
    """Raises UserError for parameters that cannot be."""

    def __init__(self, search: StudySearch, beside: Path):
        self.search = search
        self.machine = parse_parameters(search.machine, "search.machine")
        self.pruning = parse_parameters(search.pruning, "search.pruning")
        check_keys(self.pruning)
        self.fixed = tuple(overrides(search.set))
        self.choices = PruningChoices(beside)

    @property
    def parameters(self) -> dict[str, Parameter]:
        """By name, those of one value among them."""
        named = {parameter.key: parameter for parameter in self.machine}
        return named | {f"{PRUNING}{parameter.key}": parameter for parameter in self.pruning}

    @property
    def free(self) -> dict[str, Parameter]:
        """Those with something to choose."""
        return {name: each for name, each in self.parameters.items() if each.count != 1}

    @property
    def fixed_values(self) -> dict[str, Any]:
        return {name: each.values[0] for name, each in self.parameters.items() if each.count == 1}

    @property
    def count(self) -> int | None:
        """Combinations of values; None where they have no number."""
        counts = [parameter.count for parameter in self.parameters.values()]
        return None if None in counts else math.prod(counts)  # type: ignore[arg-type]

    def every(self) -> Iterator[Values]:
        """All combinations, those of pruning outermost; whole numbers between two ends are all of them."""
        ordered = [*((f"{PRUNING}{each.key}", each) for each in self.pruning), *((p.key, p) for p in self.machine)]
        lists = [each.values if isinstance(each, Choices) else range(int(each.low), int(each.high) + 1)
                 for _, each in ordered]  # fmt: skip
        for values in itertools.product(*lists):
            yield dict(zip((name for name, _ in ordered), values, strict=True))

    def design(self, values: Values) -> Design:
        """What these values stand for."""
        settings = [setting(each.key, values[each.key]) for each in self.machine]
        choice = self.choices.of({each.key: values[f"{PRUNING}{each.key}"] for each in self.pruning})
        return Design((*self.fixed, *settings), choice)

    def check(self) -> Target:
        """The machine that designs start from. Raises UserError for a key that it has not, for a value that none of the
        designs tried with it takes, and where no choice of pruning can be."""
        base = find_target(self.search.on, self.fixed, self.search.dtype)
        fixed_keys = {text.partition("=")[0] for text in self.fixed}
        for parameter in self.machine:
            if parameter.key in fixed_keys:
                raise UserError(f"{parameter.key} is both in `set` and in [search.machine]; leave one out")
            for value in parameter.values:
                self._check_value(parameter, value)
        self._check_choices()
        return base

    def _check_value(self, parameter: Parameter, value: Any) -> None:
        others = [each for each in self.machine if each is not parameter]
        combined = itertools.islice(itertools.product(*(each.values for each in others)), MOST_TRIED)
        alone = [setting(parameter.key, value)]
        first: UserError | None = None
        for settings in itertools.chain(
            [alone],
            ([*(setting(o.key, v) for o, v in zip(others, values, strict=True)), *alone] for values in combined),
        ):
            try:
                find_target(self.search.on, [*self.fixed, *settings], self.search.dtype)
                return
            except UserError as error:
                first = first or error
        raise UserError(f"[search.machine] {first}")

    def _check_choices(self) -> None:
        """Every value must be in a choice that can be."""
        lists = [parameter.values for parameter in self.pruning]
        keys = [parameter.key for parameter in self.pruning]
        alive: set[tuple[str, str]] = set()
        reasons: dict[tuple[str, str], str] = {}
        for values in itertools.product(*lists):
            choice = self.choices.of(dict(zip(keys, values, strict=True)))
            for key, value in zip(keys, values, strict=True):
                place = key, canonical_json(value)
                if choice.method is not None:
                    alive.add(place)
                else:
                    reasons.setdefault(place, choice.reason)
        for place, reason in reasons.items():
            if not alive:
                raise UserError(f"[search.pruning] {reason}")
            if place not in alive:
                raise UserError(f"[search.pruning] {place[0]} = {place[1]}: {reason}")


def setting(key: str, value: Any) -> str:
    """ "key=value" as machines take it."""
    return f"{key}={canonical_json(value)}"
