"""Attention of a decoder on the keys before each query: scores, softmax and values, and the KV cache beneath them."""

from dataclasses import dataclass

from workloads.counts import Counts, Elements
from workloads.operations.base import DecoderOperation
from workloads.phases import Phase


def seen_keys(new: int, past: int, window: int | None) -> int:
    """Pairs of a query and a key that it sees, of a sequence: query t = 1 .. new sees min(past + t, window)."""
    if window is None or past + new <= window:
        return new * past + new * (new + 1) // 2
    growing = max(window - past, 0)  # queries that see all keys before them
    return growing * past + growing * (growing + 1) // 2 + (new - growing) * window


def read_keys(new: int, past: int, window: int | None) -> int:
    """Keys that any of a sequence's new queries sees: the first of them reaches back window - 1 places."""
    return past + new if window is None else min(past + new, window - 1 + new)


@dataclass(frozen=True)
class CausalAttention(DecoderOperation):
    """`heads` queries share `kv_heads` keys and values (GQA; equal numbers: MHA; one: MQA). `window` is how many keys a
    query sees, its own among them; None: all.

    FLOP 2 (head_size + value_size) a pair of a head's query and a key; keys and values are read once a sequence,
    however many queries read them. Not `is_fused`: all pairs are computed, also those that are masked, and the scores
    are written and read twice; the softmax between is an operation of its own."""

    heads: int
    kv_heads: int
    head_size: int
    value_size: int
    window: int | None = None
    is_fused: bool = True

    @property
    def sees_context(self) -> bool:
        return True

    def pairs(self, phase: Phase) -> int:
        """Of a query and a key, over all sequences, of one head."""
        if not self.is_fused:
            return phase.batch * phase.new * self.keys(phase)
        return phase.batch * seen_keys(phase.new, phase.past, self.window)

    def keys(self, phase: Phase) -> int:
        """That are read of a sequence."""
        return read_keys(phase.new, phase.past, self.window)

    def counts(self, phase: Phase, elements: Elements) -> Counts:
        sizes = self.head_size + self.value_size
        pairs = self.heads * self.pairs(phase)
        act = phase.tokens * self.heads * sizes + (0 if self.is_fused else 2 * pairs)
        return Counts(
            flop=2 * sizes * pairs,
            bytes_act=act * elements.activation_bits / 8,
            bytes_kv=phase.batch * self.keys(phase) * self.kv_heads * sizes * elements.kv_bits / 8,
        )


@dataclass(frozen=True)
class LatentAttention(DecoderOperation):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): the cache has one latent vector of
    `latent_size` a token and one rotated key of `rope_size`, for all heads.

    Prefill expands latents to keys of nope_size + rope_size and values of value_size a head, which it reads as
    activations (the GEMM kv_b makes them, over past tokens too, and the cache is read for these). Decode leaves latents
    as they are: kv_b's two halves go into queries and outputs instead, with the same FLOP a token as its GEMM, and
    every head attends to latent_size + rope_size, of which latent_size are the values."""

    heads: int
    latent_size: int
    nope_size: int
    rope_size: int
    value_size: int
    is_fused: bool = True

    @property
    def sees_context(self) -> bool:
        return True

    def as_causal(self, phase: Phase) -> CausalAttention:
        """What the phase runs: keys and values of every head, or one of them for all."""
        if phase.name == "prefill":
            sizes = self.heads, self.nope_size + self.rope_size, self.value_size
        else:
            sizes = 1, self.latent_size + self.rope_size, self.latent_size
        kv_heads, key, value = sizes
        return CausalAttention(self.name, self.role, self.block, self.heads, kv_heads, key, value, None, self.is_fused)

    def counts(self, phase: Phase, elements: Elements) -> Counts:
        causal = self.as_causal(phase)
        found = causal.counts(phase, elements)
        act, cached = found.bytes_act, phase.context
        if phase.name == "prefill":
            expanded = phase.batch * phase.context * causal.kv_heads * (causal.head_size + causal.value_size)
            act, cached = act + expanded * elements.activation_bits / 8, phase.past
        read = phase.batch * cached * (self.latent_size + self.rope_size) * elements.kv_bits / 8
        return Counts(found.flop, 0, act, read)


@dataclass(frozen=True)
class Softmax(DecoderOperation):
    """Over scores that were written: 5 FLOP each, read and written once. `attention` says how many there are."""

    attention: CausalAttention | LatentAttention

    @property
    def sees_context(self) -> bool:
        return True

    def counts(self, phase: Phase, elements: Elements) -> Counts:
        attention = self.attention
        causal = attention.as_causal(phase) if isinstance(attention, LatentAttention) else attention
        scores = causal.heads * causal.pairs(phase)
        return Counts(flop=5 * scores, bytes_act=2 * scores * elements.activation_bits / 8)


@dataclass(frozen=True)
class KvWrite(DecoderOperation):
    """`width` elements a token go into the cache."""

    width: int

    def counts(self, phase: Phase, elements: Elements) -> Counts:
        return Counts(bytes_kv=phase.tokens * self.width * elements.kv_bits / 8)


@dataclass(frozen=True)
class Rotary(DecoderOperation):
    """Turns `size` elements of each of `heads` queries and keys: 6 FLOP an element, read and written once; and a cosine
    and a sine for each pair of elements."""

    heads: int
    size: int

    def counts(self, phase: Phase, elements: Elements) -> Counts:
        turned = phase.tokens * self.heads * self.size
        tables = phase.tokens * self.size
        return Counts(flop=6 * turned, bytes_act=(2 * turned + tables) * elements.activation_bits / 8)
