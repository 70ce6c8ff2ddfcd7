"""Lines on stderr beside results: warnings in the words of whoever asked, and none of a kind more than once."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_NAMED = re.compile(r"\S*\d\S*")  # a word with a digit: what tells warnings of one kind apart


@dataclass
class _Kind:
    """Warnings that differ in names and numbers alone: how many came after the first, and the last of them."""

    more: int = 0
    last: str = ""


class _Telling:
    """Of one command: how settings are spelled, and what was warned of."""

    def __init__(self, spelled: Callable[[str], str]) -> None:
        self.spelled = spelled
        self.kinds: dict[str, _Kind] = {}
        self.process = os.getpid()


_telling: _Telling | None = None


@contextmanager
def warnings_spelled(spelled: Callable[[str], str] | None = None) -> Iterator[None]:
    """What is warned of within is said in the words of whoever asked: the command line has its own for settings. Of a
    kind the first is said at once, and how many more there were at the end. Without words of its own it is part of what
    it is within."""
    global _telling
    if spelled is None and _now() is not None:
        yield
        return
    before, _telling = _telling, _Telling(spelled or str)
    try:
        yield
    finally:
        told, _telling = _telling, before
        for kind in told.kinds.values():
            if kind.more:
                more = f"{kind.more:,} more like it, the last" if kind.more > 1 else "one more like it"
                tell(f"warning: {more}: {kind.last}")


def _now() -> _Telling | None:
    """None in a process that inherited another's."""
    return _telling if _telling is not None and _telling.process == os.getpid() else None


def warn(message: str) -> None:
    """One line, whatever the names in it hold."""
    telling = _now()
    if telling is None:
        tell(f"warning: {' '.join(message.split())}")
        return
    line = " ".join(telling.spelled(message).split())
    kind = telling.kinds.get(_NAMED.sub("#", line))
    if kind is None:
        telling.kinds[_NAMED.sub("#", line)] = _Kind()
        tell(f"warning: {line}")
    else:
        kind.more, kind.last = kind.more + 1, line


def tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
