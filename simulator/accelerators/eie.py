"""EIE: columns of compressed weights spread over processing elements (PEs), nonzero inputs broadcast into their queues.

Source: Han et al., "EIE: Efficient Inference Engine on Compressed Deep Neural Network" (ISCA 2016, arXiv 1602.01528).

PE p holds the rows i with i mod PEs = p. Its part of a column is stored as entries of a 4-bit weight and the 4-bit
number of zeros in front of it; where more than 15 zeros stand in front of a kept weight, a padding zero is stored as
an entry of its own (section III-B), so g zeros cost floor(g / 16) of them. Each PE has a 16-bit pointer a column and
one more. The central unit broadcasts one nonzero input a cycle into the queue of every PE, unless any queue is full
(section IV). A PE works on the input at the head of its queue: one entry of that column a cycle, padding zeros as
well, and one cycle for a column of which it holds nothing (the pointers are read all the same). `array.fifo_depth`
counts the input being worked on, so depth 1 is lock step by columns (and idles for about half of the cycles, as in the
paper's figure 8). With e(k, p) entries of the k-th nonzero input in PE p,
  finish(k, p) = max(finish(k - 1, p), sent(k)) + max(1, e(k, p))
  sent(k) = max(sent(k - 1) + 1, max over p of finish(k - depth, p)),
which is the queues exactly, no window. Tokens follow one another; all queues run empty in between.

All weights are in SRAM before the layer starts, as EIE has them: loading them is not charged and DRAM carries only
inputs and outputs. A layer whose fullest PE exceeds its part of buffers.weight_kib (weights, scales) or
buffers.index_kib (zero counts, pointers) does not fit; larger buffers or more PEs can be set. The dense baseline
stores every weight without zero counts and pointers; where buffers.weight_kib does not hold that, there is no baseline
and no speedup. Fewer kept weights never add cycles: dropping one removes an entry and adds at most one padding zero.

Deviations and approximations: the weights are taken as 4-bit indices of EIE's codebook of 16 shared values, whatever
the bundle holds, or as narrower codes where it holds such; clustering them, and what that does to accuracy, is not
modelled, and the codebook's own bits are not counted. Scales of quantized bundles take weight SRAM, no cycles. Pipeline
depth (four stages) and the tree that finds nonzero inputs cost nothing. EIE cuts vectors of more than 4096 inputs into
batches; here queues run through. Pointers take more than 16 bits where a PE holds 65,536 entries or more (a full 128
KiB SRAM has 131,072). Multiplications are counted at the stored weight width, where EIE's multiplier takes the
looked-up 16-bit value. Sparse inputs: exactly round(activation density x inputs) nonzeros at seeded random places,
SAMPLES draws in turn for all tokens; the same draws for every layer of a width, and transferred dense, as EIE stores
them. On random masks with the densities of its nine benchmark layers, EIE's published times (Table IV) are between 5 %
below and 39 % above this model's: trained masks are less even than random ones, and densities are published as whole
percents. In RTL (docs/validation/rtl.md) the first input of a token reaches the queues a cycle after it is sent: a
cycle a token more than here.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit

from simulator.accelerators.accelerator import Accelerator, Values
from simulator.actions import BUFFERS, Actions
from simulator.cycles import Infeasible, LayerCycles, ceil_div
from simulator.engine import Stream, run
from simulator.formats import RUN_BITS, scale_bits
from simulator.machine.fit import too_small
from simulator.machine.parts import Machine, PositiveInt, Side
from simulator.machine.port import port_of
from simulator.statistics import Statistics
from simulator.work import Work
from workloads.errors import UserError
from workloads.mask import PackedMask
from workloads.refusals import Refusal

POINTER_BITS = 16
SAMPLES = 4


@dataclass(frozen=True)
class EieArray:
    pes: Side
    fifo_depth: PositiveInt


@dataclass(frozen=True)
class EieSpec(Machine):
    array: EieArray

    @property
    def macs(self) -> int:
        return self.array.pes


class Eie(Accelerator):
    name = "eie"
    spec_type = EieSpec
    spec: EieSpec
    skips_zero_inputs = True
    notes = (
        "Weights lie in SRAM before the layer starts: loading them is not charged, and the bytes of a row are inputs "
        "and outputs only.",
        "The dense baseline must lie in SRAM as well, 4 bits a weight; raise buffers.weight_kib where it does not fit, "
        "or there is no speedup.",
        "Weights are taken as 4-bit indices of a codebook of 16 shared values, also where the bundle holds floats or "
        "8-bit weights.",
        "A PE spends one cycle on a column of which it holds nothing; pipeline depth and the search for nonzero inputs "
        "cost none.",
        "Sparse inputs are a seeded sample of four tokens with exactly the asked share of nonzeros; they are "
        "transferred dense.",
        "Multiply energy is at the stored weight width, not at the 16 bits of EIE's looked-up weights.",
    )

    def geometry(self) -> list[int]:
        return [self.spec.array.pes]

    def gather(self, mask: PackedMask, values: Values) -> dict[str, np.ndarray]:
        """entries: (cols, pes) stored entries, padding zeros included; encoded: (1,) whether zero counts and pointers
        are stored."""
        most = ceil_div(mask.rows, self.spec.array.pes)
        entries = np.zeros((mask.cols, self.spec.array.pes), dtype=np.min_scalar_type(most))
        slice_entries(mask.words, most.bit_length(), entries)
        return {"entries": entries, "encoded": np.ones(1, dtype=np.int64)}

    def dense(self, rows: int, cols: int) -> dict[str, np.ndarray]:
        held = (rows + self.spec.array.pes - 1 - np.arange(self.spec.array.pes)) // self.spec.array.pes
        return {
            "entries": np.tile(held.astype(np.min_scalar_type(rows)), (cols, 1)),
            "encoded": np.zeros(1, dtype=np.int64),
        }

    def layer(self, work: Work, statistics: Statistics) -> LayerCycles:
        """Raises Infeasible where the layer does not fit, UserError for mapping overrides: nothing is tiled."""
        mapping = self.spec.mapping
        if mapping.tile_rows or mapping.tile_cols or mapping.tile_tokens or mapping.order != "best":
            raise UserError(
                "eie runs a layer whole, token after token; set mapping.tile_rows, tile_cols and tile_tokens to 0, "
                "order to best"
            )
        held, encoded = self._held(statistics), bool(statistics["encoded"][0])
        fullest = int(held[0].max())
        self.check_weights(work, fullest, encoded)
        self.check_vectors(work)
        spec, samples = self.spec, nonzero_inputs(work.cols, work.activation_density)
        token_cycles, token_entries = self._queues(work, statistics, samples)
        times = np.array([len(range(i, work.tokens, len(samples))) for i in range(len(samples))], dtype=np.int64)
        reads, fills = self._buffer_bits(work, token_entries, len(samples[0]), fullest, encoded)
        busy = token_cycles
        for width, read, fill in zip(spec.buffers.widths, reads, fills, strict=True):
            if width:
                bits = read + fill * (spec.buffers.ports == 1)
                busy = np.maximum(busy, np.ceil(bits / (8 * width)).astype(np.int64))
        input_bytes = ceil_div(work.cols * spec.number.activation_bits, 8)
        output_bytes = ceil_div(work.rows * spec.number.activation_bits, 8)
        port = port_of(spec.dram, spec.clock.mhz)
        same, order = np.ones(len(samples), dtype=np.int64), np.arange(len(samples))
        load, store = port.cycles(input_bytes * same), port.store_cycles(output_bytes * same)
        stream = Stream(load, busy, store, np.stack([order, order + 1, times], axis=1))
        cycles, compute_cycles = run(stream, spec.buffers.double), stream.total(token_cycles)
        useful = work.nnz * work.tokens * work.activation_density
        read_bits = [float((read * times).sum()) for read in reads]
        return LayerCycles(
            compute_cycles=compute_cycles,
            stall_cycles=cycles - compute_cycles,
            buffer_cycles=stream.total(busy) - compute_cycles,
            transfer_cycles=stream.total(stream.load) + stream.total(stream.store),
            ideal_cycles=useful / spec.macs,
            weight_bytes=0,
            metadata_bytes=0,
            activation_bytes=input_bytes * work.tokens,
            output_bytes=output_bytes * work.tokens,
            mapping=f"in SRAM, {fullest:,} entries in the fullest PE" if encoded else "dense, in SRAM",
            actions=Actions(
                macs=useful,
                idle_macs=max(compute_cycles * spec.macs - useful, 0.0),
                read_bits=(read_bits[0], read_bits[1], read_bits[2], read_bits[3]),
                write_bits=(0.0, 0.0, 8.0 * input_bytes * work.tokens, float(fills[3] * work.tokens)),
                dram_bits=8.0 * (input_bytes + output_bytes) * work.tokens,
            ),
            stream=stream,
        )

    def _held(self, statistics: Statistics) -> tuple[np.ndarray, np.ndarray]:
        """Entries of every PE (pes,) and of every column (cols,)."""
        if "held" not in statistics.memo:
            entries = statistics["entries"]
            statistics.memo["held"] = entries.sum(axis=0, dtype=np.int64), entries.sum(axis=1, dtype=np.int64)
        return statistics.memo["held"]

    def _queues(self, work: Work, statistics: Statistics, samples: tuple[np.ndarray, ...]) -> np.ndarray:
        """(2, samples): cycles of a token with the nonzero inputs of each sample, and entries that it reads."""
        depth = self.spec.array.fifo_depth
        key = ("queues", depth, work.activation_density)
        if key not in statistics.memo:
            by_column = self._held(statistics)[1]
            found = [(queue_cycles(statistics["entries"], s, depth), int(by_column[s].sum())) for s in samples]
            statistics.memo[key] = np.array(found, dtype=np.int64).T
        return statistics.memo[key]

    def _buffer_bits(
        self, work: Work, token_entries: np.ndarray, nonzeros: int, fullest: int, encoded: bool
    ) -> tuple[tuple, tuple]:
        """Bits that a token reads from each buffer and writes to it, in the order of BUFFERS; sums leave the
        accumulators once."""
        number = self.spec.number
        sum_bits = work.rows * number.accumulator_bits
        index_bits = encoded * (token_entries * RUN_BITS + nonzeros * self.spec.array.pes * 2 * pointer_bits(fullest))
        weight_bits = token_entries * work.width(number.weight_bits)
        reads = (weight_bits, index_bits, nonzeros * number.activation_bits, sum_bits)
        return reads, (0, 0, work.cols * number.activation_bits, sum_bits)

    def pe_bits(self, work: Work, entries: int, encoded: bool = True) -> tuple[int, int]:
        """Bits that a PE of `entries` entries needs of weight and of index SRAM. Scales are spread evenly over the
        PEs."""
        number = self.spec.number
        width = work.width(number.weight_bits)
        scales = 0
        if work.weight_bits is not None and work.weight_bits <= number.weight_bits:
            one = np.array([work.rows]), np.array([work.cols])
            scales = ceil_div(
                int(scale_bits(*one, work.group_size, number.scale_bits, width).sum()), self.spec.array.pes
            )
        return entries * width + scales, encoded * (entries * RUN_BITS + (work.cols + 1) * pointer_bits(entries))

    def check_weights(self, work: Work, fullest: int, encoded: bool) -> None:
        """Raises Infeasible where the fullest PE does not hold its entries."""
        pes = self.spec.array.pes
        needed = zip(BUFFERS[:2], self.pe_bits(work, fullest, encoded), self.spec.buffers.capacities[:2], strict=True)
        for buffer, bits, capacity in needed:
            if bits > 8 * capacity / pes:
                raise Infeasible(
                    Refusal(
                        resource=f"its part of buffers.{buffer}_kib",
                        need=ceil_div(bits, 8),
                        bound=capacity / pes,
                        unit="B",
                        way_out=f"raise it to {ceil_div(bits * pes, 8192):,}, or array.pes",
                        where=f"the fullest of {pes} PEs, with {fullest:,} entries,",
                    )
                )

    def check_vectors(self, work: Work) -> None:
        """Raises Infeasible where the inputs or the sums of one token do not fit (half of) their buffer."""
        number, buffers = self.spec.number, self.spec.buffers
        needs = (work.cols * number.activation_bits, work.rows * number.accumulator_bits)
        for buffer, bits, capacity in zip(BUFFERS[2:], needs, buffers.capacities[2:], strict=True):
            if bits > 8 * (capacity / 2 if buffers.double else capacity):
                raise Infeasible(
                    too_small("one token", f"buffers.{buffer}_kib", ceil_div(bits, 8), capacity, buffers.double)
                )


@njit(cache=True, nogil=True)
def slice_entries(words: np.ndarray, n_planes: int, entries: np.ndarray) -> None:
    """Adds up `entries` (cols, pes) from mask words (rows, n_words), 64 columns at a time.

    Bit p of a column's count is in plane p. A PE's rows are visited from the last to the first: zeros count once a kept
    weight was seen (zeros below it are not stored), in a 4-bit counter whose overflow is a padding zero.
    """
    rows, n_words = words.shape
    cols, pes = entries.shape
    planes = np.zeros((n_planes, n_words), dtype=np.uint64)
    zeros = np.zeros((4, n_words), dtype=np.uint64)
    seen = np.zeros(n_words, dtype=np.uint64)
    carry = np.zeros(n_words, dtype=np.uint64)
    # Per column of a word: planes are the bits of its entries so far, zeros those of a counter modulo 16 of the zeros
    # since the last kept weight below; both are added to for 64 columns at once, `up` carrying from bit to bit.
    for p in range(min(pes, rows)):
        planes[:] = 0
        zeros[:] = 0
        seen[:] = 0
        for r in range(p + (rows - 1 - p) // pes * pes, -1, -pes):
            for w in range(n_words):
                kept = words[r, w]
                seen[w] |= kept
                up = seen[w] & ~kept
                for b in range(4):
                    bit = zeros[b, w] & ~kept
                    zeros[b, w] = bit ^ up
                    up &= bit
                carry[w] = kept | up
            for plane in planes:
                for w in range(n_words):
                    up = plane[w] & carry[w]
                    plane[w] ^= carry[w]
                    carry[w] = up
        for c in range(cols):
            count = 0
            for b in range(n_planes):
                count |= int((planes[b, c >> 6] >> np.uint64(c & 63)) & np.uint64(1)) << b
            entries[c, p] = count


@njit(cache=True, nogil=True)
def queue_cycles(entries: np.ndarray, columns: np.ndarray, depth: int) -> int:
    """Cycles from the first broadcast until every PE is done, of the inputs `columns` in order; entries (cols, pes)."""
    pes = entries.shape[1]
    finish = np.zeros(pes, dtype=np.int64)
    slowest = np.zeros(depth, dtype=np.int64)  # ring: of input k, the PE that is last to finish it
    sent, latest = -1, 0
    # Before input k: finish[p], when PE p is done with the inputs before; sent, when input k - 1 was broadcast;
    # slowest[k % depth], when the last PE finishes input k - depth, whose place in the queue input k takes.
    for k in range(len(columns)):
        column = entries[columns[k]]
        sent = max(sent + 1, slowest[k % depth])
        latest = 0
        for p in range(pes):
            finish[p] = max(finish[p], sent) + max(np.int64(column[p]), np.int64(1))
            latest = max(latest, finish[p])
        slowest[k % depth] = latest
    return latest


@lru_cache(maxsize=256)
def nonzero_inputs(cols: int, density: float) -> tuple[np.ndarray, ...]:
    """Ascending columns of the nonzero inputs of SAMPLES tokens; all inputs of one token where the density is 1. A
    larger density adds to the same draw."""
    if density == 1:
        return (np.arange(cols),)
    rng = np.random.default_rng(0)
    count = max(1, round(density * cols))
    return tuple(np.sort(rng.permutation(cols)[:count]) for _ in range(SAMPLES))


def pointer_bits(entries: int) -> int:
    """Of one pointer in a PE that holds `entries`."""
    return max(POINTER_BITS, entries.bit_length())
