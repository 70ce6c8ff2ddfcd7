"""The mapper of designs made of granules: tile sizes and loop orders that fit the buffers, the best by `search`'s rule.

Tiles are 2^i x 2^j granules by the tokens' whole number or a power of two of token steps; the loop orders are

    tokens-outer   for token tile: for row tile: for column tile. Weights are loaded again for every token tile; the
    inputs of
                   a token tile once, if all of them stay on chip, else for every row tile.
    rows-outer     for row tile: for token tile: for column tile. The weights of a row tile stay on chip for all tokens;
    inputs
                   are loaded again for every row tile.

Partial sums stay in the output buffer until a row tile has seen all inputs. One table has, of every candidate, the
energy and a lower bound of the cycles; few are walked through.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from simulator.actions import BUFFERS
from simulator.cycles import Infeasible, LayerCycles
from simulator.formats import scale_bits
from simulator.machine.fit import too_small
from simulator.machine.parts import Machine
from simulator.machine.port import Port, port_of
from simulator.statistics import Statistics
from simulator.tiling.execution import ORDERS, TileBytes, Tiling, executed
from simulator.tiling.granules import Granules, check_override, doubled, fingerprint, level_of, tile_sums
from simulator.tiling.search import Choices, best
from simulator.work import Work
from workloads.errors import UserError
from workloads.refusals import Refusal

SHAPE, TILE_TOKENS, ORDER, RESIDENT, BOUND, ENERGY = range(6)  # columns of candidate_table


@dataclass(frozen=True)
class Cut:
    """One way to cut a layer into granules; `memo` keeps what is derived from it, `note` goes in front of the mapping's
    text."""

    granules: Granules
    memo: Statistics
    note: str = ""


def best_layer(machine: Machine, cuts: Sequence[Cut], work: Work, value_bits: int | None = None) -> LayerCycles:
    """The layer under the best mapping of any cut. value_bits: of a weight as the MACs see it, where
    that is not its stored width.

    Raises, of the first cut, Infeasible when not even the smallest tile fits, UserError for an override that is no
    multiple of the granule.
    """
    tables: list[Choices[LayerCycles]] = []
    refusals: list[Infeasible | UserError] = []
    for cut in cuts:
        try:
            tables.append(choices(machine, cut, work, value_bits))
        except (Infeasible, UserError) as refusal:
            refusals.append(refusal)
    if not tables:
        raise refusals[0]
    return best(tables, machine.mapping.objective)


def choices(machine: Machine, cut: Cut, work: Work, value_bits: int | None = None) -> Choices[LayerCycles]:
    """Every mapping that fits. Arguments and errors as best_layer's."""
    granules, port = cut.granules, port_of(machine.dram, machine.clock.mhz)
    shapes = shapes_of(machine, granules, cut.memo, work)
    tiles = np.array(token_tiles(machine, work.tokens, granules.token_step))
    energies = _energies(machine, work, value_bits or work.width(machine.number.weight_bits))
    table = candidate_table(shapes.facts, tiles, *_scalars(machine, port, granules, work), *energies)
    if not len(table):
        raise Infeasible(smallest_tile_refusal(machine, granules, shapes.sizes(0), work))

    def walk(i: int) -> LayerCycles:
        shape, tokens, order, resident = (int(cell) for cell in table[i, : RESIDENT + 1])
        tiling = Tiling(shapes.sizes(shape), tokens, order == 0, bool(resident))
        return executed(machine, port, granules, tiling, work, cut.note)

    return Choices(table[:, BOUND], table[:, ENERGY], walk)


