"""A file that a command reads is never the one that it writes."""

from collections.abc import Iterator
from pathlib import Path

from workloads.errors import UserError

WRITTEN = ("--out", "--trace")


def check_apart(arguments: list[str]) -> None:
    """Raises UserError where a file to write is one that is given to be read."""
    told = list(_values(arguments))
    for place, (option, text) in enumerate(told):
        if option not in WRITTEN or not Path(text).is_file():
            continue
        for number, (_, other) in enumerate(told):
            if number != place and _is_same(other, text):
                raise UserError(f"{option} {text} would overwrite the input {other}; give another file")


def _values(arguments: list[str]) -> Iterator[tuple[str, str]]:
    """(option that stands before it or "", text) of everything that may be a path."""
    option = ""
    for argument in arguments:
        if argument.startswith("--"):
            option, separator, text = argument.partition("=")
            if separator:
                yield option, text
                option = ""
        else:
            yield option, argument
            option = ""


def _is_same(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except (OSError, ValueError):  # not there, or no path at all
        return False
