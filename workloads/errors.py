"""The one exception that means: the user can fix this."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what was asked or given. The message is one line: what, where, the numbers, the way out.

    The command line prints it without a traceback and exits with code 2.
    """


class NotForThisModel(UserError):
    """Settings that are sound, but that the shapes of this model cannot take. A study goes on with its other models."""


def one_line(error: Exception) -> str:
    """What an exception says, on one line and at most 300 characters; its kind when it says nothing."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """For a name that does not exist: the nearest known one, and all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"unknown {kind} {name!r}; {hint}known: {', '.join(known)}")
