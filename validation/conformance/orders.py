"""What must not get slower, and what must not change at all."""

from typing import Any

import numpy as np

from validation.conformance.design import Case, Design, run
from validation.conformance.laws import Skipped, at_most, same
from validation.conformance.sums import BYTES

SLACK = 1 + 1 / 64  # the search may take this much longer for less energy
BUFFERS = ("weight_kib", "activation_kib", "output_kib", "index_kib")


def more_zeros_never_slower(design: Design, case: Case) -> None:
    machine, kept = design.roomy(*case.sets), case.layer.kept()
    share = np.random.default_rng(case.layer.seed + 1)
    less = kept & (share.random(kept.shape) < share.random())
    before, after = (run(machine, case.layer, mask).sparse.compute_cycles for mask in (kept, less))
    at_most(f"compute cycles with {int(less.sum())} kept", after, before, f"with {int(kept.sum())}")


def faster_memory(design: Design, case: Case) -> None:
    device = value_of(design.machine(*case.sets).spec, "dram.device") or "generic"
    never_slower(design, case, "dram.bandwidth_gbps" if device == "generic" else "dram.channels")


def larger_buffers(design: Design, case: Case) -> None:
    for name in BUFFERS:
        if has(design, f"buffers.{name}"):
            never_slower(design, case, f"buffers.{name}")


def never_slower(design: Design, case: Case, key: str) -> None:
    machine = design.machine(*case.sets)
    value = value_of(machine.spec, key)
    before = run(machine, case.layer).sparse.cycles
    after = run(design.machine(*case.sets, f"{key}={2 * value}"), case.layer).sparse.cycles
    at_most(f"cycles with {key} = {2 * value:g}", after, before * SLACK, f"65/64 of those with {value:g}")


def value_of(spec: Any, key: str) -> Any:
    for part in key.split("."):
        spec = getattr(spec, part, None)
    return spec


def has(design: Design, key: str) -> bool:
    return isinstance(value_of(design.machine().spec, key), int | float)


def has_bandwidth(design: Design) -> str:
    return "" if has(design, "dram.bandwidth_gbps") else "the spec has no dram.bandwidth_gbps"


def has_buffers(design: Design) -> str:
    return "" if any(has(design, f"buffers.{name}") for name in BUFFERS) else "the spec has no buffers.*_kib"


def lanes_are_alike(design: Design, case: Case) -> None:
    """Outputs that change places within a group of lanes change nothing."""
    assert design.twin is not None
    machine, kept = design.machine(*case.sets), case.layer.kept()
    size, order = design.twin.lane_rows(machine.spec), np.random.default_rng(case.layer.seed + 2)
    if size < 2:
        raise Skipped("no neighbouring outputs are alike on this machine")
    places = [order.permutation(np.arange(s, min(s + size, len(kept)))) for s in range(0, len(kept), size)]
    before, after = (run(machine, case.layer, mask).sparse for mask in (kept, kept[np.concatenate(places)]))
    for name in ("cycles", "compute_cycles", *BYTES):
        same(f"outputs moved within {size}: {name}", getattr(after, name), getattr(before, name), "before")


def states_lanes(design: Design) -> str:
    if design.twin is None:
        return "no twin says how many neighbouring outputs are alike"
    machines = (design.machine(*sets) for sets in design.machines)
    stated = any(design.twin.lane_rows(machine.spec) > 1 for machine in machines)
    return "" if stated else "the twin says of no neighbouring outputs that they are alike"
