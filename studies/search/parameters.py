"""A key with the values that a search may give it: a list, a range of a sweep, or whatever lies between two ends."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from simulator.machine.spec import parse_override
from studies.ranges import spread
from workloads.arguments import shown
from workloads.errors import UserError, unknown
from workloads.files import canonical_json

ENDS = ("from", "to", "log")
DIGITS = 6  # that a number between two ends has


@dataclass(frozen=True)
class Choices:
    """`values`: one or more, each as JSON has it."""

    key: str
    values: tuple[Any, ...]

    @property
    def ordered(self) -> bool:
        """Numbers, the smallest first: a sampler may take neighbours for alike."""
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values)
        return numbers and list(self.values) == sorted(self.values)

    @property
    def count(self) -> int | None:
        return len(self.values)

    @property
    def text(self) -> str:
        return canonical_json([self.key, list(self.values)])


@dataclass(frozen=True)
class Between:
    """Numbers from `low` to `high`; `whole`: whole ones. `log`: as likely below their geometric mean as above."""

    key: str
    low: float
    high: float
    log: bool
    whole: bool

    @property
    def count(self) -> int | None:
        return int(self.high - self.low) + 1 if self.whole else None

    @property
    def values(self) -> tuple[Any, ...]:
        """The ends, which stand for all."""
        return (self.low, self.high)

    @property
    def text(self) -> str:
        return canonical_json([self.key, self.low, self.high, self.log, self.whole])

    def rounded(self, value: float) -> float:
        """With as many digits as a person would write, within the ends."""
        return int(value) if self.whole else min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


Parameter = Choices | Between


def parse_parameters(table: Mapping[str, Any], where: str) -> list[Parameter]:
    """Of [search.machine] or [search.pruning]. Raises UserError in one line for a key with nothing to choose from."""
    found = [_parsed(key, value, where) for key, value in _keys(table)]
    keys = [parameter.key for parameter in found]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise UserError(f"[{where}] gives {twice} twice; leave one out")
    return found


def _keys(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys; a table with `from` or `to` is a value."""
    for key, value in table.items():
        if isinstance(value, Mapping) and not {"from", "to"} & set(value):
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _parsed(key: str, value: Any, where: str) -> Parameter:
    try:
        if isinstance(value, Mapping):
            return _between(key, value)
        if isinstance(value, str):
            value = [parse_override(f"{key}={each}")[1] for each in spread(value)]
        values = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not values:
            raise UserError("is empty; give at least one value")
        texts = [canonical_json(each) for each in values]
        if twice := next((text for text in texts if texts.count(text) > 1), None):
            raise UserError(f"names {twice} twice")
        return Choices(key, values)
    except UserError as error:
        raise UserError(f"[{where}] {key} {error}") from None


def _between(key: str, ends: Mapping[str, Any]) -> Between:
    for name in ends:
        if name not in ENDS:
            raise unknown("key", name, ENDS)
    for name in ("from", "to"):
        value = ends.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            said = "is missing" if value is None else f"= {shown(value)} is no number"
            raise UserError(f"`{name}` {said}; write {{ from = 8, to = 64 }}")
    if not isinstance(log := ends.get("log", False), bool):
        raise UserError(f"`log` = {shown(log)}: expected true or false")
    low, high = ends["from"], ends["to"]
    if low >= high:
        raise UserError(f"goes from {low} to {high}, which holds nothing to choose from; `from` is the smaller end")
    if log and low <= 0:
        raise UserError(
            f"goes from {low} in logarithms, which zero and less have none of; begin above 0, or leave `log` out"
        )
    return Between(key, low, high, log, isinstance(low, int) and isinstance(high, int))
