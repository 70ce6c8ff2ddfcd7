"""How the cycle model of attention cuts a layer into tiles: every way that fits, its cost, and the best one."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from simulator.accelerators.vitcod.attention.positions import SMALLEST, Positions, tile_sizes
from simulator.accelerators.vitcod.attention.spec import VitcodAttentionSpec
from simulator.cycles import Infeasible, ceil_div
from simulator.engine import Stream, once
from simulator.engine import run as walk
from simulator.machine.fit import too_small
from simulator.tiling.search import Choices, best
from workloads.refusals import Refusal


@dataclass(frozen=True)
class AttentionCycles:
    """One layer's attention; compute_cycles = sddmm + spmm + decoder + softmax, cycles = compute_cycles + stall_cycles.

    `transfer_cycles` is how long the DRAM port is busy (overlaps). `ideal_cycles`: kept MACs / all MAC units.
    """

    sddmm_cycles: int
    spmm_cycles: int
    decoder_cycles: int
    softmax_cycles: int
    stall_cycles: int
    transfer_cycles: int
    ideal_cycles: float
    query_bytes: int
    key_bytes: int
    value_bytes: int
    metadata_bytes: int
    output_bytes: int
    mapping: str
    stream: Stream | None = field(default=None, compare=False, repr=False)

    @property
    def compute_cycles(self) -> int:
        return self.sddmm_cycles + self.spmm_cycles + self.decoder_cycles + self.softmax_cycles

    @property
    def cycles(self) -> int:
        return self.compute_cycles + self.stall_cycles

    @property
    def total_bytes(self) -> int:
        return self.query_bytes + self.key_bytes + self.value_bytes + self.metadata_bytes + self.output_bytes


@dataclass(frozen=True)
class Sizes:
    """Bits and buffer capacities for `group` heads at a time; buffers hold Q and K decoded."""

    spec: VitcodAttentionSpec
    heads: int
    tokens: int
    group: int

    @property
    def groups(self) -> int:
        return self.heads // self.group

    @property
    def left(self) -> int:
        return self.spec.left_heads(self.heads)

    @property
    def value_bits(self) -> int:
        """A token's values in the group, as kept on chip."""
        return self.group * self.spec.attention.head_features * self.spec.number.activation_bits

    @property
    def token_bits(self) -> int:
        """A token of Q or K as loaded."""
        heads = self.left or self.group
        return heads * self.spec.attention.head_features * self.spec.number.activation_bits

    @property
    def decoder_bytes(self) -> int:
        """Decoder weights of Q and K, heads x left heads each."""
        return _bytes(2 * self.heads * self.left * self.spec.number.activation_bits)

    def whole(self, kib: float) -> bool:
        """Whether all tokens stay in a buffer; the next group's need the other half."""
        return self.value_bits * self.tokens <= kib * 8192 / (1 if self.groups == 1 else 2)

    def holds(self, kib: float, tile: int) -> bool:
        """Whether a tile of tokens fits half a buffer, or all tokens stay."""
        return self.whole(kib) or self.value_bits * tile <= kib * 4096

    def decode_cycles(self, tokens: np.ndarray) -> np.ndarray:
        """Cycles to recover so many tokens of Q or K, all heads; 0 without an encoder."""
        features = self.heads * self.spec.attention.head_features
        return -(-tokens * features // self.spec.macs) * self.left


@dataclass(frozen=True)
class Candidate:
    """One mapping: what is known of it before its tiles are counted."""

    sizes: Sizes
    order: str  # "queries" or "keys": outer loop of the scores
    tile_q: int
    tile_k: int
    lower_bound: float
    moved_bytes: int

    @property
    def text(self) -> str:
        return (
            f"{self.order} outer, tile {self.tile_q} queries x {self.tile_k} keys, {self.sizes.group} heads at a time"
        )


def best_schedule(spec: VitcodAttentionSpec, work: Positions) -> AttentionCycles:
    """The best mapping by `search`'s rule, bytes standing for energy. Raises Infeasible where none fits."""
    candidates = list(mappings(spec, work))
    if not candidates:
        raise Infeasible(refusal(spec, work))
    bounds = np.array([candidate.lower_bound for candidate in candidates])
    moved = np.array([candidate.moved_bytes for candidate in candidates], dtype=np.float64)
    return best([Choices(bounds, moved, lambda i: run(spec, work, candidates[i]))], spec.mapping.objective)


def sizes_to_try(tokens: int) -> list[int]:
    """Tile sizes: all tokens, or powers of two from SMALLEST."""
    return [tokens, *(1 << i for i in range(tokens.bit_length()) if SMALLEST <= 1 << i < tokens)]


def groups_to_try(spec: VitcodAttentionSpec, heads: int) -> list[int]:
    """Heads loaded at a time: all where an encoder mixes them, else every divisor."""
    return [heads] if spec.left_heads(heads) else [n for n in range(1, heads + 1) if heads % n == 0]


def mappings(spec: VitcodAttentionSpec, work: Positions) -> Iterator[Candidate]:
    """Every mapping that fits."""
    orders = ("queries", "keys") if spec.engines.stationary == "best" else (spec.engines.stationary,)
    tries = sizes_to_try(work.tokens)
    counts = {tile: work.sparse_counts(tile) for tile in tries}
    chunks = ceil_div(spec.attention.head_features, spec.array.height)
    compute, metadata_bits = {}, {}
    for tile_q in tries:
        scores = work.scores(tile_q).sum(axis=0)
        softmax = int((-(-scores // spec.engines.softmax_per_cycle)).sum())
        spmm = int(work.spmm_cycles(counts[work.tokens], tile_q, work.tokens, chunks).sum())  # no tile_k needs fewer
        compute[tile_q] = work.fewest_sddmm_cycles(tile_q, chunks) + spmm + softmax
        for tile_k in tries:
            metadata_bits[tile_q, tile_k] = work.metadata_bits(counts[tile_k], tile_q, tile_k, spec.engines.metadata)
    for group, order in itertools.product(groups_to_try(spec, work.heads), orders):
        sizes = Sizes(spec, work.heads, work.tokens, group)
        for tile_q, tile_k in itertools.product(tries, tries):
            if not fits_tokens(sizes, tile_q, tile_k) or not fits_outputs(sizes, work, order, tile_q):
                continue
            metadata = _bytes_of(per_group(sizes, metadata_bits[tile_q, tile_k]))
            if index_bytes_needed(sizes, order, metadata) > spec.buffers.index_kib * 1024:
                continue
            moved = Traffic.of(sizes, order, tile_q, tile_k).total_bytes + int(metadata.sum())
            bound = max(compute[tile_q], moved / spec.port.bytes_per_cycle)
            yield Candidate(sizes, order, tile_q, tile_k, bound, moved)


def fits_tokens(sizes: Sizes, tile_q: int, tile_k: int) -> bool:
    buffers = sizes.spec.buffers
    return (
        sizes.holds(buffers.query_kib, tile_q)
        and sizes.holds(buffers.key_kib, tile_k)
        and sizes.holds(buffers.value_kib, tile_k)
    )


def fits_outputs(sizes: Sizes, work: Positions, order: str, tile_q: int) -> bool:
    return output_bytes_needed(sizes, work, order, tile_q) <= sizes.spec.buffers.output_kib * 1024


def output_bytes_needed(sizes: Sizes, work: Positions, order: str, tile_q: int) -> int:
    """Scores that wait ("keys": of all queries) and the outputs of a query tile, twice where another one follows."""
    per_group = work.scores(tile_q).reshape(sizes.groups, sizes.group, -1).sum(axis=1)  # (groups, query tiles)
    scores = int(per_group.max() if order == "queries" else per_group.sum(axis=1).max())
    halves = 1 if sizes.groups == 1 and tile_q == sizes.tokens else 2
    number, features = sizes.spec.number, sizes.spec.attention.head_features
    outputs = tile_q * sizes.group * features * number.accumulator_bits
    return _bytes(scores * number.score_bits + halves * outputs)


@dataclass(frozen=True)
class Traffic:
    """Bytes of one head group without metadata: per score tile (query tiles, key tiles), per output tile likewise."""

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    output: np.ndarray
    decode: np.ndarray  # cycles of the decoder, per score tile
    groups: int
    decoder_bytes: int

    @classmethod
    def of(cls, sizes: Sizes, order: str, tile_q: int, tile_k: int) -> "Traffic":
        """What is loaded again follows from the loop order, unless all of it stays on chip."""
        queries, keys = tile_sizes(sizes.tokens, tile_q), tile_sizes(sizes.tokens, tile_k)
        shape = (len(queries), len(keys))
        loads_query = np.zeros(shape, dtype=bool)
        loads_key = np.zeros(shape, dtype=bool)
        loads_value = np.zeros(shape, dtype=bool)
        buffers = sizes.spec.buffers
        loads_query[:, 0 : 1 if order == "queries" or sizes.whole(buffers.query_kib) else None] = True
        loads_key[0 : 1 if order == "keys" or sizes.whole(buffers.key_kib) else None] = True
        loads_value[0 : 1 if sizes.whole(buffers.value_kib) else None] = True
        output = np.zeros(shape, dtype=np.int64)
        output[:, -1] = _bytes_of(queries * sizes.value_bits)
        decode = loads_query * sizes.decode_cycles(queries)[:, None] + loads_key * sizes.decode_cycles(keys)
        return cls(
            query=loads_query * _bytes_of(queries * sizes.token_bits)[:, None],
            key=loads_key * _bytes_of(keys * sizes.token_bits),
            value=loads_value * _bytes_of(keys * sizes.value_bits),
            output=output,
            decode=decode,
            groups=sizes.groups,
            decoder_bytes=sizes.decoder_bytes,
        )

    @property
    def total_bytes(self) -> int:
        moved = sum(int(part.sum()) for part in (self.query, self.key, self.value, self.output))
        return moved * self.groups + self.decoder_bytes


def run(spec: VitcodAttentionSpec, work: Positions, candidate: Candidate) -> AttentionCycles:
    """Counts and walks the tiles of one mapping."""
    sizes, tile_q, tile_k = candidate.sizes, candidate.tile_q, candidate.tile_k
    counts = work.sparse_counts(tile_k)
    bits = per_group(sizes, work.metadata_bits(counts, tile_q, tile_k, spec.engines.metadata))
    metadata = _bytes_of(bits)  # (groups, query tiles, key tiles)
    traffic = Traffic.of(sizes, candidate.order, tile_q, tile_k)
    chunks = ceil_div(spec.attention.head_features, spec.array.height)
    sddmm = per_group(sizes, work.sddmm_cycles(tile_q, tile_k, chunks))
    spmm = per_group(sizes, work.spmm_cycles(counts, tile_q, tile_k, chunks))
    softmax = -(-per_group(sizes, work.scores(tile_q)) // spec.engines.softmax_per_cycle)  # (groups, query tiles)
    load_scores = traffic.query + traffic.key + metadata
    load_scores[0, 0, 0] += traffic.decoder_bytes
    compute_scores = sddmm + traffic.decode
    compute_scores[:, :, -1] += softmax
    load = spec.port.cycles(load_scores)
    load_values = spec.port.cycles(np.broadcast_to(traffic.value, spmm.shape))
    store = spec.port.store_cycles(np.broadcast_to(traffic.output, spmm.shape))
    stream = once(
        in_order(candidate.order, load, load_values),
        in_order(candidate.order, compute_scores, spmm),
        in_order(candidate.order, np.zeros_like(store), store),
    )
    cycles = walk(stream, double=True)
    compute = int(compute_scores.sum() + spmm.sum())
    return AttentionCycles(
        sddmm_cycles=int(sddmm.sum()),
        spmm_cycles=int(spmm.sum()),
        decoder_cycles=int(traffic.decode.sum()) * sizes.groups,
        softmax_cycles=int(softmax.sum()),
        stall_cycles=cycles - compute,
        transfer_cycles=int(load.sum() + load_values.sum() + store.sum()),
        ideal_cycles=2 * work.kept * spec.attention.head_features / spec.macs,
        query_bytes=int(traffic.query.sum()) * sizes.groups + traffic.decoder_bytes,
        key_bytes=int(traffic.key.sum()) * sizes.groups,
        value_bytes=int(traffic.value.sum()) * sizes.groups,
        metadata_bytes=int(metadata.sum()),
        output_bytes=int(traffic.output.sum()) * sizes.groups,
        mapping=candidate.text,
        stream=stream,
    )


def per_group(sizes: Sizes, per_head: np.ndarray) -> np.ndarray:
    """Sums over the heads of each group: (H, ...) -> (groups, ...)."""
    return per_head.reshape(sizes.groups, sizes.group, *per_head.shape[1:]).sum(axis=1)


def in_order(order: str, scores: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """(groups, query tiles, key tiles) of both steps, as executed. "queries": scores and outputs of a query tile in
    turn; "keys": all scores of a group, keys outer, then its outputs, queries outer."""
    groups = len(scores)
    if order == "queries":
        return np.concatenate([scores, outputs], axis=2).ravel()
    turned = scores.transpose(0, 2, 1).reshape(groups, -1)
    return np.concatenate([turned, outputs.reshape(groups, -1)], axis=1).ravel()


def index_bytes_needed(sizes: Sizes, order: str, metadata: np.ndarray) -> int:
    """Metadata waits from SDDMM to SpMM: of a query tile ("queries") or of the group, twice where more follows."""
    if sizes.groups == 1 and (order == "keys" or metadata.shape[1] == 1):
        return int(metadata.sum())
    waiting = metadata.sum(axis=2) if order == "queries" else metadata.sum(axis=(1, 2))
    return 2 * int(waiting.max())


def refusal(spec: VitcodAttentionSpec, work: Positions) -> Refusal:
    """The first buffer that is too small for the smallest tiles of the fewest heads, queries outer."""
    tile = min(SMALLEST, work.tokens)
    sizes = Sizes(spec, work.heads, work.tokens, groups_to_try(spec, work.heads)[0])
    order = "keys" if spec.engines.stationary == "keys" else "queries"
    tokens = _bytes(min(2 * tile, work.tokens if sizes.groups == 1 else 2 * tile) * sizes.value_bits)
    bits = per_group(sizes, work.metadata_bits(work.sparse_counts(tile), tile, tile, spec.engines.metadata))
    needs = {
        "query_kib": tokens,
        "key_kib": tokens,
        "value_kib": tokens,
        "output_kib": min(output_bytes_needed(sizes, work, order, t) for t in sizes_to_try(work.tokens)),
        "index_kib": index_bytes_needed(sizes, order, _bytes_of(bits)),
    }
    for buffer, need in needs.items():
        has = getattr(spec.buffers, buffer) * 1024
        if need > has:
            where = (
                f"a tile of {tile} tokens, {order} outer, {sizes.group} heads of {spec.attention.head_features} "
                "features at a time,"
            )
            ways = ["set attention.encoder_ratio=1.0 to load head by head"] if sizes.left else []
            ways += ["set engines.stationary=queries"] if order == "keys" and buffer == "output_kib" else []
            return too_small(where, f"buffers.{buffer}", need, has, or_else=" or ".join(ways))
    return Refusal(
        "larger index and output buffers together",
        where="any tile size",
        way_out="raise buffers.index_kib or buffers.output_kib",
    )


def _bytes(number_of_bits: int) -> int:
    return ceil_div(number_of_bits, 8)


def _bytes_of(number_of_bits: np.ndarray) -> np.ndarray:
    return -(-number_of_bits // 8)
