"""Progress on stderr: one rewritten line on a terminal, one line per tenth elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class ProgressLine:
    """Callable (what, done, of). `terminal_only`: nothing is said elsewhere, as in a notebook or another's program."""

    def __init__(self, terminal_only: bool = False) -> None:
        self._terminal = sys.stderr.isatty()
        self._silent = terminal_only and not self._terminal
        self._shown: tuple[str, int] | None = None

    def __call__(self, what: str, done: int, of: int) -> None:
        step = (what, done if self._terminal else done * 10 // max(of, 1))
        if step == self._shown or self._silent:
            return
        self._shown = step
        end = "" if self._terminal else "\n"
        start = "\r\x1b[K" if self._terminal else ""
        count = f"{done}/{of}" if of else f"{done}"
        sys.stderr.write(f"{start}{what}: {count}{end}")
        sys.stderr.flush()

    def close(self) -> None:
        if self._terminal and self._shown:
            sys.stderr.write("\r\x1b[K")
        self._shown = None


class Silent(ProgressLine):
    """Of work in another process, whose lines would run into each other."""

    def __call__(self, what: str, done: int, of: int) -> None:
        pass


_spelled: Callable[[str], str] = str


@contextmanager
def warnings_spelled(spelled: Callable[[str], str]) -> Iterator[None]:
    """What is warned of within is said in the words of whoever asked: the command line has its own for settings."""
    global _spelled
    before, _spelled = _spelled, spelled
    try:
        yield
    finally:
        _spelled = before


def warn(message: str) -> None:
    """One line, whatever the names in it hold."""
    sys.stderr.write(f"warning: {' '.join(_spelled(message).split())}\n")
