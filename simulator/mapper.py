"""The mapper: tile sizes and loop order that fit the buffers and take the fewest cycles, for any design made of granules.

Tiles are 2^i x 2^j granules by the tokens' whole number or a power of two of token steps; the loop orders are

    tokens-outer   for token tile: for row tile: for column tile. Weights are loaded again for every token tile; the inputs of
                   a token tile once, if all of them stay on chip, else for every row tile.
    rows-outer     for row tile: for token tile: for column tile. The weights of a row tile stay on chip for all tokens; inputs
                   are loaded again for every row tile.

Partial sums stay in the output buffer until a row tile has seen all inputs. Candidates are ordered by an estimate (the longer
of computing and transferring, plus the first load and the last store) and walked through until no other can be better by more
than NEAR = 1/64; so more bandwidth or larger buffers never cost more than NEAR.
"""

import numpy as np
from numba import njit

from simulator.cycles import Infeasible, LayerCycles
from simulator.formats import scale_bits
from simulator.grid import Grid, Level, check_override, fingerprint, level_of, levels_of
from simulator.machine import Machine
from simulator.port import Port, port_of
from simulator.schedule import ORDERS, Candidate, Sizes, schedule
from simulator.statistics import Statistics
from simulator.work import Work

NEAR = 1 / 64


def best_layer(
    machine: Machine, macs: int, grid: Grid, statistics: Statistics, work: Work, note: str = ""
) -> LayerCycles:
    """The layer under the best mapping. `macs` are the machine's MAC units, `note` goes in front of the mapping's text.

    Raises Infeasible when not even the smallest tile fits, UserError for an override that is no multiple of the granule.
    """
    port = port_of(machine.dram, machine.clock.mhz)
    sizes, facts = sizes_of(machine, grid, statistics, work)
    tiles = token_tiles(machine, work.tokens, grid.token_step)
    table = candidate_table(facts, np.array(tiles), *_scalars(machine, port, grid, work))
    if not len(table):
        raise Infeasible(smallest_tile_text(machine, grid, sizes[0], work))
    table = table[np.argsort(table[:, 5], kind="stable")]
    lowest = np.minimum.accumulate(table[::-1, 4])[::-1]  # of this candidate and all after it
    best: LayerCycles | None = None
    for row, bound in zip(table, lowest, strict=True):
        if best is not None and best.cycles <= bound * (1 + NEAR):
            break
        candidate = Candidate(sizes[int(row[0])], int(row[1]), row[2] == 0, bool(row[3]))
        layer = schedule(machine, port, macs, grid, candidate, work, note)
        if best is None or layer.cycles < best.cycles:
            best = layer
    assert best is not None
    return best


def chosen_levels(machine: Machine, grid: Grid, statistics: Statistics) -> list[Level]:
    """All levels, or the ones that the overrides leave."""
    tile_rows, tile_cols = machine.mapping.tile_rows, machine.mapping.tile_cols
    levels = levels_of(statistics, grid)
    if not tile_rows and not tile_cols:
        return levels
    granule_rows, granule_cols = grid.granule
    row_options = {level.row_granules for level in levels}
    col_options = {level.col_granules for level in levels}
    if tile_rows:
        row_options = {check_override("tile_rows", tile_rows, granule_rows, int(grid.rows.sum()))}
    if tile_cols:
        col_options = {check_override("tile_cols", tile_cols, granule_cols, int(grid.cols.sum()))}
    return [level_of(grid, a, b) for a in sorted(row_options) for b in sorted(col_options)]


