"""The one exception that means: the user can fix this."""

import difflib
import re
from collections.abc import Iterable

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"'(*])")
_UNSAFE = re.compile(
    r"trust[_-]remote[_-]code|weights[_-]only|allow[_-]pickle|safe_globals|unsafe|(arbitrary|custom|remote) code",
    re.IGNORECASE,
)


MOST_MEANT = 6  # names that a hint gives
MOST_KNOWN = 30  # names that are listed behind a hint


class UserError(Exception):
    """A mistake in what was asked or given. The message is one line: what, where, the numbers, the way out.

    The command line prints it without a traceback and exits with `exit_code`.
    """

    exit_code = 2


class NotForThisModel(UserError):
    """Settings that are sound, but that the shapes of this model cannot take. A study goes on with its other models."""


class NothingRan(UserError):
    """All that was asked for is infeasible; the rows that say why are written."""

    exit_code = 3


def unwritten(own: object, *names: str) -> UserError:
    """For a function, or one of several, that a class of a user's own must have and has not."""
    missing = " and no ".join(f"`{name}()`" for name in names)
    return UserError(f"{type(own).__name__} has no {missing}, which this needs; write it")


def one_line(error: Exception | str) -> str:
    """What a foreign exception says, on one line and at most 300 characters, cut between words; its kind when it says
    nothing.

    Sentences that advise to run foreign code or to load a file unsafely are left out: nobody shall follow them.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # without the number and the path, which whoever asks names
    if isinstance(error, UnicodeDecodeError):
        return f"it is no text in {error.encoding.upper()}, from byte {error.start} on"
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
    said = " ".join(sentence for sentence in _SENTENCE_END.split(text) if not _UNSAFE.search(sentence)).rstrip(" .;,:")
    return shorten(said, 300) or type(error).__name__


def shorten(text: str, length: int) -> str:
    """`text`, or as many of its whole words as fit into `length` characters with a mark that some are missing."""
    if len(text) <= length:
        return text
    head = text[: length - 3]
    whole = head if text[length - 3] == " " else head.rpartition(" ")[0]
    return (whole or head).rstrip(" ;,:") + " ..."


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """For a name that does not exist: the nearest known ones, and all of them unless that would bury the hint."""
    known = list(known)
    hint = meant(name, known)
    if hint and len(known) > MOST_KNOWN:
        return UserError(f"unknown {kind} {name!r}; {hint}there are {len(known)}")
    return UserError(f"unknown {kind} {name!r}; {hint}known: {', '.join(known)}")


def meant(name: str, known: Iterable[str]) -> str:
    """ "did you mean 'h100-pcie' or 'h100-sxm'? ", "" where nothing is near: names that are it but for the case, begin
    with it, hold it, or look like it."""
    by_lower = {each.lower(): each for each in known}
    text = name.lower()
    near = [by_lower[text]] if text in by_lower else []
    if not near and len(text) > 1:
        begun = [each for lower, each in by_lower.items() if lower.startswith(text)]
        begun = begun or [each for lower, each in by_lower.items() if text in lower]
        near = begun if len(begun) <= MOST_MEANT else []
    if not near:
        near = [by_lower[each] for each in difflib.get_close_matches(text, by_lower, n=1)]
    return f"did you mean {' or '.join(map(repr, near))}? " if near else ""


# Libraries of the extra `torch`, by the name they are imported by. The other extras say so where they are asked for.
_OF_EXTRA_TORCH = ("huggingface_hub", "prodigyopt", "tokenizers", "torch", "transformers")


def library_missing(error: ModuleNotFoundError) -> UserError | None:
    """What a failed import means, where it is one of a library that the installation may leave out."""
    library = (error.name or "").partition(".")[0]
    if library not in _OF_EXTRA_TORCH:
        return None
    return UserError(f"this needs {library}, which is not installed: pip install 'prunesim[torch]'")
