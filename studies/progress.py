"""What a command says on stderr while it works: how far it is, how fast, and how long it will take yet.

On a terminal a bar that goes when the work is done; elsewhere, as in a log, a line as soon as it is known that the work
takes more than a minute, and then one a minute."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, ClassVar, TypeVar

from studies.telling import tell, warn

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["ProgressLine", "Silent", "close_all", "counted", "warn"]

Item = TypeVar("Item")
EVERY_S = 60.0  # between lines of a log
LONG_S = 60.0  # work that takes no longer is not spoken of in a log
AHEAD_S = 120.0  # so long work may take that is spoken of before it begins
FEW = 30  # steps of a study, each of which has its line
SURE_S = 10.0  # so long a rate is watched before a log hears of it: the first of many may compile
SKIPPED, SKIPPED_S = 10, 2.0  # a call that takes so many times as long as all before it, is the first that works
DRAWN_S = 0.1  # between pictures of a bar


class ProgressLine:
    """Callable (what, done, of); `of` 0: it is not known of how many. `terminal_only`: nothing is said elsewhere, as in
    a notebook or another's program."""

    _open: ClassVar[set["ProgressLine"]] = set()

    def __init__(self, terminal_only: bool = False) -> None:
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
        self._silent = terminal_only and not self._terminal
        self._bar: Progress | None = None
        self._said = monotonic()
        self._stepped: float | None = None
        self._begin("", 0, 0)

    def _begin(self, what: str, done: int, of: int) -> None:
        """A step: counts up to one `of`, whatever the words."""
        self._what, self._done, self._of = what, done, of
        self._first, self._began, self._drawn, self._warned = done, monotonic(), 0.0, False
        self._called = self._began

    def __call__(self, what: str, done: int, of: int) -> None:
        if self._silent:
            return
        if of != self._of or done < self._done or not self._what:
            self._begin(what, done, of)
        now = monotonic()
        if now - self._called > max(SKIPPED * (self._called - self._began), SKIPPED_S):
            self._first, self._began = self._done, self._called  # what was there already took no time
        self._what, self._done, self._called = what, done, now
        if self._terminal:
            self._draw()
        else:
            self._log()

    @property
    def pace(self) -> tuple[float, float] | None:
        """(seconds of one, seconds left) by what was done since the step began; None where nothing was."""
        made, took = self._done - self._first, monotonic() - self._began
        return (took / made, took / made * (self._of - self._done)) if made > 0 and self._of else None

    def _text(self) -> str:
        count = f"{self._done:,}/{self._of:,}" if self._of else f"{self._done:,}" if self._done else ""
        pace = self.pace
        parts = [count, *([] if pace is None else [rate_text(pace[0]), f"{duration(pace[1])} left"])]
        return f"{self._what}: {', '.join(part for part in parts if part)}".removesuffix(": ")

    def _log(self) -> None:
        now, pace = monotonic(), self.pace
        if pace is not None and not self._warned and now - self._began >= SURE_S:
            self._warned = first = pace[1] >= LONG_S
        else:
            first = False
        if first or now - self._said >= EVERY_S:
            self._said = now
            tell(self._text())

    def _draw(self) -> None:
        now = monotonic()
        if self._bar is not None and now - self._drawn < DRAWN_S and self._done < self._of:
            return
        self._drawn = now
        if self._bar is None:
            self._bar = _bar()
            self._bar.add_task(self._text(), total=self._of or None)
            self._bar.start()
            ProgressLine._open.add(self)
        total = self._of or None
        self._bar.update(self._bar.task_ids[0], description=self._text(), completed=self._done, total=total)
        self._bar.refresh()

    def step(self, number: int, of: int, title: str) -> None:
        """A line that stays, for each step of a few; of many one a minute in a log."""
        self.close()
        if of > FEW and not self._terminal and self._stepped is not None and monotonic() - self._stepped < EVERY_S:
            return
        self._stepped = monotonic()
        tell(f"[{number}/{of}] {title}")

    def close(self) -> None:
        """The step is over; what is written next begins a line."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            ProgressLine._open.discard(self)
        self._begin("", 0, 0)


class Silent(ProgressLine):
    """Of work in another process, whose lines would run into each other."""

    def __call__(self, what: str, done: int, of: int) -> None:
        pass


def counted(items: Iterable[Item], what: str, of: int, progress: ProgressLine) -> Iterator[Item]:
    """`items`, each told of when it is taken."""
    number = 0
    for number, item in enumerate(items, start=1):
        progress(what, number - 1, of)
        yield item
    progress(what, number, of)
    progress.close()


def close_all() -> None:
    """However a command ends, no bar is left behind."""
    for line in list(ProgressLine._open):
        with suppress(OSError):
            line.close()


def tell_long(least_s: float, most_s: float, why: str) -> None:
    """Before work begins that may take minutes; of shorter work nothing is said."""
    if most_s >= AHEAD_S:
        tell(f"this will take {duration(least_s)} to {duration(most_s)}: {why}; stopped and repeated, it goes on")


def rate_text(seconds: float) -> str:
    """Of one: as so many a second, or seconds for each."""
    if seconds < 1:
        return f"{1 / max(seconds, 1e-9):,.{0 if seconds < 0.1 else 1}f}/s"
    return f"{seconds:.1f} s each" if seconds < 10 else f"{duration(seconds)} each"


def duration(seconds: float) -> str:
    """As a person says it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes < 48 * 60 else f"{minutes / 60 / 24:.1f} days"


def _bar() -> "Progress":
    """No thread draws it, so that measured work runs alone; NO_COLOR takes its colours away."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    console = Console(stderr=True, no_color=True if os.environ.get("NO_COLOR") else None)
    columns = (
        BarColumn(bar_width=20),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
    )
    return Progress(*columns, console=console, transient=True, auto_refresh=False, redirect_stdout=False)
