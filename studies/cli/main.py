"""The `prunesim` command: one file a verb, imported when it runs."""

import gc
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

from studies.cli.apart import check_apart
from studies.cli.ending import ending
from studies.cli.numba_start import without_blas_note
from studies.cli.verbs import VERBS, function_of
from workloads.errors import UserError
from workloads.threads import worker_count

if TYPE_CHECKING:
    from cyclopts import App


def make_app(verbs: dict[str, str]) -> "App":
    """Only the verb that runs is imported."""
    from cyclopts import App

    from workloads import __version__

    app = App(
        name="prunesim",
        version=__version__,
        version_flags=("--version", "-V"),
        help="How much faster does a pruned LLM really get, on which hardware, and what holds it back?",
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
    )
    for verb, text in verbs.items():
        app.command(":".join(function_of(verb)), name=verb, help=text)
    app.register_install_completion_command(
        help="Make the shell complete verbs and options with the tab key (bash, zsh, fish)."
    )
    return app


def spread_sets(arguments: list[str]) -> list[str]:
    """`--set a=1 b=2` means `--set a=1 --set b=2`."""
    spread: list[str] = []
    in_set = False
    for argument in arguments:
        if in_set and spread[-1] != "--set" and "=" in argument and not argument.startswith("-"):
            spread.append("--set")
        else:
            in_set = argument == "--set" or (in_set and spread[-1] == "--set")
        spread.append(argument)
    check_sets(spread)
    return spread


def check_sets(arguments: list[str]) -> None:
    """Raises UserError where `--set` gives one key two values."""
    seen: set[str] = set()
    for option, text in pairwise(arguments):
        key = text.partition("=")[0].strip()
        if option == "--set" and key in seen:
            raise UserError(f"--set gives {key} twice, the second time as {text!r}; leave one out")
        seen.update({key} if option == "--set" else ())


def main(arguments: list[str] | None = None) -> None:
    gc.set_threshold(50_000)  # else a fifth of a short command goes to looking through modules for garbage
    without_blas_note()
    with ending(sys.argv[1:] if arguments is None else arguments):
        run(spread_sets(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("--help", "-h"):
        print_overview()
        return
    check_apart(arguments)
    worker_count()  # a wish that is no number is told before anything starts
    from cyclopts import CycloptsError, UnusedCliTokensError

    try:
        make_app(VERBS)(arguments, exit_on_error=False, print_error=False)
    except UnusedCliTokensError as error:
        raise UserError(f"too much is given: {' '.join(error.unused_tokens or ())!r}; see --help") from None
    except CycloptsError as error:
        raise UserError(" ".join(str(error).split())) from None


def print_overview() -> None:
    """The verbs, without importing any of them."""
    width = max(len(verb) for verb in VERBS)
    lines = [f"  {verb:<{width}}  {text}" for verb, text in VERBS.items()]
    print("Usage: prunesim VERB ...   (prunesim VERB --help says more)\n")
    print("How much faster does a pruned LLM really get, on which hardware, and what holds it back?\n")
    print("\n".join(lines))
    print("\n  -V, --version          the version")
    print("  --install-completion   make the shell complete verbs and options with the tab key")
