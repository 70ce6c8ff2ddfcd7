"""How a command ends, whatever happens: an exit code, and at most one line on stderr.

0    done
1    our own fault: one line and the path of a log with the traceback; or a law that does not hold (raised by `check`)
2    a mistake in what was asked or given, a library that is not installed, a full disk, too little memory: one line
3    nothing that was asked can run on the design (raised by the verb)
130  Ctrl-C
141  whoever read our output went away (`| head`): nothing is said
"""

import errno
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TextIO

from studies.progress import close_all
from studies.telling import warnings_spelled
from workloads.errors import UserError, library_missing
from workloads.plugins import culprit

OUR_FAULT, USERS_INPUT, INTERRUPTED, NO_READER = 1, 2, 130, 141
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "not enough memory")  # as torch's RuntimeErrors say it
_QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@contextmanager
def ending(arguments: Sequence[str]) -> Iterator[None]:
    """Runs a command. Raises nothing but SystemExit."""
    open_streams()
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            for argument in arguments:
                if "\0" in argument:
                    raise UserError(f"an argument holds a null byte: {argument!r}")
            with warnings_spelled(lambda text: spelled_for(text, arguments)):
                try:
                    yield
                finally:
                    close_all()
            sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as stop:
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, BrokenPipeError):
            raise
        abandon(sys.stdout)  # rich makes a SystemExit of a broken pipe
        abandon(sys.stderr)
        sys.exit(NO_READER)
    except KeyboardInterrupt:
        leave("\ninterrupted; repeat the same command to go on", INTERRUPTED)
    except UserError as error:
        leave(f"prunesim: {spelled_for(flat(error), arguments)}", error.exit_code)
    except MemoryError as error:
        leave(f"prunesim: {memory_text(error)}", USERS_INPUT)
    except OSError as error:
        leave(f"prunesim: {file_text(error)}", USERS_INPUT)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and (missing := library_missing(error)):
            leave(f"prunesim: {missing}", USERS_INPUT)
        if is_out_of_memory(error):
            leave(f"prunesim: {memory_text(error)}", USERS_INPUT)
        where = culprit(error)
        leave(f"prunesim: {fault_text(error, arguments, where)}", USERS_INPUT if where else OUR_FAULT)


def spelled_for(text: str, arguments: Sequence[str]) -> str:
    from studies.cli.spelling import respelled

    return respelled(text, list(arguments))


def open_streams() -> None:
    """Closed standard streams lead to nowhere: else the first file that is opened would take their number, and their
    output. What a terminal's encoding lacks is escaped."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def leave(line: str, code: int) -> None:
    """Says `line` and exits. What is left of the output goes out first, so that the line is the last."""
    try:
        sys.stdout.flush()
    except OSError:
        abandon(sys.stdout)
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except OSError:
        abandon(sys.stderr)
    sys.exit(code)


def abandon(stream: TextIO) -> None:
    """What is still buffered for a stream nobody reads goes nowhere, so that the interpreter's own flush finds no
    fault."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def flat(error: BaseException) -> str:
    return " ".join(str(error).split())


def memory_text(error: Exception) -> str:
    said = flat(error)[:200]
    told = f" ({said})" if said else ""
    return f"out of memory{told}; ask for less (fewer samples, tokens or designs) or use a larger machine"


def file_text(error: OSError) -> str:
    place = error.filename if error.filename is not None else "file system"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{place}: the disk is full; free some space and repeat the command"
    return f"{place}: {error.strerror or flat(error)}"


def is_out_of_memory(error: Exception) -> bool:
    """torch has no type of its own for it on the CPU."""
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _OUT_OF_MEMORY)


def fault_text(error: Exception, arguments: Sequence[str], where: str) -> str:
    """What is said of a fault of the program or, at `where`, of a plugin, with the path of a log that holds the
    traceback."""
    said = f"{where or 'a fault in prunesim, not in your input'}: {type(error).__name__}: {flat(error)[:200]}"
    try:
        return f"{said}; {'the traceback is in' if where else 'please report it with'} {write_log(error, arguments)}"
    except OSError as reason:
        return f"{said}; no log could be written ({reason.strerror or reason})"


def write_log(error: Exception, arguments: Sequence[str]) -> str:
    """The path of a new file in the folder for temporary files."""
    import platform
    import tempfile
    import traceback

    from workloads import __version__

    number, path = tempfile.mkstemp(prefix="prunesim-fault-", suffix=".log")
    with open(number, "w", encoding="utf-8", errors="backslashreplace") as log:
        log.write(f"prunesim {__version__}, Python {platform.python_version()}, {platform.platform()}\n")
        log.write(f"arguments: {list(arguments)!r}\n\n")
        log.write("".join(traceback.format_exception(error)))
    return path
