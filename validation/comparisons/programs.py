"""Other programs and their logs: SCALE-Sim, ViTCoD's attention simulator, Ramulator, tables of energies and areas."""

import sys
from pathlib import Path
from typing import Any

from validation.comparison import Comparison, NotRun, Point, error_of, number, percent, table
from validation.sources import dram_laws, energy_tables, vitcod_log
from validation.sources import scalesim as scalesim_package
from workloads.errors import UserError


def scalesim(run: bool = True) -> Comparison | NotRun:
    source = f"SCALE-Sim {scalesim_package.VERSION}, side by side"
    if not run:
        return NotRun("systolic", source, "program", "left out by `without`")
    try:
        found = scalesim_package.rows()
    except SystemExit as error:
        print(error, file=sys.stderr)
        return NotRun(
            "systolic",
            source,
            "program",
            "its environment could not be made or it failed (see python -m validation.sources.scalesim)",
        )
    rows = []
    for key in dict.fromkeys((r["array"], r["dataflow"], r["nm"]) for r in found):
        group = [r for r in found if (r["array"], r["dataflow"], r["nm"]) == key]
        shapes = ", ".join(f"{r['m']}x{r['n']}x{r['k']}" for r in group)
        differ = sum(r["error"] != 0 for r in group)
        rows.append((*key, shapes, differ, percent(max((r["error"] for r in group), key=abs), sign=True)))
    says = (
        "The package runs beside the model, in an environment of its own, on the same GEMMs (tokens x outputs x "
        "inputs): its total cycles at estimated bandwidth, which are those of the array, against our compute cycles. "
        "SCALE-Sim's stalls are not compared: its memory is another model than ours, and no source says which is "
        "nearer to a chip."
    )
    head = ("array", "dataflow", "N:M", "GEMMs", "that differ", "largest error")
    return Comparison("systolic", source, "program", tuple(r["error"] for r in found), says, [table(head, rows)])


def attention_log(data: Path | None) -> list[Comparison | NotRun]:
    """Level paper against the published log, line by line; the cycle level against the log's total."""
    paper, cycle = "vitcod-attention-paper", "vitcod-attention"
    log = "ViTCoD's published log, DeiT-Tiny at 95 %"
    try:
        if data is None:
            raise UserError("no folder of data was given")
        folder = data / "vitcod" / vitcod_log.FOLDER
        lines, moves = vitcod_log.rows(folder), vitcod_log.moves(folder)
    except UserError as error:
        reason = str(error).split("/")[-1]
        return [NotRun(name, log, "program", f"its data are absent: {reason}") for name in (paper, cycle)]
    totals = [(r["line"], r["log"], r["model"], r["difference"]) for r in lines if r["layer"] == "total"]
    by_line = []
    for name in dict.fromkeys(r["line"] for r in lines if r["layer"] != "total"):
        of_line = [r for r in lines if r["line"] == name and r["layer"] != "total"]
        log_sum, model_sum = (sum(r[key] for r in of_line) for key in ("log", "model"))
        by_line.append(
            (f"{name}, sum of {len(of_line)} layers", log_sum, model_sum, sum(r["difference"] != 0 for r in of_line))
        )
    says = (
        "The authors' own simulator on their own masks (GATECH-EIC/ViTCoD), the last complete run in their log, from "
        f"the raw masks, reordering included: all {len(lines)} lines."
    )
    first = Comparison(
        paper, log, "program", tuple(error_of(r["model"], r["log"]) for r in lines), says,
        [table(("line", "log", "model", "layers that differ"), by_line),
         table(("line", "log", "model", "difference"), totals)],
    )  # fmt: skip
    total = next(r["log"] for r in lines if r["line"].startswith("Total"))
    counted = [m for m in moves if m["what"] in COUNTED]
    points = tuple(
        Point(m["what"], number(total), number(m["cycles"]), error_of(m["cycles"], total), "") for m in counted
    )
    rows = [(m["what"], total, m["cycles"], percent(error_of(m["cycles"], total), sign=True),
             f"{m['dense_cycles'] / m['cycles']:.2f}x" if m["dense_cycles"] else "unpruned: no fit")
            for m in moves]  # fmt: skip
    heads = ", ".join(f"{cycles:,}" for cycles in vitcod_log.head_totals(folder))
    says = (
        "The cycle level is not meant to meet the log's total: the program counts 64 x 64 PEs where the paper's "
        "hardware has 512 MACs, loads Q once for both engines, takes head 0 for all heads (its decoding and computing "
        f"would be {heads} cycles if head 0, 1 or 2 stood for all), and has no softmax, outputs, metadata, lanes or "
        f"buffers. With its PEs and without memory and softmax {percent(points[-1].error, sign=True)} remain, which is "
        f"not taken apart here. No measurement says which is right; the log is a program's. Cases: the {len(COUNTED)} "
        "settings that approach the program's machine; the others show what moves the total."
    )
    head = ("setting", "log's total", "model", "model / log - 1", "gain over unpruned")
    second = Comparison(cycle, log, "program", tuple(p.error for p in points), says, [table(head, rows)], points)
    return [first, second]


