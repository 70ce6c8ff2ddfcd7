"""The slow SIGMA: a list of multipliers a fold, a queue of messages a port, an adder a row."""

import math
from dataclasses import dataclass

import numpy as np

from simulator.accelerators.sigma.spec import SigmaSpec
from validation.twins.engine import slow_walk, to_bytes
from validation.twins.twin import TileRun, Twin

Slot = (
    tuple[int, int] | str | None
)  # (row, column) of a kept weight, "sum" for the partial sum, None for an idle multiplier


@dataclass
class Fold:
    slots: list[Slot]

    @property
    def room(self) -> int:
        return self.slots.count(None)

    def put(self, what: Slot) -> None:
        self.slots[self.slots.index(None)] = what


def empty(num_ms: int) -> Fold:
    return Fold([None] * num_ms)


def rows_packed(kept: np.ndarray, num_ms: int) -> list[Fold]:
    folds: list[Fold] = []
    open_fold: Fold | None = None
    for row in range(len(kept)):
        weights = [(row, k) for k in range(kept.shape[1]) if kept[row, k]]
        if not weights:
            continue
        if open_fold is not None and open_fold.room < len(weights):
            open_fold = None
        if len(weights) <= num_ms:
            if open_fold is None:
                open_fold = empty(num_ms)
                folds.append(open_fold)
            for weight in weights:
                open_fold.put(weight)
            continue
        first, rest = weights[:num_ms], weights[num_ms:]
        folds.append(Fold(list(first)))
        while rest:
            piece, rest = rest[: num_ms - 1], rest[num_ms - 1 :]
            fold = empty(num_ms)
            fold.put("sum")
            for weight in piece:
                fold.put(weight)
            folds.append(fold)
        open_fold = None
    return folds


def continuously_packed(kept: np.ndarray, num_ms: int) -> list[Fold]:
    folds: list[Fold] = []
    for row in range(len(kept)):
        begun = False
        for k in range(kept.shape[1]):
            if not kept[row, k]:
                continue
            if not folds or not folds[-1].room:
                folds.append(empty(num_ms))
                if begun:
                    folds[-1].put("sum")
            folds[-1].put((row, k))
            begun = True
    return folds


def packed(spec: SigmaSpec, kept: np.ndarray) -> list[Fold]:
    pack = rows_packed if spec.array.packing == "rows" else continuously_packed
    return pack(kept, spec.array.num_ms)


def distribution(spec: SigmaSpec, fold: Fold, tokens: int) -> int:
    """Messages of the port that has the most: a weight each, and for every token the partial sum and each distinct
    column."""
    group = spec.array.num_ms // spec.array.dn_bw
    longest = 0
    for port in range(spec.array.dn_bw):
        slots = fold.slots[port * group : (port + 1) * group]
        queue: list[str] = []
        for slot in slots:
            if isinstance(slot, tuple):
                queue.append(f"weight {slot}")
        columns = []
        for slot in slots:
            if isinstance(slot, tuple) and slot[1] not in columns:
                columns.append(slot[1])
        for token in range(tokens):
            if "sum" in slots:
                queue.append(f"sum of token {token}")
            for column in columns:
                queue.append(f"column {column} of token {token}")
        longest = max(longest, len(queue))
    return longest


def tree_levels(num_ms: int) -> int:
    levels, width = 0, 1
    while width < num_ms:
        levels, width = levels + 1, width * 2
    return levels


def run_layer(spec: SigmaSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray) -> TileRun:
    tokens, (rows, cols) = len(inputs), kept.shape
    result = TileRun(np.zeros((tokens, rows), dtype=np.int64), np.zeros((rows, cols), dtype=np.int64), 0)
    for fold in packed(spec, kept):
        result.cycles += 1 + distribution(spec, fold, tokens) + tree_levels(spec.array.num_ms) + 1
        for token in range(tokens):
            adders: dict[int, int] = {}
            carried = None
            for slot in fold.slots:
                if slot == "sum":
                    owner = next(s for s in fold.slots if isinstance(s, tuple))[0]
                    carried = owner
                    adders[owner] = int(result.outputs[token, owner])
                elif isinstance(slot, tuple):
                    row, k = slot
                    adders[row] = adders.get(row, 0) + int(weights[row, k]) * int(inputs[token, k])
                    result.uses[row, k] += 1
            for row, total in adders.items():
                assert row == carried or result.outputs[token, row] == 0
                result.outputs[token, row] = total
    return result


