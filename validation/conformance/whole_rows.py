"""Result rows of a design: complete, consistent, and the same again from statistics on disk without the mask."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import numpy as np

from simulator.accelerators import Accelerator
from simulator.simulate import simulate_layers
from simulator.statistics import StatisticsStore
from validation.conformance.design import VALUE, Case, Design
from validation.conformance.laws import Broken, at_most, near
from validation.runs import codes_of
from workloads.bundle import BundleHeader, LayerEntry
from workloads.conditions import Conditions
from workloads.mask import PackedMask
from workloads.operations import Linear, linear_of
from workloads.rows import to_frame

ENERGIES = ("mac_pj", "idle_pj", "register_pj", "buffer_pj", "dram_pj")


def whole_rows(design: Design, case: Case) -> None:
    machine, kept = design.machine(*case.sets), case.layer.kept()
    if design.twin and design.twin.follows:
        kept = design.twin.follows(kept)
    linear = linear_in_memory(kept, machine.reads_values)
    with TemporaryDirectory() as folder:
        first = rows(machine, linear, case, Path(folder))
        if machine.source_sha256 is not None:  # what is kept on disk is known to be of this code
            blind = replace(linear, weights=replace(linear.weights, mask=_read_again, values=_read_again))
            again = rows(machine, blind, case, Path(folder))
            if first != again:
                raise Broken("from statistics on disk the row is another")
    row = to_frame(first, extra=machine.columns).iloc[0]
    if not row["feasible"]:
        raise Broken(f"its default machine does not run it: {row['reason']}")
    if machine.level != "paper":
        has_energy(row)


def has_energy(row: Any) -> None:
    parts = [float(row[name]) for name in ENERGIES]
    near("energy_pj", row["energy_pj"], sum(parts), "its parts")
    at_most("no energy", 0, min(parts), "the smallest part")
    near("edp_pj_us", row["edp_pj_us"], row["energy_pj"] * row["latency_us"], "energy_pj x latency_us")
    if not row["area_mm2"] > 0:
        raise Broken(f"area_mm2 {row['area_mm2']}")
    if not 0 < row["utilisation"] <= 1:
        raise Broken(f"utilisation {row['utilisation']:g} is not within 0..1")


def rows(machine: Accelerator, linear: Linear, case: Case, folder: Path) -> list[dict[str, Any]]:
    conditions = Conditions(machine.only_tokens or case.layer.tokens)
    store = StatisticsStore(folder)
    return list(simulate_layers([machine], BundleHeader("m", "x"), [linear], conditions, store, threads=1))


def linear_in_memory(kept: np.ndarray, with_values: bool) -> Linear:
    mask = PackedMask.from_dense(kept)
    values = codes_of(np.where(kept, VALUE, 0)) if with_values else {}
    bits = 8 if with_values else None
    entry = LayerEntry("l", "q", 0, mask.rows, mask.cols, "unstructured", mask.nnz, bits, mask.sha256(), "")
    return linear_of(entry, lambda: mask, lambda: values)


def _read_again() -> NoReturn:
    raise Broken("the mask is read although its statistics are on disk")
