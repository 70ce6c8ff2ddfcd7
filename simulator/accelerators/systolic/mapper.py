"""The plans of systolic arrays that fit the buffers, with their energy and a bound of their cycles, for `search`.

`outer` and `inner` are powers of two of folds, or all of them; chunks powers of two. The bound is the longer of all
transfers and of computing with the first load and the last store around it. Plans of more than MOST_STEPS tiles are
looked at only where none with fewer fits: their short chunks would save a fraction of a first load.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from simulator.accelerators.systolic.stream import Fabric, Gemm, Plan, Tiles, tiles_of
from simulator.actions import BUFFERS
from simulator.cycles import Infeasible, ceil_div
from simulator.energy import total_pj
from simulator.engine import Stream, run
from simulator.machine.fit import too_small
from simulator.machine.parts import Machine
from simulator.machine.port import Port
from simulator.tiling.granules import check_override
from simulator.tiling.search import Choices, best
from workloads.errors import UserError
from workloads.refusals import Refusal

MOST_STEPS = 1 << 14
ORDERS = {"ws": ("rows-outer",), "is": ("tokens-outer",), "os": ("tokens-outer", "rows-outer")}


@dataclass(frozen=True)
class Found:
    plan: Plan
    tiles: Tiles
    stream: Stream
    cycles: int


@dataclass(frozen=True)
class Table:
    """Plans of one order as columns (plans,). needs, limits (plans, 4): bytes of each buffer, and what it may hold."""

    order: str
    outer: np.ndarray
    inner: np.ndarray
    chunk: np.ndarray
    resident: np.ndarray
    kept: np.ndarray
    spilled: np.ndarray
    needs: np.ndarray
    limits: np.ndarray
    energy_pj: np.ndarray  # of the layer with nothing pruned: the array multiplies zeros, so that they change no plan
    bound: np.ndarray  # cycles that no stream of the plan can go below
    steps: np.ndarray

    def plan(self, i: int) -> Plan:
        outer, inner, chunk = (int(column[i]) for column in (self.outer, self.inner, self.chunk))
        resident, kept, spilled = (bool(column[i]) for column in (self.resident, self.kept, self.spilled))
        return Plan(self.order, outer, inner, chunk, resident, kept, spilled)


def best_plan(machine: Machine, port: Port, gemm: Gemm, fabric: Fabric, dataflow: str) -> Found:
    """Raises Infeasible where nothing fits, UserError for an order or a tile the dataflow does not have."""
    orders = ORDERS[dataflow]
    if machine.mapping.order != "best":
        if machine.mapping.order not in orders:
            raise UserError(
                f"mapping.order = {machine.mapping.order}: dataflow {dataflow} has only {orders[0]}; use best"
            )
        orders = (machine.mapping.order,)
    table_of = standing_table if dataflow == "os" else moving_table
    tables = [table_of(machine, port, gemm, fabric, dataflow, order) for order in orders]
    fitting = [(table, i) for table in tables for i in np.flatnonzero((table.needs <= table.limits).all(axis=1))]
    if not fitting:
        raise Infeasible(smallest_refusal(machine, gemm, fabric, dataflow, orders[0], port))
    fewest = min(int(table.steps[i]) for table, i in fitting)
    fitting = [(table, i) for table, i in fitting if table.steps[i] <= max(MOST_STEPS, fewest)]

    def walk(k: int) -> Found:
        table, i = fitting[k]
        plan = table.plan(int(i))
        tiles = tiles_of(gemm, fabric, dataflow, plan)
        stream = tiles.stream(machine.buffers, port)
        return Found(plan, tiles, stream, run(stream, machine.buffers.double))

    bound, energy_pj = (np.array([getattr(table, name)[i] for table, i in fitting]) for name in ("bound", "energy_pj"))
    return best([Choices(bound, energy_pj, walk)], machine.mapping.objective)


def choices(folds: int, override: int) -> list[int]:
    """Powers of two below `folds` and all of them, or the override."""
    return (
        [min(override, folds)] if override else [*(1 << i for i in range(folds.bit_length()) if 1 << i < folds), folds]
    )


def shapes(outer: list[int], inner: list[int], length: int, override: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns outer, inner, chunk: whole streams of `length` by any tile, chunks by single folds."""
    chunk = min(override, length) if override else length
    rows = [(a, b, length) for a in outer for b in inner] if chunk == length else []
    if outer[0] == 1 and inner[0] == 1:
        chunks = [override] if override else [1 << i for i in range(length.bit_length())]
        rows += [(1, 1, c) for c in chunks if c < length]
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return columns[0], columns[1], columns[2]


