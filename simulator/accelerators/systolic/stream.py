"""Buffer tiles of a GEMM on a systolic array: the plans that fit the buffers, and the stream of tiles of a plan.

Array tiles (folds) are gathered into buffer tiles of `outer` x `inner` of them. The dataflows:

    ws   weights stay: outer = outputs, inner = inputs, tokens stream. Inputs are loaded again for every outer tile,
    unless
         all of them stay on chip; partial sums of an outer tile stay in the output buffer until its last inner tile.
    is   inputs stay: outer = tokens, inner = inputs, outputs (rows of W) stream; weights take the part of the inputs.
    os   outputs stay: outer = tokens and inner = outputs (tokens-outer), or the other way round (rows-outer); inputs
    stream.
         The outer operand is loaded once, the inner one for every outer tile, unless all of it stays on chip.

Where the whole stream of a fold does not fit, buffer tiles are single folds whose stream comes in chunks, a power of
two long: the array waits in mid-fold, so that chunks add no fill. ws and is then load and store the partial sums of
every chunk at every inner tile, where those of a whole outer tile do not fit either (spilled).
"""

from dataclasses import dataclass

import numpy as np

from simulator.cycles import ceil_div
from simulator.engine import Stream
from simulator.formats import index_bits, scale_bits
from simulator.machine.parts import Buffers
from simulator.machine.port import Port