def sizes_of(machine: Machine, grid: Grid, statistics: Statistics, work: Work) -> tuple[list[Sizes], np.ndarray]:
    """Every level's bytes, and its facts as one table (levels, 10) int64; kept with the statistics."""
    number = machine.number
    width = work.width(number.weight_bits)
    quantized = work.weight_bits is not None and work.weight_bits <= number.weight_bits
    key = ("sizes", *fingerprint(grid), machine.mapping, width, quantized, work.group_size, number.scale_bits)
    if key not in statistics.memo:
        sizes = []
        for level in chosen_levels(machine, grid, statistics):
            scale, zero = (number.scale_bits, width) if quantized else (0, 0)
            scales = scale_bits(level.rows, level.cols, work.group_size, scale, zero)
            bits = (level.values * width, level.metadata_bits, scales)
            sizes.append(Sizes(level, *(-(-b // 8) for b in bits)))
        statistics.memo[key] = sizes, np.array([s.facts() for s in sizes], dtype=np.int64)
    return statistics.memo[key]


def token_tiles(machine: Machine, tokens: int, step: int) -> list[int]:
    """All tokens at once, or powers of two of steps below; or the override."""
    if machine.mapping.tile_tokens:
        check_override("tile_tokens", machine.mapping.tile_tokens, step, tokens)
        return [min(machine.mapping.tile_tokens, tokens)]
    return [tokens, *(step << i for i in range(tokens.bit_length()) if step << i < tokens)]


def _scalars(machine: Machine, port: Port, grid: Grid, work: Work) -> tuple:
    """The numbers that all candidates share, in the order of candidate_table's parameters."""
    number, buffers = machine.number, machine.buffers
    wanted = {"best": -1, ORDERS[0]: 0, ORDERS[1]: 1}[machine.mapping.order]
    step_total, visit_total = float(grid.step_cycles.sum()) / grid.step_unit, float(grid.visit_cycles.sum())
    return (
        *(work.rows, work.cols, work.tokens, number.activation_bits, number.accumulator_bits),
        *(grid.token_step, step_total, visit_total, grid.stationary == "output", grid.act_reads),
        *(len(grid.rows), len(grid.cols), np.array(buffers.capacities), np.array(buffers.widths)),
        *(buffers.double, port.bytes_per_cycle, wanted),
    )


@njit(cache=True, nogil=True)
def candidate_table(
    facts, tiles, rows, cols, tokens, act_bits, sum_bits,
    step, step_total, visit_total, output_stationary, act_reads,
    row_groups, col_groups, capacities, widths, double, bandwidth, wanted,
):  # fmt: skip
    """What fits, (n, 6): level, token tile, order (0 tokens-outer, 1 rows-outer), inputs resident, lower bound, estimate.

    The bound is the longest of computing, transferring and reading each buffer (their sum where buffers are single).
    """
    table = np.empty((len(facts) * len(tiles) * 2, 6))
    n = 0
    share = 0.5 if double else 1.0
    for i in range(len(facts)):
        tile_rows, tile_cols, row_tiles, col_tiles, most_w, most_m, row_w, row_m, all_w, all_m = facts[i]
        if most_w > capacities[0] * share or most_m > capacities[1] * share:
            continue
        for t in tiles:
            if tile_rows * t * sum_bits / 8 > capacities[3] * share:
                continue
            streamed = tile_cols * t * act_bits / 8 <= capacities[2] * share
            resident = cols * t * act_bits / 8 <= capacities[2] * (1.0 if t == tokens else share)
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
                moved = (all_w + all_m) * (count if order == 0 else 1) + rows * tokens * act_bits / 8
                moved += cols * tokens * act_bits / 8 * (1 if stays else row_tiles)
                weight_reads = steps if output_stationary else count
                sums = rows * tokens * sum_bits / 8 * 2 * (col_tiles if output_stationary else col_groups)
                inputs = cols * tokens * act_bits / 8 * row_groups * act_reads
                busy = compute
                volumes = (float(all_w * weight_reads), float(all_m * weight_reads), float(inputs), float(sums))
                for b in range(4):
                    if widths[b] > 0:
                        busy = max(busy, volumes[b] / widths[b])
                transfer = moved / bandwidth
                bound = max(busy, transfer) if double else busy + transfer
                first = (most_w + most_m + tile_cols * t * act_bits / 8) / bandwidth
                last = tile_rows * t * act_bits / 8 / bandwidth
                table[n, 0], table[n, 1], table[n, 2], table[n, 3] = i, t, order, stays
                table[n, 4] = bound
                table[n, 5] = bound + first + last + 1e-3 * row_tiles * col_tiles * count
                n += 1
    return table[:n]


def smallest_tile_text(machine: Machine, grid: Grid, sizes: Sizes, work: Work) -> str:
    """Why not even the smallest tile fits: the first buffer whose (half) capacity is too small for it."""
    halves = machine.buffers.double
    tokens = min(grid.token_step, work.tokens)
    rows, cols = int(sizes.level.rows[0]), int(sizes.level.cols[0])
    needs = {
        "weight_kib": int((sizes.weight_bytes + sizes.scale_bytes).max()),
        "index_kib": int(sizes.metadata_bytes.max()),
        "activation_kib": -(-cols * tokens * machine.number.activation_bits // 8),
        "output_kib": -(-rows * tokens * machine.number.accumulator_bits // 8),
    }
    for (buffer, need), capacity in zip(needs.items(), machine.buffers.capacities, strict=True):
        bound = capacity / 2 if halves else capacity
        if need > bound:
            where = f"half of buffers.{buffer}, which holds" if halves else f"buffers.{buffer}, which holds"
            return (
                f"the smallest tile, {rows} outputs x {cols} inputs x {tokens} tokens, needs {need:,} B in {where} {bound:,.0f} B; "
                f"raise it to {need / (512 if halves else 1024):.4g}"
            )
    return (
        f"the tile that mapping.* asks for, {rows} outputs x {cols} inputs, does not fit the buffers in this order; "
        "lower mapping.tile_tokens, or set them to 0 and the order to best"
    )
