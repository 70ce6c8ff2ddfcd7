"""The page: one summary, what is missed, and a section for every model."""

import platform
from collections.abc import Sequence
from importlib.metadata import version

from simulator.accelerators import ACCELERATORS
from simulator.accelerators.vitcod.attention import ATTENTION_MODELS
from validation.comparison import Comparison, NotRun, Table, percent, table
from workloads import __version__

Found = Comparison | NotRun
COMMAND = "python benchmarks/validate.py"
KINDS = {
    "own rule": "the design's rules as this project reads them, written a second time: a closed form, or a slow "
    "program that moves integers. Zero is what has to come out. It shows that the model does what its documentation says, and "
    "nothing about whether a chip does.",
    "statistics": "the same rules on one random mask, beside the arithmetic of binomials, at full size and with the "
    "preset. "
    "Errors should be of the size of the standard error; again it tests the program, not the rules.",
    "program": "another group's program, or its log.",
    "paper": "figures that papers and vendors published: what evidence there is from outside, mostly averages over "
    "workloads that are not at hand.",
}
MISSED = 0.1  # from this error on a published figure is listed as missed
OTHERS = {
    "DRAM": (
        "The channel model behind dram.device = DDR4-3200, LPDDR5-6400, GDDR6, HBM2, HBM3; with dram.device = generic, "
        "the default, bandwidth x efficiency stands for it.",
        (
            "Forwarding of written data, ranks, power-down, per-bank and postponed refresh are left out.",
            "Layers move their bytes at the efficiency of long streams: tiles that begin in the middle of a row and "
            "several streams at a time are not told apart.",
        ),
    ),
    "energy": (
        "Energy from counts of actions, area from parts; constants and their sources: `prunesim show energy`.",
        (
            "Leakage, clock tree, interconnect, control, decoders and sorters of sparse formats and DRAM's background "
            "energy are left out, so absolute values are mostly below a chip's and sparse designs are flattered by "
            "what their control costs.",
            "Constants are from several sources at 45 nm, scaled to other nodes; below 8 (int) and 16 bits (float) "
            "they are extrapolated.",
        ),
    ),
}  # fmt: skip


def models() -> list[str]:
    """In the order of the page."""
    names = []
    for name in ACCELERATORS:
        names.append(name)
        if name == "vitcod":
            names += ATTENTION_MODELS
    return [*names, *OTHERS]


def page(found: Sequence[Found]) -> str:
    parts = [*head(), "## Summary", "", *lines(summary(found)), "", *missed(found), *limits()]
    for name in models():
        parts += section(name, [each for each in found if each.model == name])
    parts += provenance(found)
    return "\n".join(parts).rstrip() + "\n"


def head() -> list[str]:
    kinds = [f"* **{kind}**: {meaning}" for kind, meaning in KINDS.items()]
    return [
        "# Validation of the simulator",
        "",
        f"Written by `{COMMAND}`: figures of the models are from that run, figures of papers are quoted. What each "
        "model was compared with, on how many cases, and by how much it is off. An error is model / source - 1; a "
        "case that compares several counts has its worst one. The column `kind` says what agreement is worth:",
        "",
        *kinds,
        "",
        "Nothing here was held against RTL, and against silicon only 2:4 (times of GPUs, under stc). STONNE was not "
        "run: the packing and distribution of its SIGMA-like controller are written a second time as the twin of "
        "sigma.",
        "",
    ]


def summary(found: Sequence[Found]) -> Table:
    rows = []
    for name in models():
        for each in found:
            if each.model != name:
                continue
            if isinstance(each, NotRun):
                rows.append((name, each.source, each.kind, "not run here", "-", "-"))
            elif not each.cases:
                rows.append((name, each.source, each.kind, "none alike", "-", "-"))
            else:
                errors = percent(each.median_error), percent(each.largest_error)
                rows.append((name, each.source, each.kind, str(each.cases), *errors))
    return table(("model", "compared with", "kind", "cases", "median error", "largest error"), rows)