def slow_schedule(spec: SigmaSpec, kept: np.ndarray, tokens: int, tile: int, order: str, bits, group):
    """The layer walked fold by fold and tile by tile with plain numbers: cycles, and bytes of weights, bitmap,
    scales, inputs, outputs."""
    folds, number, buffers = packed(spec, kept), spec.number, spec.buffers
    rows, cols = kept.shape
    width, scale = (bits, number.scale_bits + bits) if bits else (number.weight_bits, 0)
    rate = spec.dram.bandwidth_gbps * 1e3 * spec.dram.efficiency / spec.clock.mhz
    weights = [[s for s in fold.slots if isinstance(s, tuple)] for fold in folds]
    begins = []
    for i, fold in enumerate(folds):
        row = weights[i][0][0]
        if i == 0:
            begins.append(0)
        elif "sum" in fold.slots:
            begins.append(row * cols + weights[i - 1][-1][1] + 1)
        else:
            begins.append(row * cols)
    begins.append(rows * cols)
    resident = cols * tokens * number.activation_bits / 8 <= buffers.activation_kib * 1024
    tiles = [range(t, min(t + tile, tokens)) for t in range(0, tokens, tile)]
    if order == "rows-outer":
        visits = [(f, t) for f in range(len(folds)) for t in range(len(tiles))]
    else:
        visits = [(f, t) for t in range(len(tiles)) for f in range(len(folds))]
    loads, computes, stores, moved = [], [], [], [0, 0, 0, 0, 0]
    for f, t in visits:
        n = len(tiles[t])
        first = order == "tokens-outer" or t == 0
        span = range(begins[f], begins[f + 1])
        used = len({k for _, k in weights[f]})
        starts = sum((p % cols) % (group or cols) == 0 for p in span)
        parts = [to_bytes(len(weights[f]) * width), to_bytes(len(span)), to_bytes(starts * scale)]
        parts = [part * first for part in parts]
        if f == 0 and (resident or order == "tokens-outer"):
            inputs = to_bytes(cols * n * number.activation_bits)
        else:
            inputs = 0 if resident or order == "tokens-outer" else to_bytes(used * n * number.activation_bits)
        finished = begins[f + 1] // cols - begins[f] // cols
        output = to_bytes(finished * n * number.activation_bits)
        whole = n if order == "tokens-outer" else tokens
        before = tiles[t][0] if order == "rows-outer" else 0
        # the port that is slowest over all the tokens that pass
        lines = []
        g = spec.array.num_ms // spec.array.dn_bw
        for p in range(spec.array.dn_bw):
            slots = folds[f].slots[p * g : (p + 1) * g]
            kept_here = [s for s in slots if isinstance(s, tuple)]
            lines.append((len(kept_here), len({k for _, k in kept_here}) + ("sum" in slots)))
        longest = max(w + d * whole for w, d in lines)
        options = [(w, d) for w, d in lines if w + d * whole == longest]
        w, d = min(options, key=lambda line: line[1])
        array = d * n + (0 if before else w + 2 + tree_levels(spec.array.num_ms))
        width_w, width_a = buffers.weight_bytes_per_cycle, buffers.activation_bytes_per_cycle
        fill = 2 if buffers.ports == 1 else 1
        reading = (parts[0] + parts[2]) * fill / width_w if width_w else 0.0
        if width_a:
            reading += (used * n * number.activation_bits / 8 + inputs * (fill - 1)) / width_a
        loads.append(math.ceil((sum(parts) + inputs) / rate))
        computes.append(max(array, math.ceil(reading)))
        stores.append(math.ceil(output / rate))
        moved = [m + b for m, b in zip(moved, [*parts, inputs, output], strict=True)]
    return slow_walk(loads, computes, stores, buffers.double), moved, len(folds)


def dense_compute(spec: SigmaSpec, rows: int, cols: int, tokens: int) -> int:
    """Full masks, in closed form: at ports with a multiplier each, or else from the few kinds of groups that a full
    mask has."""
    num_ms, dn_bw = spec.array.num_ms, spec.array.dn_bw
    fixed = 2 + int(np.ceil(np.log2(num_ms)))
    if spec.array.packing == "rows":
        pieces = 1 + -(-(cols - num_ms) // (num_ms - 1))
        folds = rows * pieces if cols > num_ms else -(-rows // (num_ms // cols))
        if dn_bw == num_ms:
            return folds * (fixed + 1 + tokens)
        if cols > num_ms:
            # a full group, and so `group` distinct columns, is in every piece but perhaps the last of a row
            group = num_ms // dn_bw
            last = cols - num_ms - (pieces - 2) * (num_ms - 1)
            head = min(group - 1, last)
            tail = [min(group, last - head)] if last > head else []
            ends = max([head + tokens * (head + 1)] + [n + tokens * n for n in tail])
            return folds * fixed + (folds - rows) * group * (1 + tokens) + rows * ends
    kept = np.ones((rows, cols), dtype=bool)  # groups over several short rows: no shorter form than counting
    return sum(fixed + distribution(spec, fold, tokens) for fold in packed(spec, kept))


ROOMY = ("buffers.weight_kib=2", "buffers.index_kib=1", "buffers.activation_kib=8")
TWIN = Twin(
    name="sigma",
    machines=(
        ("array.num_ms=16", "array.dn_bw=16", "buffers.output_kib=0.25", *ROOMY),
        ("array.num_ms=32", "array.dn_bw=4", "buffers.output_kib=4", "dram.bandwidth_gbps=2", *ROOMY),
        ("array.num_ms=12", "array.dn_bw=2", 'array.packing="continuous"', "buffers.output_kib=1", *ROOMY),
        (
            "array.num_ms=512",
            "array.dn_bw=1",
            "buffers.output_kib=2",
            "buffers.ports=1",
            "buffers.double=false",
            *ROOMY,
        ),
    ),
    full_mask_cycles=dense_compute,
    not_promised={
        "more zeros": "with fewer ports than multipliers, later weights move to other ports, where inputs that met may "
        "part",
    },
    run_layer=run_layer,
)