@dataclass(frozen=True)
class Gemm:
    """A layer as the array multiplies it. n of every m inputs have a slot, a row of the array (1 of 1: dense).

    distinct: the share of the inputs that DRAM brings and buffers hold, as Work has it.
    scale_bits: of a scale and a zero point, 0 where weights have none; group_size: inputs that share them (None: all).
    """

    outputs: int
    inputs: int
    tokens: int
    n: int
    m: int
    weight_bits: int
    scale_bits: int
    group_size: int | None
    activation_bits: int
    sum_bits: int
    distinct: float = 1.0

    @property
    def held_bits(self) -> float:
        """Of an input that DRAM brings."""
        return self.activation_bits * self.distinct

    @property
    def slots(self) -> int:
        return ceil_div(self.inputs, self.m) * self.n

    @property
    def index_bits(self) -> int:
        """Metadata of one slot."""
        return index_bits(self.m) if self.m > 1 else 0

    def cut(self, block: int) -> "Cut":
        """The slots in blocks of `block`. A group of m inputs that two blocks share is loaded for both."""
        starts = np.arange(0, self.slots, block, dtype=np.int64)
        stops = np.minimum(starts + block, self.slots)
        last = np.minimum(-(-stops // self.n) * self.m, self.inputs)
        return Cut(stops - starts, last - starts // self.n * self.m, np.diff(last, prepend=0))

    def weight_bytes(self, outputs: np.ndarray, cut: "Cut") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values, metadata and scales of every block, each (len(outputs), blocks) int64."""
        slots = outputs[:, None] * cut.slots
        scales = scale_bits(outputs, cut.owned, self.group_size, self.scale_bits, 0)
        return -(-slots * self.weight_bits // 8), -(-slots * self.index_bits // 8), -(-scales // 8)

    def input_bytes(self, inputs: np.ndarray, tokens: np.ndarray | int) -> np.ndarray:
        """As DRAM brings them."""
        if self.distinct == 1:
            return self.read_bytes(inputs, tokens)
        return np.ceil(inputs * tokens * self.held_bits / 8).astype(np.int64)

    def read_bytes(self, inputs: np.ndarray, tokens: np.ndarray | int) -> np.ndarray:
        """As the array reads them, once."""
        return -(-inputs * tokens * self.activation_bits // 8)


@dataclass(frozen=True)
class Cut:
    """Blocks of slots, (blocks,) int64 each: slots, inputs they choose from, and inputs that no block before has."""

    slots: np.ndarray
    inputs: np.ndarray
    owned: np.ndarray


@dataclass(frozen=True)
class Fabric:
    """Array tiles of `rows` x `cols` (all arrays' columns together); a fold of a stream of s takes fill_cycles + s."""

    rows: int
    cols: int
    fill_cycles: int


@dataclass(frozen=True)
class Plan:
    """outer, inner: folds of a buffer tile; chunk: of the stream; resident: the operand that is needed again stays on
    chip;
    kept: os, the outer operand stays while inner tiles pass (always, unless chunked); spilled: partial sums do not
    stay."""

    order: str
    outer: int
    inner: int
    chunk: int
    resident: bool
    kept: bool
    spilled: bool


@dataclass(frozen=True)
class Tiles:
    """Buffer tiles of a plan, arrays (outer kinds, inner tiles, chunk kinds); `outer_times` and `chunk_times` say how
    often each kind comes. Bytes that are loaded and stored, array cycles, and bits that leave and enter the buffers."""

    outer_times: np.ndarray
    chunk_times: np.ndarray
    compute: np.ndarray
    weights: np.ndarray
    metadata: np.ndarray
    scales: np.ndarray
    inputs: np.ndarray
    sums: np.ndarray  # partial sums loaded back
    stored: np.ndarray
    weight_reads: np.ndarray  # bits from here
    index_reads: np.ndarray
    input_reads: np.ndarray
    sum_reads: np.ndarray
    sum_writes: np.ndarray

    def total(self, values: np.ndarray) -> float:
        return (values * (self.outer_times[:, None, None] * self.chunk_times)).sum()

    def stream(self, buffers: Buffers, port: Port) -> Stream:
        loads = self.weights + self.metadata + self.scales + self.inputs + self.sums
        parts = port.cycles(loads), self.busy(buffers), port.store_cycles(self.stored)
        outers, inners, chunks = self.compute.shape
        flat = outers * inners * int(self.chunk_times.sum())
        runs = int(self.outer_times.sum()) * inners * chunks
        if chunks == 1 or flat <= runs:  # chunks one by one, an outer tile the unit that repeats
            load, compute, store = (np.repeat(part, self.chunk_times, axis=2).ravel() for part in parts)
            steps = len(load) // outers
            starts = steps * np.arange(outers, dtype=np.int64)
            return Stream(load, compute, store, np.stack([starts, starts + steps, self.outer_times], axis=1))
        # chunks are the unit that repeats
        kinds = np.repeat(np.arange(outers), self.outer_times)
        starts = (kinds[:, None] * (inners * chunks) + np.arange(inners * chunks)).ravel()
        times = np.tile(self.chunk_times, len(starts) // chunks)
        load, compute, store = (part.ravel() for part in parts)
        return Stream(load, compute, store, np.stack([starts, starts + 1, times], axis=1))

    def busy(self, buffers: Buffers) -> np.ndarray:
        """Cycles of every tile: the array's, or the slowest buffer's; filling takes a single-ported one's cycles as
        well."""
        busy = self.compute
        reads = (self.weight_reads, self.index_reads, self.input_reads, self.sum_reads + self.sum_writes)
        fills = (self.weights + self.scales, self.metadata, self.inputs, self.sums)
        for width, bits, fill in zip(buffers.widths, reads, fills, strict=True):
            if width:
                moved = bits / 8 + (fill if buffers.ports == 1 else 0)
                busy = np.maximum(busy, np.ceil(moved / width).astype(np.int64))
        return busy


def pieces(total: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """(sizes, times) of `total` cut into `block`s: the first, those in the middle, the last, as far as there are
    any."""
    count = ceil_div(total, block)
    last = total - (count - 1) * block
    kinds = [(block, 1)] * (count > 1) + [(block, count - 2)] * (count > 2) + [(last, 1)]
    sizes, times = np.array(kinds, dtype=np.int64).T
    return sizes, times


def tiles_of(gemm: Gemm, fabric: Fabric, dataflow: str, plan: Plan) -> Tiles:
    return moving_outputs(gemm, fabric, dataflow, plan) if dataflow != "os" else standing_outputs(gemm, fabric, plan)


def moving_outputs(gemm: Gemm, fabric: Fabric, dataflow: str, plan: Plan) -> Tiles:
    """ws and is: one operand stands in the array, the other and the partial sums pass."""
    weights_stay = dataflow == "ws"
    outer, outer_times = pieces(gemm.outputs if weights_stay else gemm.tokens, plan.outer * fabric.cols)
    chunk, chunk_times = pieces(gemm.tokens if weights_stay else gemm.outputs, plan.chunk)
    cut = gemm.cut(plan.inner * fabric.rows)
    shape = (len(outer), len(cut.slots), len(chunk))
    outer_folds, inner_folds = -(-outer // fabric.cols), -(-cut.slots // fabric.rows)
    folds = outer_folds[:, None, None] * inner_folds[:, None]
    compute = folds * chunk
    compute[:, :, :1] += folds * fabric.fill_cycles
    compute[-1, -1, -1] -= 1  # the cycle that the last result leaves in is numbered from 0
    weights, metadata, scales, inputs, sums, stored = np.zeros((6, *shape), dtype=np.int64)
    weight_reads, index_reads, input_reads = np.zeros((3, *shape))
    if weights_stay:
        for array, part in zip((weights, metadata, scales), gemm.weight_bytes(outer, cut), strict=True):
            array[:, :, 0] = part
        inputs[:] = gemm.input_bytes(cut.inputs[:, None], chunk)
        weight_reads[:], index_reads[:] = 8.0 * (weights + scales), 8.0 * metadata
        input_reads[:] = 8.0 * gemm.read_bytes(cut.inputs[:, None], chunk) * outer_folds[:, None, None]
        again = [inputs]
    else:
        inputs[:, :, 0] = gemm.input_bytes(cut.inputs, outer[:, None])
        for array, part in zip((weights, metadata, scales), gemm.weight_bytes(chunk, cut), strict=True):
            array[:] = part.T
        input_reads[:, :, 0] = 8.0 * gemm.read_bytes(cut.inputs, outer[:, None])
        weight_reads[:] = 8.0 * (weights + scales) * outer_folds[:, None, None]
        index_reads[:] = 8.0 * metadata * outer_folds[:, None, None]
        again = [weights, metadata, scales]
    if plan.resident:
        for array in again:
            array[1:] = 0
    results = outer[:, None, None] * chunk  # (outer kinds, 1, chunk kinds)
    stored[:, -1:] = -(-results * gemm.activation_bits // 8)
    bits = np.broadcast_to(results * float(gemm.sum_bits), shape)
    sum_writes = bits * inner_folds[:, None]  # every fold adds to what the one before left
    sum_reads = sum_writes.copy()
    sum_reads[:, :1] -= bits[:, :1]  # but the first starts from zero
    sum_reads[:, -1:] += bits[:, -1:]  # leaving for DRAM
    if plan.spilled:
        spill = -(-results * gemm.sum_bits // 8)
        sums[:, 1:], stored[:, :-1] = spill, spill
        sum_writes[:, 1:] += bits[:, 1:]
        sum_reads[:, :-1] += bits[:, :-1]
    return Tiles(
        *(outer_times, chunk_times, compute, weights, metadata, scales, inputs, sums, stored),
        *(weight_reads, index_reads, input_reads, sum_reads, sum_writes),
    )


def standing_outputs(gemm: Gemm, fabric: Fabric, plan: Plan) -> Tiles:
    """os: sums stand in the array, both operands pass; chunks are written out one by one, as scales differ between
    them."""
    tokens_outer = plan.order == "tokens-outer"
    outer_tile, inner_tile = (fabric.rows, fabric.cols) if tokens_outer else (fabric.cols, fabric.rows)
    outer_total, inner_total = (gemm.tokens, gemm.outputs) if tokens_outer else (gemm.outputs, gemm.tokens)
    outer, outer_times = pieces(outer_total, plan.outer * outer_tile)
    starts = np.arange(0, inner_total, plan.inner * inner_tile, dtype=np.int64)
    inner = np.minimum(plan.inner * inner_tile, inner_total - starts)
    cut = gemm.cut(plan.chunk)
    shape = (len(outer), len(inner), len(cut.slots))
    outer_folds, inner_folds = -(-outer // outer_tile), -(-inner // inner_tile)
    folds = outer_folds[:, None, None] * inner_folds[:, None]
    compute = folds * cut.slots
    compute[:, :, :1] += folds * fabric.fill_cycles
    compute[-1, -1, -1] -= 1  # the cycle that the last result leaves in is numbered from 0
    weights, metadata, scales, inputs, stored = np.zeros((5, *shape), dtype=np.int64)
    outputs, tokens = (inner, outer) if tokens_outer else (outer, inner)
    sides = (slice(None), None) if tokens_outer else (None, slice(None))  # tokens along the first or the second axis
    inputs[:] = gemm.input_bytes(cut.inputs, tokens[:, None])[sides]
    for array, part in zip((weights, metadata, scales), gemm.weight_bytes(outputs, cut), strict=True):
        array[:] = part[sides[::-1]]
    output_folds, token_folds = (inner_folds, outer_folds) if tokens_outer else (outer_folds, inner_folds)
    read = np.broadcast_to(gemm.read_bytes(cut.inputs, tokens[:, None])[sides], shape)
    input_reads = 8.0 * read * output_folds[sides[::-1]][..., None]
    weight_reads = 8.0 * (weights + scales) * token_folds[sides][..., None]
    index_reads = 8.0 * metadata * token_folds[sides][..., None]
    for array in (inputs, weights, metadata, scales):
        if (array is inputs) == tokens_outer:
            array[:, 1 if plan.kept else shape[1] :] = 0
        elif plan.resident:
            array[1:] = 0
    results = outer[:, None] * inner
    stored[:, :, -1] = -(-results * gemm.activation_bits // 8)
    sum_writes = np.zeros(shape)
    sum_writes[:, :, -1] = results * float(gemm.sum_bits)
    once, no_sums = np.ones(shape[2], dtype=np.int64), np.zeros(shape, dtype=np.int64)
    return Tiles(
        *(outer_times, once, compute, weights, metadata, scales, inputs, no_sums, stored),
        *(weight_reads, index_reads, input_reads, sum_writes, sum_writes),
    )