def overrides(machine: Machine, gemm: Gemm, fabric: Fabric, dataflow: str) -> dict[str, int]:
    """mapping.tile_* in folds (or in places of the stream, where they stream); 0 = free."""
    mapping = machine.mapping
    granules = {
        "ws": {"tile_rows": fabric.cols, "tile_cols": fabric.rows, "tile_tokens": 1},
        "is": {"tile_rows": 1, "tile_cols": fabric.rows, "tile_tokens": fabric.cols},
        "os": {"tile_rows": fabric.cols, "tile_cols": 1, "tile_tokens": fabric.rows},
    }[dataflow]
    if mapping.tile_cols and gemm.m > 1:
        if fabric.rows % gemm.n:
            raise UserError(
                f"mapping.tile_cols = {mapping.tile_cols}: array.rows = {fabric.rows} is no multiple of N in array.nm "
                f"= {gemm.n}:{gemm.m}; use 0"
            )
        granules["tile_cols"] = fabric.rows // gemm.n * gemm.m
    return {name: check_override(name, getattr(mapping, name), granule) for name, granule in granules.items()}


def spread(length: np.ndarray | int, group_size: int | None) -> np.ndarray | int:
    """Scales of a row over the first `length` inputs."""
    return 1 if group_size is None else -(-length // group_size)


def moving_table(machine: Machine, port: Port, gemm: Gemm, fabric: Fabric, dataflow: str, order: str) -> Table:
    """ws and is: see stream."""
    weights_stay = dataflow == "ws"
    across, length = (gemm.outputs, gemm.tokens) if weights_stay else (gemm.tokens, gemm.outputs)
    outer_folds, inner_folds = ceil_div(across, fabric.cols), ceil_div(gemm.slots, fabric.rows)
    fixed = overrides(machine, gemm, fabric, dataflow)
    stays, streams = ("tile_rows", "tile_tokens") if weights_stay else ("tile_tokens", "tile_rows")
    outer, inner, chunk = shapes(
        choices(outer_folds, fixed[stays]), choices(inner_folds, fixed["tile_cols"]), length, fixed[streams]
    )
    wide = np.minimum(outer * fabric.cols, across)
    slots = np.minimum(inner * fabric.rows, gemm.slots)
    first_inputs = np.minimum(-(-slots // gemm.n) * gemm.m, gemm.inputs)  # of the first inner tile
    inputs = np.minimum(first_inputs + gemm.m * (inner * fabric.rows % gemm.n > 0), gemm.inputs)  # of any, at most
    outputs, tokens = (wide, chunk) if weights_stay else (chunk, wide)

    def loaded(some: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bytes of a tile over `some` inputs: weights with scales, metadata, inputs."""
        scales = -(-outputs * spread(some, gemm.group_size) * gemm.scale_bits // 8)
        return (
            -(-outputs * slots * gemm.weight_bits // 8) + scales,
            -(-outputs * slots * gemm.index_bits // 8),
            gemm.input_bytes(some, tokens),
        )

    all_w, all_m, all_x, read_x = totals(gemm)
    capacity = np.array(machine.buffers.capacities)
    share = 0.5 if machine.buffers.double else 1.0
    needs = np.empty((len(outer), 4))
    needs[:, 0], needs[:, 1], needs[:, 2] = loaded(inputs)
    limits = np.tile(capacity * share, (len(outer), 1))
    fits_whole = all_x <= capacity[2] if weights_stay else all_w <= capacity[0] and all_m <= capacity[1]
    resident = np.full(len(outer), fits_whole)
    if fits_whole:
        for buffer in (2,) if weights_stay else (0, 1):
            limits[:, buffer] = capacity[buffer]
    # sums live for a whole stream where another inner tile adds to them
    lone = inner * fabric.rows >= gemm.slots
    held = -(-wide * np.where(lone, chunk, length) * gemm.sum_bits // 8)
    spilled = (held > limits[:, 3]) & ~lone & (outer == 1) & (inner == 1)
    needs[:, 3] = np.where(spilled, -(-wide * chunk * gemm.sum_bits // 8), held)
    limits[spilled, 3] = capacity[3] / 2  # one chunk's sums arrive while another's leave

    repeats = np.where(resident, 1, -(-across // (outer * fabric.cols)))
    results = gemm.outputs * gemm.tokens
    moved = results * (gemm.activation_bits + 2.0 * gemm.sum_bits * (inner_folds - 1) * spilled) / 8
    moved = moved + ((all_w + all_m + all_x * repeats) if weights_stay else (all_x + (all_w + all_m) * repeats))
    stored = wide * length * gemm.activation_bits / 8  # of an outer tile but the last, which is `end` wide
    end = across - (-(-across // wide) - 1) * wide
    fold = fabric.fill_cycles + length
    last = np.minimum(chunk, length - (-(-length // chunk) - 1) * chunk) * (end * gemm.activation_bits / 8)
    gaps = np.zeros(len(outer))
    if not any(machine.buffers.widths):
        # from the first chunk of its last inner tile on, the port stores an outer tile; one tile of the next is loaded
        # meanwhile
        gaps = np.maximum(stored - outer * inner * fold * port.bytes_per_cycle, 0)
        gaps *= (-(-across // wide) - 1) * ((-(-inner_folds // inner) > 1) | (chunk < length))
        last = np.maximum(last, end * length * gemm.activation_bits / 8 - (length - chunk) * port.bytes_per_cycle)
    edge = sum(loaded(first_inputs)) + last + gaps
    compute = outer_folds * inner_folds * (fabric.fill_cycles + length) - 1
    reads = (all_w, all_m, read_x * outer_folds) if weights_stay else (all_w * outer_folds, all_m * outer_folds, read_x)
    sums = results * inner_folds * gemm.sum_bits / 8
    busy = slowest(machine, compute, (*reads, 2.0 * sums))
    bound = lower_bound(machine, port, busy, edge, moved)
    spills = results * (inner_folds - 1) * spilled * gemm.sum_bits / 8
    loads = (all_w, all_m, all_x * repeats) if weights_stay else (all_w * repeats, all_m * repeats, all_x)
    energy_pj = energies(machine, gemm, compute, (*reads, sums + spills), (*loads, sums + spills), moved)
    steps = -(-across // wide) * -(-inner_folds // inner) * -(-length // chunk)
    kept = np.ones_like(resident)
    return Table(order, outer, inner, chunk, resident, kept, spilled, needs, limits, energy_pj, bound, steps)


def standing_table(machine: Machine, port: Port, gemm: Gemm, fabric: Fabric, dataflow: str, order: str) -> Table:
    """os: see stream."""
    fixed = overrides(machine, gemm, fabric, dataflow)
    tokens_outer = order == "tokens-outer"
    sides = [(gemm.tokens, fabric.rows, fixed["tile_tokens"]), (gemm.outputs, fabric.cols, fixed["tile_rows"])]
    (outer_total, outer_tile, outer_fixed), (inner_total, inner_tile, inner_fixed) = (
        sides if tokens_outer else sides[::-1]
    )
    outer_folds, inner_folds = ceil_div(outer_total, outer_tile), ceil_div(inner_total, inner_tile)
    outer, inner, chunk = shapes(
        choices(outer_folds, outer_fixed), choices(inner_folds, inner_fixed), gemm.inputs, fixed["tile_cols"]
    )
    wide, deep = np.minimum(outer * outer_tile, outer_total), np.minimum(inner * inner_tile, inner_total)

    def weight_bytes(outputs: np.ndarray, inputs: np.ndarray | int) -> np.ndarray:
        return -(-outputs * inputs * gemm.weight_bits // 8) - (
            -outputs * spread(inputs, gemm.group_size) * gemm.scale_bits // 8
        )

    all_w, _, all_x, read_x = totals(gemm)
    capacity = np.array(machine.buffers.capacities)
    share = 0.5 if machine.buffers.double else 1.0
    limits = np.tile(capacity * share, (len(outer), 1))
    outer_buffer, inner_buffer = (2, 0) if tokens_outer else (0, 2)
    outer_bytes, inner_bytes = (gemm.input_bytes, weight_bytes) if tokens_outer else (weight_bytes, gemm.input_bytes)
    outer_all, inner_all = (all_x, all_w) if tokens_outer else (all_w, all_x)
    outer_count, inner_count = -(-outer_total // wide), -(-inner_total // deep)
    limits[outer_count == 1, outer_buffer] = capacity[outer_buffer]  # nothing follows it
    panel = outer_bytes(wide, gemm.inputs)
    kept = panel <= limits[:, outer_buffer]
    resident = np.full(len(outer), inner_all <= capacity[inner_buffer])
    limits[resident, inner_buffer] = capacity[inner_buffer]
    needs = np.zeros((len(outer), 4))
    needs[:, outer_buffer] = np.where(kept, panel, outer_bytes(wide, chunk))
    needs[:, inner_buffer] = inner_bytes(deep, chunk)
    needs[:, 3] = -(-wide * deep * gemm.sum_bits // 8)

    outer_loads = outer_all * np.where(kept, 1, inner_count)
    inner_loads = inner_all * np.where(resident, 1, outer_count)
    moved = outer_loads + inner_loads + gemm.outputs * gemm.tokens * gemm.activation_bits / 8
    last = (outer_total - (outer_count - 1) * wide) * (inner_total - (inner_count - 1) * deep)
    edge = outer_bytes(wide, chunk) + inner_bytes(deep, chunk) + last * gemm.activation_bits / 8
    compute = outer_folds * inner_folds * (fabric.fill_cycles + gemm.inputs) - 1
    token_folds, output_folds = ceil_div(gemm.tokens, fabric.rows), ceil_div(gemm.outputs, fabric.cols)
    sums, reads = gemm.outputs * gemm.tokens * gemm.sum_bits / 8, (all_w * token_folds, 0.0, read_x * output_folds)
    busy = slowest(machine, compute, (*reads, 2.0 * sums))
    bound = lower_bound(machine, port, busy, edge, moved)
    loads = (outer_loads, inner_loads)[:: 1 if outer_buffer == 0 else -1]
    energy_pj = energies(machine, gemm, compute, (*reads, sums), (loads[0], 0.0, loads[1], sums), moved)
    steps = outer_count * inner_count * -(-gemm.inputs // chunk)
    spilled = np.zeros_like(kept)
    return Table(order, outer, inner, chunk, resident, kept, spilled, needs, limits, energy_pj, bound, steps)


def totals(gemm: Gemm) -> tuple[float, float, float, float]:
    """Bytes of all weights with scales, of metadata, of inputs as DRAM brings them and as the array reads them once,
    unrounded."""
    weights = (
        gemm.outputs * (gemm.slots * gemm.weight_bits + spread(gemm.inputs, gemm.group_size) * gemm.scale_bits) / 8
    )
    return (
        float(weights),
        gemm.outputs * gemm.slots * gemm.index_bits / 8,
        gemm.inputs * gemm.tokens * gemm.held_bits / 8,
        gemm.inputs * gemm.tokens * gemm.activation_bits / 8,
    )


def energies(machine: Machine, gemm: Gemm, compute: int, reads: tuple, writes: tuple, moved: np.ndarray) -> np.ndarray:
    """pJ of every plan. reads, writes: bytes that leave and enter each buffer, moved: those that cross the DRAM port;
    bytes of tiles are not rounded up."""
    unit = machine.unit_energies(gemm.weight_bits)
    useful = gemm.outputs * gemm.slots * gemm.tokens
    return total_pj(unit, useful, max(compute * machine.macs - useful, 0), reads, writes, moved)


def slowest(machine: Machine, compute: int, volumes: tuple[float, ...]) -> float:
    """Cycles of computing, or of the slowest buffer's traffic."""
    return max([compute, *(v / width for v, width in zip(volumes, machine.buffers.widths, strict=True) if width)])


def lower_bound(machine: Machine, port: Port, busy: float, edge: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """busy: cycles of the array; edge: bytes that it waits for, first loads and last stores; moved: all bytes."""
    if not machine.buffers.double:
        return busy + moved / port.bytes_per_cycle
    return np.maximum(busy + edge / port.bytes_per_cycle, moved / port.bytes_per_cycle)


def smallest_refusal(machine: Machine, gemm: Gemm, fabric: Fabric, dataflow: str, order: str, port: Port) -> Refusal:
    """Why not even single folds in the shortest chunks fit: the first buffer that is too small for them."""
    free = replace(machine, mapping=replace(machine.mapping, tile_rows=0, tile_cols=0, tile_tokens=0))
    table = (standing_table if dataflow == "os" else moving_table)(free, port, gemm, fabric, dataflow, order)
    i = int(np.lexsort((table.chunk, table.inner, table.outer))[0])
    needed = zip(BUFFERS, table.needs[i], table.limits[i], machine.buffers.capacities, strict=True)
    for name, need, limit, capacity in needed:
        if need > limit:
            where = f"one array tile of dataflow {dataflow} ({fabric.rows} x {fabric.cols}, all arrays' columns)"
            smaller = "lower array.rows or array.cols"
            return too_small(where, f"buffers.{name}_kib", math.ceil(need), capacity, bool(limit < capacity), smaller)
    return Refusal(
        "larger buffers",
        where=f"the tile that mapping.* asks for, with dataflow {dataflow},",
        way_out="lower mapping.tile_*, or set them to 0",
    )
