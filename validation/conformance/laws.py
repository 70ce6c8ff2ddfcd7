"""A law, what it is held against, and what came of it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from workloads.plugins import culprit


class Broken(Exception):
    """A law does not hold; the text says what, where, and the numbers."""


class Skipped(Exception):
    """This case says nothing about the law: a layer that does not fit, a target that cannot be asked for."""


@dataclass(frozen=True)
class Law:
    """`check(subject, case)` raises Broken or Skipped. `cases(subject, seed, each)` are what it is checked on: `each`
    random ones by `seed` for every kind there is, or always the same. `applies(subject)` says in words why the law
    cannot be checked at all, "" where it can."""

    name: str
    check: Callable[[Any, Any], None]
    cases: Callable[[Any, int, int], Iterable[Any]]
    each: int = 1
    applies: Callable[[Any], str] = lambda subject: ""

    @property
    def seed(self) -> int:
        return crc32(self.name.encode())

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Result:
    """status: "passed", "FAILED", "not promised" (the design says why), or "not checked" (nothing to check it with)."""

    law: str
    status: str
    detail: str

    @property
    def failed(self) -> bool:
        return self.status == "FAILED"

    def __str__(self) -> str:
        return f"{self.status:<13} {self.law}: {self.detail}"


def hold(law: Law, subject: Any, not_promised: str = "") -> Result:
    """Checks one law on all its cases, up to the first that breaks it."""
    if not_promised:
        return Result(law.name, "not promised", not_promised)
    if why := law.applies(subject):
        return Result(law.name, "not checked", why)
    held = skipped = 0
    reason = ""
    for case in law.cases(subject, law.seed, law.each):
        try:
            law.check(subject, case)
            held += 1
        except Skipped as error:
            skipped, reason = skipped + 1, str(error)
        except Broken as error:
            return Result(law.name, "FAILED", f"{case}: {error}")
        except Exception as error:
            where = culprit(error)
            said = f"raises {type(error).__name__}{f' at {where}' if where else ''}: {' '.join(str(error).split())}"
            return Result(law.name, "FAILED", f"{case}: {said}")
    if not held:
        return Result(law.name, "not checked", f"none of {skipped} cases could run; the last: {reason}")
    counted = "1 case" if held == 1 else f"{held} cases"
    return Result(law.name, "passed", counted + (f", {skipped} could not run" if skipped else ""))


def hold_all(laws: Iterable[Law], subject: Any, not_promised: dict[str, str]) -> Iterator[Result]:
    """Every law in turn, and a failure for each promise taken back that no law stands for."""
    names = set()
    for law in laws:
        names.add(law.name)
        yield hold(law, subject, not_promised.get(law.name, ""))
    for name in not_promised.keys() - names:
        yield Result(name, "FAILED", f"`not_promised` names no law; there are: {', '.join(sorted(names))}")


def same(what: str, found: Any, expected: Any, of: str = "expected") -> None:
    """Raises Broken where two figures differ."""
    if found != expected:
        raise Broken(f"{what} {shown(found)}, {of} {shown(expected)}")


def near(what: str, found: float, expected: float, of: str = "expected", relative: float = 1e-9) -> None:
    if abs(found - expected) > relative * max(abs(found), abs(expected)):
        raise Broken(f"{what} {shown(found)}, {of} {shown(expected)}")


def at_most(what: str, found: float, bound: float, of: str) -> None:
    if found > bound:
        raise Broken(f"{what} {shown(found)}, {of} {shown(bound)}")


def shown(value: Any) -> str:
    return f"{value:,.10g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
