"""The index of the validation pages: what is and is not validated, against what, and how far off."""

from collections.abc import Sequence
from dataclasses import dataclass

from validation.comparison import Comparison, Found, Kind, NotRun, percent, table
from validation.subjects import subjects
from validation.text import lines

KINDS: dict[Kind, str] = {
    "own rule": "the design's rules as this project reads them, written a second time: a closed form, a slow program "
    "that moves integers, or a law. Zero is what has to come out. It shows that the model does what its documentation "
    "says, and nothing about whether a chip does.",
    "statistics": "the same rules on one random mask, beside the arithmetic of binomials, at full size and with the "
    "preset. Errors should be of the size of the standard error; again it tests the program, not the rules.",
    "program": "another group's program, or its log.",
    "paper": "figures that papers and vendors published: what evidence there is from outside, mostly averages over "
    "workloads that are not at hand.",
    "silicon": "times measured on real cards.",
}
MISSED = 0.1  # from this error on a published figure is listed as missed


@dataclass(frozen=True)
class Column:
    head: str
    kinds: tuple[Kind, ...]


COLUMNS = (
    Column("own rules, a second time", ("own rule",)),
    Column("binomials, full size", ("statistics",)),
    Column("other programs", ("program",)),
    Column("published figures", ("paper",)),
    Column("silicon", ("silicon",)),
)


def index(found: Sequence[Found], command: str, provenance: Sequence[str]) -> str:
    return "\n".join([*head(command), *matrix(found), *missed(found), *limits(), *provenance]).rstrip() + "\n"


def head(command: str) -> list[str]:
    return [
        "# Validation",
        "",
        f"Written by `{command}`, one page a model: figures of the models are from that run, figures of papers are "
        "quoted. An error is model / source - 1; a case that compares several counts has its worst one. What agreement "
        "is worth:",
        "",
        *(f"* **{kind}**: {meaning}" for kind, meaning in KINDS.items()),
        "",
        "## What is validated",
        "",
        'Median and largest error over the cases of each kind; "-": nothing of that kind was held against the model.',
        "",
    ]


def matrix(found: Sequence[Found]) -> list[str]:
    rows = []
    for subject in subjects():
        of_model = [each for each in found if each.model == subject.name]
        cells = [cell([each for each in of_model if each.kind in column.kinds]) for column in COLUMNS]
        rows.append((f"[{subject.name}]({subject.file})", *cells))
    return [*lines(table(("model", *(column.head for column in COLUMNS)), rows)), ""]


def cell(found: Sequence[Found]) -> str:
    """ "0 / 0.90 %, 84 cases"."""
    errors = [error for each in found if isinstance(each, Comparison) for error in each.errors]
    if errors:
        whole = Comparison("", "", "paper", tuple(errors), "")
        cases = "1 case" if whole.cases == 1 else f"{whole.cases:,} cases"
        return f"{percent(whole.median_error)} / {percent(whole.largest_error)}, {cases}"
    if any(isinstance(each, NotRun) for each in found):
        return "not run here"
    return "none alike" if found else "-"


def missed(found: Sequence[Found]) -> list[str]:
    order = [subject.name for subject in subjects()]
    points = [
        (each.model, p) for each in found if isinstance(each, Comparison) for p in each.points if abs(p.error) >= MISSED
    ]
    points.sort(key=lambda item: (order.index(item[0]), -abs(item[1].error)))
    rows = [(name, p.what, p.source, p.model, percent(p.error, sign=True)) for name, p in points]
    none = [(each.model, each.source) for each in found if isinstance(each, Comparison) and not each.cases]
    listed = "; ".join(f"{name}: {source}" for name, source in none)
    return [
        "## Figures that are missed",
        "",
        f"Published figures, or another program's, that the models are {percent(MISSED)} or more away from; the pages "
        f"say why.",
        "",
        *lines(table(("model", "figure", "source", "ours", "error"), rows)),
        "",
        f"And claims against which no case could be made, as what was run is not known or not modelled: {listed}."
        if none
        else "",
        "",
    ]


def limits() -> list[str]:
    rows = [
        (
            "RTL",
            "The arrays of vitcod, systolic, stc, vegeta, sparten, eie, sigma, bitwave and stripes, in SystemVerilog "
            "of ours and small: [rtl.md](rtl.md). No RTL of another group: STONNE was not run; the packing and "
            "distribution of its SIGMA-like controller are written a second time as the twin of sigma.",
        ),
        (
            "silicon",
            "Only times of GPUs, of GEMMs and of a decoder's operators, and those of 2:4 under stc; no accelerator, no "
            "energy was measured on a chip.",
        ),
        (
            "memory of the sparse designs",
            "Their papers mostly leave it out, so buffer sizes, tiling and bandwidth are ours. The tests hold the walk "
            "of tiles to a slow clock and every byte to the format, not the choice of tiles to any chip.",
        ),
        (
            "trained masks",
            "Expectations are of random ones. Real masks have uneven rows and columns, which is what the models are "
            "for, and which no closed form covers; there the functional twins, on small layers, are all there is.",
        ),
        ("sparse activations", "Statistical in every design that has them, never real feature maps."),
        (
            "control",
            "Instruction issue, decoders, permutation networks, bank conflicts take no cycles except where a page says "
            "so, which favours the sparse designs.",
        ),
        (
            "accuracy of pruned models",
            "Held against no publication; [quality.md](../quality.md) has what small models gave.",
        ),
    ]
    return ["## What is not validated", "", *lines(table(("what", "how far that goes"), rows)), ""]
