"""Slow, obvious attention on ViTCoD: the published formula step by step, and a machine that moves integers.

Written from the descriptions alone: nothing here is shared with the product but the spec's numbers.
"""

import functools
import math
import re
from dataclasses import dataclass, field

import numpy as np

SPARE = 200  # the label on which the published walk parks entries


# The published simulator, counted out.


def walked(kept, above):
    """(g, kept positions right of the first g columns) after the label walk over rows and columns of one head."""
    tokens = len(kept)
    dense = [column for column in range(tokens) if sum(bool(x) for x in kept[:, column]) > above]
    positions = [[row, column] for row in range(tokens) for column in range(tokens) if kept[row, column]]
    for i, column in enumerate(dense):
        for old, new in ((i, SPARE), (column, i), (SPARE, column)):
            for position in positions:
                for axis in (0, 1):
                    if position[axis] == old:
                        position[axis] = new
    inside = {(row, column) for row, column in positions if row < tokens and column < tokens}
    return len(dense), sum(1 for _, column in inside if column >= len(dense))


def threshold(spec, tokens):
    """Kept positions that a global key's column exceeds: a share of the tokens counts in whole ones, upwards."""
    asked = spec.attention.global_above
    if asked >= 1:
        return asked
    above = 0
    while above + 1e-9 < asked * tokens:
        above += 1
    return above


def published_log(spec, kept, walk=walked):
    """The ten cycle lines of a layer in the log's order. ZeroDivisionError where the program has it and there is
    work."""
    heads, tokens, _ = kept.shape
    g, n_sparse = walk(kept[0], threshold(spec, tokens))
    width, d, rho = spec.array.width, spec.attention.head_features, spec.attention.encoder_ratio
    bandwidth = spec.dram.bandwidth_gibps * 1024 * 1024 * 1024 * 8

    def load(values, share=1.0):
        return math.ceil(values * spec.number.bits / (bandwidth * share) * (spec.clock.mhz * 1e6))

    token, decoder = heads * rho * d, heads * rho
    steps = math.ceil(token / int(width * width / heads))
    dense_load = dense_decode = sparse_load = sparse_decode = 0
    for key in range(g):
        dense_load += load(token)
        dense_decode += steps
        if key == 0:
            dense_load += load(decoder, 1 / heads)
            for query in range(tokens):
                dense_load += load(token) + (load(decoder, 1 / heads) if query == 0 else 0)
                dense_decode += steps
    for key in range(tokens - g):
        sparse_load += load(token) + (load(decoder, 1 / heads) if key == 0 else 0)
        sparse_decode += steps
    if g == 0:
        sparse_load += load(decoder, 1 / heads)
        for _ in range(n_sparse):  # T queries weighted by n_s / T each
            sparse_load += load(token)
            sparse_decode += steps
    wide = int(width * (g * tokens / (n_sparse + g * tokens))) if g else 0
    narrow = width - wide
    per_query = math.ceil(d / (width / heads))
    dense_sddmm = sum(math.ceil(tokens / wide) * per_query for _ in range(g))
    sparse_sddmm = math.ceil(n_sparse / narrow) * per_query if n_sparse else 0
    dense_spmm = math.ceil(tokens * d * g / int(wide * width / heads)) if g else 0
    sparse_spmm = math.ceil(n_sparse * d / int(narrow * width / heads)) if n_sparse else 0
    dense_value = sum(load(heads * d) for _ in range(g))
    sparse_value = sum(load(heads * d) for _ in range(tokens - g))
    return [
        dense_load, dense_decode, sparse_load, sparse_decode, dense_sddmm, sparse_sddmm,
        dense_value, dense_spmm, sparse_value, sparse_spmm,
    ]  # fmt: skip


# The machine.


@dataclass
class Mapping:
    order: str
    tile_q: int
    tile_k: int
    group: int


def parse_mapping(text):
    match = re.fullmatch(r"(\w+) outer, tile (\d+) queries x (\d+) keys, (\d+) heads at a time", text)
    assert match, text
    return Mapping(match[1], *(int(part) for part in match.groups()[1:]))