class TileShapes:
    """The tile shapes of a layer: facts of all of them as one table (shapes, 12), and the bytes of single ones when
    asked for."""

    def __init__(self, machine: Machine, granules: Granules, work: Work):
        number, (tile_rows, tile_cols) = machine.number, (machine.mapping.tile_rows, machine.mapping.tile_cols)
        granule_rows, granule_cols = granules.granule
        self.granules = granules
        self.width = work.width(number.weight_bits)
        quantized = work.weight_bits is not None and work.weight_bits <= number.weight_bits
        self.scale = number.scale_bits + self.width if quantized else 0  # of a group, with its zero point
        self.groups = scale_bits(np.ones(1, dtype=np.int64), granules.cols, work.group_size, 1, 0)[0]
        row_sides, col_sides = doubled(len(granules.rows)), doubled(len(granules.cols))
        if tile_rows:
            row_sides = [check_override("tile_rows", tile_rows, granule_rows, int(granules.rows.sum()))]
        if tile_cols:
            col_sides = [check_override("tile_cols", tile_cols, granule_cols, int(granules.cols.sum()))]
        self.sides = [(a, b) for a in row_sides for b in col_sides]
        arrays = (
            granules.values,
            granules.metadata_bits,
            granules.rows,
            granules.cols,
            self.groups,
            self.width,
            self.scale,
        )
        self.facts = shape_facts(*arrays, np.array(row_sides), np.array(col_sides))
        self._sizes: dict[int, TileBytes] = {}

    def sizes(self, number: int) -> TileBytes:
        if number not in self._sizes:
            level = level_of(self.granules, *self.sides[number])
            groups = np.add.reduceat(self.groups, np.arange(0, len(self.groups), self.sides[number][1]))
            bits = (level.values * self.width, level.metadata_bits, level.rows[:, None] * groups * self.scale)
            self._sizes[number] = TileBytes(level, *(-(-b // 8) for b in bits))
        return self._sizes[number]


def shapes_of(machine: Machine, granules: Granules, statistics: Statistics, work: Work) -> TileShapes:
    """Kept with the statistics."""
    number = machine.number
    key = (
        *fingerprint(granules),
        machine.mapping,
        number.weight_bits,
        number.scale_bits,
        work.weight_bits,
        work.group_size,
    )
    if key not in statistics.memo:
        statistics.memo[key] = TileShapes(machine, granules, work)
    return statistics.memo[key]


@njit(cache=True, nogil=True)
def shape_facts(values, metadata, rows, cols, groups, width, scale, row_sides, col_sides):
    """What candidate_table must know of each shape, (shapes, 12) int64: outputs and inputs of the first tile; row and
    column tiles; of weights with scales, and of metadata, in bytes: the most of a tile, the most of a row of tiles,
    all; bytes of both of the first tile, and outputs of the last row of tiles.

    Sides that double are summed from the shape before.
    """
    facts = np.empty((len(row_sides) * len(col_sides), 12), dtype=np.int64)
    high_v, high_m, high_r, had_rows = values.astype(np.int64), metadata.astype(np.int64), rows.astype(np.int64), 1
    # high_* are the granules summed over `had_rows` rows of them, v, m, c, g also over `had_cols` columns; every side
    # is a multiple of the one before (or the only one), so that it is summed from that: O(granules) for all sides
    # together.
    n = 0
    for a in row_sides:
        by = a // had_rows
        high_v, high_m, high_r = _tile_sums(high_v, by, 1), _tile_sums(high_m, by, 1), _sums(high_r, by)
        had_rows = a
        v, m, c, g, had_cols = high_v, high_m, cols.astype(np.int64), groups.astype(np.int64), 1
        for b in col_sides:
            by = b // had_cols
            v, m, c, g = _tile_sums(v, 1, by), _tile_sums(m, 1, by), _sums(c, by), _sums(g, by)
            had_cols = b
            most_w = most_m = row_w = row_m = all_w = all_m = first = 0
            for i in range(v.shape[0]):
                sum_w = sum_m = 0
                for j in range(v.shape[1]):
                    w = (v[i, j] * width + 7) // 8 + (high_r[i] * g[j] * scale + 7) // 8
                    meta = (m[i, j] + 7) // 8
                    most_w, most_m = max(most_w, w), max(most_m, meta)
                    if i == 0 and j == 0:
                        first = w + meta
                    sum_w += w
                    sum_m += meta
                row_w, row_m = max(row_w, sum_w), max(row_m, sum_m)
                all_w += sum_w
                all_m += sum_m
            sides = (high_r[0], c[0], v.shape[0], v.shape[1])
            facts[n] = (*sides, most_w, most_m, row_w, row_m, all_w, all_m, first, high_r[-1])
            n += 1
    return facts


@njit(cache=True, nogil=True)
def _sums(cells: np.ndarray, by: int) -> np.ndarray:
    sums = np.zeros(-(-len(cells) // by), dtype=np.int64)
    for i in range(len(cells)):
        sums[i // by] += cells[i]
    return sums


@njit(cache=True, nogil=True)
def _tile_sums(cells: np.ndarray, rows: int, cols: int) -> np.ndarray:
    return cells if rows == 1 and cols == 1 else tile_sums(cells, rows, cols)


def token_tiles(machine: Machine, tokens: int, step: int) -> list[int]:
    """All tokens at once, or powers of two of steps below; or the override."""
    if machine.mapping.tile_tokens:
        check_override("tile_tokens", machine.mapping.tile_tokens, step, tokens)
        return [min(machine.mapping.tile_tokens, tokens)]
    return [tokens, *(step << i for i in range(tokens.bit_length()) if step << i < tokens)]


def _scalars(machine: Machine, port: Port, granules: Granules, work: Work) -> tuple:
    """The numbers that all candidates share, in the order of candidate_table's parameters."""
    number, buffers = machine.number, machine.buffers
    wanted = {"best": -1, ORDERS[0]: 0, ORDERS[1]: 1}[machine.mapping.order]
    step_total, visit_total = float(granules.step_cycles.sum()) / granules.step_unit, float(granules.visit_cycles.sum())
    return (
        *(work.rows, work.cols, work.tokens, number.activation_bits, work.held_bits(number.activation_bits)),
        *(number.accumulator_bits,),
        *(granules.token_step, step_total, visit_total, granules.stationary == "output", granules.act_reads),
        *(len(granules.rows), len(granules.cols), np.array(buffers.capacities), np.array(buffers.widths)),
        *(buffers.double, port.bytes_per_cycle, wanted),
    )


def _energies(machine: Machine, work: Work, value_bits: int) -> tuple:
    """What the energy of a candidate follows from, in the order of candidate_table's parameters: MAC units, useful
    MACs, energy that all share, and pJ of an idle MAC slot, of a bit of DRAM, of a bit read from and written to each
    buffer."""
    unit = machine.unit_energies(value_bits)
    useful = work.nnz * work.tokens * work.activation_density
    shared_pj = useful * (unit.mac_pj + unit.register_pj)
    return machine.macs, useful, shared_pj, unit.idle_pj, unit.dram_pj, np.array(unit.read_pj), np.array(unit.write_pj)


@njit(cache=True, nogil=True)
def candidate_table(
    facts, tiles, rows, cols, tokens, act_bits, held_bits, sum_bits,
    step, step_total, visit_total, output_stationary, act_reads,
    row_groups, col_groups, capacities, widths, double, bandwidth, wanted,
    macs, useful, shared_pj, idle_pj, dram_pj, read_pj, write_pj,
):  # fmt: skip
    """What fits, (n, 6): shape, token tile, order (0 tokens-outer, 1 rows-outer), inputs resident, lower bound of the
    cycles, energy in pJ as layer_energy has it, but that bytes of inputs and outputs are not rounded up tile by tile.

    The bound is the longer of transferring everything and of first load, the busiest of array and buffers, last store;
    their sum where buffers are single.
    """
    table = np.empty((len(facts) * len(tiles) * 2, 6))
    # table[:n] holds the candidates found so far, in the order shape, token tile, loop order: `search` breaks ties by
    # it
    n = 0
    share = 0.5 if double else 1.0
    for i in range(len(facts)):
        (
            tile_rows,
            tile_cols,
            row_tiles,
            col_tiles,
            most_w,
            most_m,
            row_w,
            row_m,
            all_w,
            all_m,
            first_bytes,
            last_rows,
        ) = facts[i]
        if most_w > capacities[0] * share or most_m > capacities[1] * share:
            continue
        for t in tiles:
            if tile_rows * t * sum_bits / 8 > capacities[3] * share:
                continue
            streamed = tile_cols * t * held_bits / 8 <= capacities[2] * share
            resident = cols * t * held_bits / 8 <= capacities[2] * (1.0 if t == tokens else share)
            count = -(-tokens // t)
            steps = (tokens // t) * -(-t // step) + -(-(tokens % t) // step)
            compute = steps * step_total + count * visit_total
            for order in range(2):
                if wanted >= 0 and order != wanted:
                    continue
                if order == 0 and not (streamed or resident):
                    continue
                if order == 1 and not (streamed and row_w <= capacities[0] * share and row_m <= capacities[1] * share):
                    continue
                if order == 1 and count == 1 and wanted < 0:
                    continue  # the same as tokens-outer
                stays = order == 0 and resident
                passes = count if order == 0 else 1
                loaded_inputs = cols * tokens * held_bits / 8 * (1 if stays else row_tiles)
                moved = float(all_w + all_m) * passes + loaded_inputs + rows * tokens * act_bits / 8
                weight_reads = steps if output_stationary else count
                sums = (
                    rows * tokens * sum_bits / 8 * (col_tiles if output_stationary else col_groups)
                )  # written, and read
                inputs = cols * tokens * act_bits / 8 * row_groups * act_reads
                volumes = (float(all_w * weight_reads), float(all_m * weight_reads), inputs, sums)
                fills = (float(all_w * passes), float(all_m * passes), loaded_inputs, sums)
                busy = compute
                energy_pj = shared_pj + idle_pj * max(compute * macs - useful, 0.0) + dram_pj * 8 * moved
                for b in range(4):
                    energy_pj += 8 * (volumes[b] * read_pj[b] + fills[b] * write_pj[b])
                    if widths[b] > 0:
                        busy = max(busy, volumes[b] * (2 if b == 3 else 1) / widths[b])
                transfer = moved / bandwidth
                first = (first_bytes + tile_cols * t * held_bits / 8) / bandwidth
                last = last_rows * (tokens - (count - 1) * t) * act_bits / 8 / bandwidth
                table[n, SHAPE], table[n, TILE_TOKENS], table[n, ORDER], table[n, RESIDENT] = i, t, order, stays
                table[n, BOUND] = max(transfer, busy + first + last) if double else transfer + busy
                table[n, ENERGY] = energy_pj
                n += 1
    return table[:n]


def smallest_tile_refusal(machine: Machine, granules: Granules, sizes: TileBytes, work: Work) -> Refusal:
    """Why not even the smallest tile fits: the first buffer whose (half) capacity is too small for it."""
    buffers, number = machine.buffers, machine.number
    tokens = min(granules.token_step, work.tokens)
    rows, cols = int(sizes.level.rows[0]), int(sizes.level.cols[0])
    needs = (
        int((sizes.weight_bytes + sizes.scale_bytes).max()),
        int(sizes.metadata_bytes.max()),
        math.ceil(cols * tokens * work.held_bits(number.activation_bits) / 8),
        -(-rows * tokens * number.accumulator_bits // 8),
    )
    for name, need, capacity in zip(BUFFERS, needs, buffers.capacities, strict=True):
        if need > (capacity / 2 if buffers.double else capacity):
            where = f"the smallest tile, {rows} outputs x {cols} inputs x {tokens} tokens,"
            return too_small(where, f"buffers.{name}_kib", need, capacity, buffers.double)
    return Refusal(
        "larger buffers",
        where=f"the tile that mapping.* asks for, {rows} outputs x {cols} inputs, in this order",
        way_out="lower mapping.tile_tokens, or set them to 0 and the order to best",
    )
