"""The validation pages: an index, and one page a model."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from validation.comparison import Found, NotRun, Table, percent, table
from validation.index_page import index
from validation.subjects import Subject, subjects
from validation.text import count, lines
from workloads import __version__

INDEX = "index.md"
COMMAND = "prunesim check --all --data DATA"


def pages(found: Sequence[Found]) -> dict[str, str]:
    """The text of every file."""
    command = COMMAND + (" --without scalesim" if left_out(found) else "")
    made = {INDEX: index(found, command, provenance(found))}
    for subject in subjects():
        made[subject.file] = page(subject, [each for each in found if each.model == subject.name])
    return made


def write(found: Sequence[Found], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in pages(found).items():
        written.append(folder / name)
        written[-1].write_text(text, encoding="utf-8")
    return written


def page(subject: Subject, found: Sequence[Found]) -> str:
    parts = [f"# Validation: {subject.name}", "", subject.about, ""]
    parts += ["Known deviations:", "", *(f"* {note}" for note in subject.deviations), ""]
    parts += [
        *lines(summary(found)),
        "",
        "What the kinds are worth, and what was not validated: [index.md](index.md).",
        "",
    ]
    for each in found:
        parts += section(each)
    return "\n".join(parts).rstrip() + "\n"


def summary(found: Sequence[Found]) -> Table:
    rows = []
    for each in found:
        if isinstance(each, NotRun):
            rows.append((each.source, each.kind, "not run here", "-", "-"))
        elif not each.cases:
            rows.append((each.source, each.kind, "none alike", "-", "-"))
        else:
            errors = percent(each.median_error), percent(each.largest_error)
            rows.append((each.source, each.kind, str(each.cases), *errors))
    return table(("compared with", "kind", "cases", "median error", "largest error"), rows)


def section(each: Found) -> list[str]:
    parts = [f"## {each.source[0].upper()}{each.source[1:]}", ""]
    if isinstance(each, NotRun):
        return [*parts, f"Not run here: {each.reason}", ""]
    if each.cases:
        errors = f"median error {percent(each.median_error)}, largest {percent(each.largest_error)}"
        parts += [f"{count(each.cases)} ({each.kind}), {errors}.", ""]
    else:
        parts += [f"No case is of the same quantity ({each.kind}); the figures are side by side for their size.", ""]
    if each.says:
        parts += [each.says, ""]
    for one in each.tables:
        parts += [*lines(one), ""]
    return parts


def left_out(found: Sequence[Found]) -> bool:
    return any("left out by `without`" in each.reason for each in found if isinstance(each, NotRun))


def provenance(found: Sequence[Found]) -> list[str]:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "scipy"))
    absent = sorted({each.source for each in found if isinstance(each, NotRun)})
    return [
        "## Provenance",
        "",
        f"prunesim {__version__}; Python {platform.python_version()}, {libraries}. Masks and weights are drawn from "
        "fixed seeds, so that the same versions write the same pages, where the data are at hand: SCALE-Sim is "
        "installed from the net, and the masks and the log of ViTCoD (GATECH-EIC/ViTCoD, Hardware/Simulator) do not "
        "ship: `--data` is a folder with them in vitcod/. What is absent is said not to be run."
        + (f" Not run here: {'; '.join(absent)}." if absent else ""),
        "",
        "The twins are in validation/twins, the comparisons in validation/comparisons, the laws in "
        "validation/conformance; the test suite runs the same twins and laws on other random cases.",
        "",
    ]