def missed(found: Sequence[Found]) -> list[str]:
    points = [
        (each.model, p) for each in found if isinstance(each, Comparison) for p in each.points if abs(p.error) >= MISSED
    ]
    points.sort(key=lambda item: (models().index(item[0]), -abs(item[1].error)))
    rows = [(name, p.what, p.source, p.model, percent(p.error, sign=True)) for name, p in points]
    none = [(each.model, each.source) for each in found if isinstance(each, Comparison) and not each.cases]
    listed = "; ".join(f"{name}: {source}" for name, source in none)
    return [
        "## Figures that are missed",
        "",
        f"Published figures, or another program's, that the models are {percent(MISSED)} or more away from; the "
        "sections say why.",
        "",
        *lines(table(("model", "figure", "source", "ours", "error"), rows)),
        "",
        f"And claims against which no case could be made, as what was run is not known or not modelled: {listed}."
        if none
        else "",
        "",
    ]  # fmt: skip


def limits() -> list[str]:
    return [
        "## What is not validated",
        "",
        "* Memory of the sparse designs: their papers mostly leave it out, so buffer sizes, tiling and bandwidth are "
        "ours. The tests hold the walk of tiles to a slow clock and every byte to the format, not the choice of tiles "
        "to any chip.",
        "* Trained masks: expectations are of random ones. Real masks have uneven rows and columns, which is what the "
        "models are for, and which no closed form covers; there the functional twins, on small layers, are all there "
        "is.",
        "* Sparse activations: statistical in every design that has them, never real feature maps.",
        "* Control: instruction issue, decoders, permutation networks, bank conflicts take no cycles except where a "
        "section says so, which favours the sparse designs.",
        "",
    ]  # fmt: skip


def section(name: str, found: Sequence[Found]) -> list[str]:
    parts = [f"## {name}", ""]
    notes: tuple[str, ...]
    if name in OTHERS:
        about, notes = OTHERS[name]
        parts += [about, ""]
    else:
        model = ACCELERATORS.get(name) or ATTENTION_MODELS[name]
        notes = model.notes
        parts += [f'Level "{model.level}". {model.documentation.strip().splitlines()[0]} (`prunesim show {name}`)', ""]
    parts += ["Known deviations:", "", *(f"* {note}" for note in notes), ""]
    for each in found:
        parts += [f"### {name}: {each.source}", ""]
        if isinstance(each, NotRun):
            parts += [f"not run here: {each.reason}", ""]
            continue
        if each.cases:
            parts += [
                f"{count(each.cases)} ({each.kind}), median error {percent(each.median_error)}, largest "
                f"{percent(each.largest_error)}.",
                "",
            ]
        else:
            parts += [
                f"No case is of the same quantity ({each.kind}); the figures are side by side for their size.",
                "",
            ]
        if each.says:
            parts += [each.says, ""]
        for one in each.tables:
            parts += [*lines(one), ""]
    return parts


def count(cases: int) -> str:
    return "1 case" if cases == 1 else f"{cases} cases"


def lines(one: Table) -> list[str]:
    cells = [one.head, tuple("---" for _ in one.head), *one.rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]


def provenance(found: Sequence[Found]) -> list[str]:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "scipy"))
    left_out = sorted({each.source for each in found if isinstance(each, NotRun)})
    flags = (
        " --without scalesim" if any("--without scalesim" in e.reason for e in found if isinstance(e, NotRun)) else ""
    )
    return [
        "## Provenance",
        "",
        f"prunesim {__version__}, `{COMMAND}{flags}`; Python {platform.python_version()}, {libraries}. Masks and "
        "weights are drawn from fixed seeds, so that the same versions "
        "write the same page, where the data are at hand: SCALE-Sim is installed from the net, and the masks and the log of "
        "ViTCoD (GATECH-EIC/ViTCoD, Hardware/Simulator) do not ship here; without them those lines say that they were not run." + (f" Not run here: {'; '.join(left_out)}." if left_out else ""),
        "",
        "The twins are in validation/twins, the comparisons in validation/comparisons; the test suite runs the same "
        "twins on other random cases, and laws (more zeros, more bandwidth, larger buffers are never slower where "
        "promised) that have no error to print.",
        "",
    ]  # fmt: skip
