"""What must add up in the figures of one layer."""

from collections.abc import Iterator
from dataclasses import replace

from simulator.cycles import LayerCycles
from simulator.engine import run as walk
from validation.conformance.design import Case, Design, Layer, attempt, random_layers, run
from validation.conformance.laws import Broken, at_most, near, same

BYTES = ("weight_bytes", "metadata_bytes", "scale_bytes", "activation_bytes", "output_bytes")
EDGES = ((1, 1), (1, 200), (200, 1), (3, 65), (64, 64))


def runs(design: Design, case: Case) -> None:
    """Where all fits."""
    found = attempt(design.roomy(*case.sets), case.layer)
    if found.sparse.cycles < 0:
        raise Broken(f"cycles {found.sparse.cycles}")
    if found.dense.cycles <= 0:
        raise Broken(f"unpruned, cycles {found.dense.cycles}")


def edge_layers(design: Design, seed: int, each: int) -> Iterator[Case]:
    for sets in design.machines:
        for rows, cols in EDGES:
            for tokens in (1, 7):
                for density, corner in ((0.0, False), (0.0, True), (1.0, False)):
                    yield Case(sets, Layer(rows, cols, tokens, density, corner=corner))


def parts_sum(design: Design, case: Case) -> None:
    machine = design.machine(*case.sets)
    found = run(machine, case.layer)
    for name, layer in (("", found.sparse), ("unpruned: ", found.unpruned)):
        if layer is not None:
            cycles_sum(name, layer)
            bytes_sum(name, layer)
    stream, layer = found.sparse.stream, found.sparse
    if stream is not None:
        same("cycles of its stream of tiles", walk(stream, machine.spec.buffers.double), layer.cycles, "in all")
        moved = stream.total(stream.load) + stream.total(stream.store)
        same("loads and stores of its stream of tiles", moved, layer.transfer_cycles, "transfer cycles")


def cycles_sum(name: str, layer: LayerCycles) -> None:
    same(f"{name}compute + stall cycles", layer.compute_cycles + layer.stall_cycles, layer.cycles, "cycles")
    at_most(f"{name}no stalls", 0, layer.buffer_cycles, "buffer cycles")
    at_most(f"{name}buffer cycles", layer.buffer_cycles, layer.stall_cycles, "stall cycles")
    at_most(f"{name}compute cycles", layer.compute_cycles, layer.cycles, "cycles")
    if layer.actions is not None:  # level "paper" counts what its paper counts
        at_most(f"{name}transfer cycles", layer.transfer_cycles, layer.cycles, "cycles")
        at_most(f"{name}ideal cycles", layer.ideal_cycles, layer.compute_cycles + 1e-6, "compute cycles")


def bytes_sum(name: str, layer: LayerCycles) -> None:
    moved = [getattr(layer, part) for part in BYTES]
    same(f"{name}weight + metadata + scale + activation + output bytes", sum(moved), layer.total_bytes, "bytes")
    for part, number in zip(BYTES, moved, strict=True):
        at_most(f"{name}no bytes", 0, number, part)
    if layer.actions is not None:
        same(f"{name}DRAM bits", layer.actions.dram_bits, 8 * layer.total_bytes, "8 x bytes")


def macs_counted_once(design: Design, case: Case) -> None:
    """Multiplications of kept weights and idle slots are all slots of the compute cycles."""
    machine = design.machine(*case.sets)
    found = run(machine, case.layer)
    for name, layer in (("", found.sparse), ("unpruned: ", found.unpruned)):
        if layer is None or layer.actions is None:
            continue
        counted = layer.actions.macs + layer.actions.idle_macs
        slots = max(layer.compute_cycles * machine.spec.macs, layer.actions.macs)
        near(f"{name}MACs + idle MACs", counted, slots, "compute cycles x MACs")


def counts_actions(design: Design) -> str:
    level = design.machine().level
    return "" if level == "cycle" else f'level "{level}" counts no actions'


def full_mask_is_baseline(design: Design, case: Case) -> None:
    found = run(design.roomy(*case.sets), case.layer)
    same("compute cycles", found.sparse.compute_cycles, found.dense.compute_cycles, "unpruned")


def full_layers(design: Design, seed: int, each: int) -> Iterator[Case]:
    """Of at least 16 inputs, so that a full mask follows no N:M by accident."""
    for case in random_layers(design, seed, each):
        yield Case(case.sets, replace(case.layer, cols=max(case.layer.cols, 16), density=1.0))