COUNTED = tuple(what for _, what in vitcod_log.MOVES[:3])


def dram() -> list[Comparison]:
    found = dram_laws.rows()
    measured = [r for r in found if r["reference"] == dram_laws.RAMULATOR]
    laws = [r for r in found if r["reference"] != dram_laws.RAMULATOR]
    says = (
        "Shares of the peak of 16 MiB streams, measured with Ramulator 2.1 (c5b1c3a: FR-FCFS, open rows, queues of 32) "
        "and kept as constants, as that program is no dependency. Timings come from its presets and the controller "
        "follows its policy: agreement shows that the rules were understood, not that either is silicon. Its figures "
        "have three digits, so that errors below 0.2 % are rounding; random reads of DDR4 without refresh fall into "
        "one of two rhythms by chance (an activate window met, or one cycle late), and the two programs into different "
        "ones."
    )
    rows = [(r["device"], r["case"], r["expected"], r["model"], percent(r["error"], sign=True)) for r in measured]
    first = Comparison("DRAM", dram_laws.RAMULATOR, "program", tuple(r["error"] for r in measured), says,
                       [table(("device", "stream", "Ramulator", "model", "error"), rows)])  # fmt: skip
    by_law = [
        (r["device"], r["case"], r["reference"], r["expected"], r["model"], percent(r["error"], sign=True))
        for r in laws
    ]
    says = (
        "Laws that any channel of these timings follows. Random reads: the law is an upper bound that ignores commands "
        "meeting on a bus; GDDR6, LPDDR5, DDR5 and HBM3 are checked here alone, no other program's figures were at "
        "hand."
    )
    second = Comparison("DRAM", "closed forms of streams", "own rule", tuple(r["error"] for r in laws), says,
                        [table(("device", "case", "law", "expected", "model", "error"), by_law)])  # fmt: skip
    return [first, second]


def energy() -> Comparison:
    found: list[dict[str, Any]] = energy_tables.published_comparison()
    points = tuple(
        Point(f"{r['machine']}: {r['quantity']}, {r['unit']}", number(r["published"]), number(r["modelled"]),
            r["ratio"] - 1,
              r["note"])
        for r in found
    )  # fmt: skip
    rows = [(p.what, p.source, p.model, percent(p.error, sign=True), p.why) for p in points]
    factors = {
        kind: max(max(r["ratio"], 1 / r["ratio"]) for r in found if (r["unit"] == "mm2") == kind)
        for kind in (False, True)
    }
    says = (
        "Whole chips at full load and parts of tables that the model does not use; nothing was fitted. Energies and "
        f"powers here are off by up to {factors[False]:.1f} times, areas by up to {factors[True]:.1f} times (control, "
        "networks and wide ports are missing): compare designs of one node and one word width with each other, not "
        "with a data sheet."
    )
    head = ("machine", "published", "model", "model / published - 1", "note")
    return Comparison("energy", "published machines and other tables", "paper", tuple(p.error for p in points), says,
                      [table(head, rows)], points)  # fmt: skip