@dataclass
class Buffer:
    """Tokens of one head group; what does not fit beside its own kind makes room."""

    capacity: float
    token_bytes: float
    tokens: int
    keeps: bool
    held: set = field(default_factory=set)

    def bring(self, wanted):
        """The tokens that have to be loaded."""
        new = [token for token in wanted if token not in self.held]
        if new:
            self.held = (self.held if self.keeps else set()) | set(wanted)
        assert len(self.held) * self.token_bytes * (1 if self.keeps else 2) <= self.capacity
        return new


@dataclass
class TwinResult:
    scores: np.ndarray  # (H, T, T), zero where pruned
    outputs: np.ndarray  # (H, T, d)
    score_uses: np.ndarray  # (H, T, T) how often each score was made
    output_uses: np.ndarray  # (H, T, T, d) how often each score was multiplied with each feature
    bytes: dict
    cycles: int = 0
    sddmm: int = 0
    spmm: int = 0
    decoder: int = 0
    softmax: int = 0
    largest_output: float = 0
    largest_index: float = 0


class Machine:
    """queries, keys: what is in DRAM, (T, c, d) with an encoder, else (T, H, d); decoders: (H, c) each, or None; values
    (T, H, d)."""

    def __init__(self, spec, kept, queries, keys, values, decoders, mapping):
        self.spec, self.kept, self.mapping = spec, kept, mapping
        self.heads, self.tokens, _ = kept.shape
        self.d = values.shape[2]
        self.dram = {"q": queries, "k": keys, "v": values}
        self.decoders = dict(zip("qk", decoders, strict=True)) if decoders else None
        self.chip = {name: np.zeros((self.tokens, self.heads, self.d), dtype=np.int64) for name in "qkv"}
        shape = (self.heads, self.tokens, self.tokens)
        self.result = TwinResult(
            np.zeros(shape, dtype=np.int64), np.zeros((self.heads, self.tokens, self.d), dtype=np.int64),
            np.zeros(shape, dtype=int), np.zeros((*shape, self.d), dtype=int), dict.fromkeys(["q", "k", "v", "index",
                "out"], 0),
        )  # fmt: skip
        self.is_global = [
            [int(kept[h, :, k].sum()) > threshold(spec, self.tokens) for k in range(self.tokens)]
            for h in range(self.heads)
        ]
        self.lanes = [self.dense_lanes(h) for h in range(self.heads)]

    def dense_lanes(self, h):
        width = self.spec.array.width
        dense = sum(self.is_global[h]) * self.tokens
        sparse = sum(int(self.kept[h, :, k].sum()) for k in range(self.tokens) if not self.is_global[h][k])
        if not dense or not sparse:
            return width if dense else 0
        return min(max(round(width * dense / (dense + sparse)), 1), width - 1)

    def tiles(self, size):
        return [range(first, min(first + size, self.tokens)) for first in range(0, self.tokens, size)]

    def run(self):
        loads, computes, stores = [], [], []
        mapping, groups = self.mapping, range(0, self.heads, self.mapping.group)
        for first in groups:
            heads = range(first, first + mapping.group)
            self.open_buffers(mapping.group, len(groups))
            todo = self.tiles(mapping.tile_q)
            waves = [[q] for q in todo] if mapping.order == "queries" else [todo]
            index_of_wave = []
            for wave in waves:  # all scores of a wave, then its outputs
                pairs = [(q, k) for q in wave for k in self.tiles(mapping.tile_k)]
                if mapping.order == "keys":
                    pairs = [(q, k) for k in self.tiles(mapping.tile_k) for q in wave]
                waiting = index = 0
                for q, k in pairs:
                    extra = 2 * self.heads * len(self.decoders["q"][0]) * self.activation if self.decoders else 0
                    extra = bits_to_bytes(extra) if not loads else 0
                    self.result.bytes["q"] += extra
                    metadata = self.index_bytes(heads, q, k)
                    self.result.bytes["index"] += metadata
                    index += metadata
                    moved_q, decoded_q = self.load("q", q, heads)
                    moved_k, decoded_k = self.load("k", k, heads)
                    loads.append(extra + metadata + moved_q + moved_k)
                    self.result.decoder += decoded_q + decoded_k
                    spent = sum(self.sddmm(h, q, k) for h in heads)
                    self.result.sddmm += spent
                    smooth = 0
                    if k[-1] == self.tokens - 1:
                        made = self.scores_made(heads, q)
                        waiting += made
                        smooth = math.ceil(made / self.spec.engines.softmax_per_cycle)
                    self.result.softmax += smooth
                    computes.append(spent + decoded_q + decoded_k + smooth)
                    stores.append(0)
                index_of_wave.append(index)
                self.note_output(waiting, mapping.group, len(groups), wave)
                for q in wave:
                    for k in self.tiles(mapping.tile_k):
                        moved, _ = self.load("v", k, heads)
                        loads.append(moved)
                        spent = sum(self.spmm(h, q, k) for h in heads)
                        self.result.spmm += spent
                        computes.append(spent)
                        last = k[-1] == self.tokens - 1
                        out = bits_to_bytes(len(q) * len(heads) * self.d * self.activation) if last else 0
                        self.result.bytes["out"] += out
                        stores.append(out)
            alone = len(groups) == 1 and len(waves) == 1
            self.result.largest_index = max(self.result.largest_index, max(index_of_wave) * (1 if alone else 2))
        per_cycle = self.spec.dram.bandwidth_gbps * 1e9 * self.spec.dram.efficiency / (self.spec.clock.mhz * 1e6)
        self.result.cycles = slow_walk(
            [math.ceil(b / per_cycle) for b in loads], computes, [math.ceil(b / per_cycle) for b in stores]
        )
        return self.result

    @property
    def activation(self):
        return self.spec.number.activation_bits

    def open_buffers(self, group, groups):
        token = group * self.d * self.activation / 8
        self.buffers = {}
        for name, buffer in (("q", "query_kib"), ("k", "key_kib"), ("v", "value_kib")):
            capacity = getattr(self.spec.buffers, buffer) * 1024
            room = capacity if groups == 1 else capacity / 2  # the next group fills the other half
            keeps = token * self.tokens <= room
            self.buffers[name] = Buffer(room if keeps else capacity, token, self.tokens, keeps)

    def load(self, name, wanted, heads):
        """(bytes, decoder cycles) to have the tokens on chip."""
        new = self.buffers[name].bring(wanted)
        if not new:
            return 0, 0
        if name == "v" or not self.decoders:
            for token in new:
                for h in heads:
                    self.chip[name][token, h] = self.dram[name][token, h]
            moved = bits_to_bytes(len(new) * len(heads) * self.d * self.activation)
            self.result.bytes[name] += moved
            return moved, 0
        left = self.dram[name].shape[1]
        moved = bits_to_bytes(len(new) * left * self.d * self.activation)
        self.result.bytes[name] += moved
        wanted_values = [(token, h, feature) for token in new for h in range(self.heads) for feature in range(self.d)]
        macs, cycles = self.spec.array.width * self.spec.array.height, 0
        for token in new:
            self.chip[name][token] = 0
        for first in range(0, len(wanted_values), macs):
            for c in range(left):  # one product a MAC a cycle
                cycles += 1
                for token, h, feature in wanted_values[first : first + macs]:
                    weight = self.decoders[name][h, c]
                    self.chip[name][token, h, feature] += weight * self.dram[name][token, c, feature]
        return moved, cycles

    def sddmm(self, h, queries, keys):
        """One head's scores of a tile, cycle by cycle."""
        queues = [[] for _ in range(self.spec.array.width)]
        wide = self.lanes[h]
        narrow = self.spec.array.width - wide
        turn = 0
        for j, k in enumerate(keys):
            for q in queries:
                if self.is_global[h][k]:
                    queues[turn % wide] += self.chunks(q, k)
                    turn += 1
                elif self.kept[h, q, k]:
                    queues[wide + j % narrow] += self.chunks(q, k)
        return self.drain(queues, lambda q, k, features: self.add_score(h, q, k, features))

    def chunks(self, q, k):
        height = self.spec.array.height
        return [(q, k, range(first, min(first + height, self.d))) for first in range(0, self.d, height)]

    def add_score(self, h, q, k, features):
        if not self.kept[h, q, k]:
            return  # computed by the denser engine and thrown away
        for feature in features:
            self.result.scores[h, q, k] += self.chip["q"][q, h, feature] * self.chip["k"][k, h, feature]
        if features[0] == 0:
            self.result.score_uses[h, q, k] += 1

    def spmm(self, h, queries, keys):
        """One head's outputs of a tile, cycle by cycle: a lane owns chunks of outputs."""
        queues = [[] for _ in range(self.spec.array.width)]
        wide = self.lanes[h]
        narrow = self.spec.array.width - wide
        owned = [(q, features) for q in queries for _, _, features in self.chunks(q, 0)]
        for unit, (q, features) in enumerate(owned):
            for k in keys:
                if self.is_global[h][k]:
                    queues[unit % wide].append((q, k, features))
                elif self.kept[h, q, k]:
                    queues[wide + unit % narrow].append((q, k, features))
        return self.drain(queues, lambda q, k, features: self.add_output(h, q, k, features))

    def add_output(self, h, q, k, features):
        if not self.kept[h, q, k]:
            return
        for feature in features:
            self.result.outputs[h, q, feature] += self.result.scores[h, q, k] * self.chip["v"][k, h, feature]
            self.result.output_uses[h, q, k, feature] += 1

    def drain(self, queues, work):
        cycles = 0
        while any(queues):
            cycles += 1
            for lane in queues:
                if lane:
                    work(*lane.pop(0))
        return cycles

    def scores_made(self, heads, queries):
        return sum(
            1 for h in heads for q in queries for k in range(self.tokens) if self.is_global[h][k] or self.kept[h, q, k]
        )

    def note_output(self, waiting, group, groups, wave):
        halves = 1 if groups == 1 and len(self.tiles(self.mapping.tile_q)) == 1 else 2
        outputs = len(self.tiles(self.mapping.tile_q)[0]) * group * self.d * self.spec.number.accumulator_bits
        need = (waiting * self.spec.number.score_bits + halves * outputs) / 8
        self.result.largest_output = max(self.result.largest_output, need)

    def index_bytes(self, heads, queries, keys):
        """Metadata of a tile, position by position."""
        number_bits = max(1, math.ceil(math.log2(self.mapping.tile_k)))
        bits = 0
        for h in heads:
            others = [k for k in keys if not self.is_global[h][k]]
            for q in queries:
                for k in keys:
                    if self.is_global[h][k]:
                        bits += 0 if self.kept[h, :, k].all() else 1
                    elif self.spec.engines.metadata == "bitmap":
                        bits += 1
                    else:
                        bits += number_bits if self.kept[h, q, k] else 0
                if others and self.spec.engines.metadata == "coordinate":
                    bits += number_bits + 1
            bits += len(keys) if 0 < len(others) < len(keys) else 0
        return bits_to_bytes(bits)


def bits_to_bytes(bits):
    return math.ceil(bits / 8)


def slow_walk(loads, computes, stores):
    """When the last tile is stored: each event's end from the ends of those it waits for."""
    port = []
    for i in range(len(loads)):
        port.append(("load", i))
        if i and stores[i - 1]:
            port.append(("store", i - 1))
    if stores[-1]:
        port.append(("store", len(loads) - 1))
    place = {event: number for number, event in enumerate(port)}
    closed = [i for i in range(len(loads)) if stores[i]]

    @functools.cache
    def end(kind, i):
        if i < 0:
            return 0
        if kind == "compute":
            waits = [end("compute", i - 1), end("load", i)]
            before = [last for last in closed if last < i]
            if before and before[-1] == i - 1 and len(before) > 1:
                waits.append(end("store", before[-2]))
            return max(waits) + computes[i]
        number = place[kind, i]
        waits = [end(*port[number - 1])] if number else [0]
        waits.append(end("compute", i - 2 if kind == "load" else i))
        return max(waits) + (loads[i] if kind == "load" else stores[i])

    for i in range(len(loads)):  # in order, so that the recursion stays shallow
        end("load", i)
        end("compute", i)
    return max([end("compute", len(loads) - 1), *(end("store", i) for i in closed)])
