"""The operations that a decoder executes for a step, in order."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from workloads.decoder.dimensions import Block, Decoder, Norms
from workloads.operations.base import DecoderOperation
from workloads.operations.causal import CausalAttention, KvWrite, LatentAttention, Rotary, Softmax
from workloads.operations.elementwise import Activation, Norm, ResidualAdd
from workloads.operations.ends import AllReduce, Embedding
from workloads.operations.expert_ffn import ExpertFfn, ExpertSum
from workloads.operations.gemm import Gemm, Matrix

OUTSIDE = -1


@dataclass(frozen=True)
class Fusion:
    """What a serving program runs as one kernel: attention without writing scores; a residual's addition with the norm
    behind it; matrices that read the same input (q, k, v; gate, up) as one GEMM."""

    attention: bool = True
    norms: bool = True
    gemms: bool = True


FUSED, EAGER = Fusion(), Fusion(False, False, False)


def layout(decoder: Decoder, fusion: Fusion = FUSED, all_logits: bool = False) -> list[DecoderOperation]:
    """`all_logits`: the head sees every token, not the last of each sequence alone."""
    made: list[DecoderOperation] = []
    for operation in _operations(decoder, fusion, all_logits):
        last = made[-1] if made else None
        if fusion.norms and isinstance(operation, Norm) and isinstance(last, ResidualAdd):
            made[-1] = replace(operation, role="add_norm", adds=True)
        else:
            made.append(operation)
    return made


def _operations(decoder: Decoder, fusion: Fusion, all_logits: bool) -> Iterator[DecoderOperation]:
    hidden, width = decoder.hidden_size, decoder.embedding_size
    yield Embedding("embedding", "embedding", OUTSIDE, decoder.vocab_size, width)
    if decoder.ranks > 1:
        yield AllReduce("embedding.all_reduce", "all_reduce", OUTSIDE, width, decoder.ranks)
    if decoder.projections:
        yield Gemm("project_in", "other", OUTSIDE, decoder.projections[:1])
    if decoder.positions == "learned":
        yield Embedding("positions", "embedding", OUTSIDE, decoder.positions_rows, hidden)
        yield ResidualAdd("positions.add", "add", OUTSIDE, hidden)
    if decoder.has_embedding_norm:
        yield _norm("embedding.norm", OUTSIDE, decoder.norms, hidden)
    for number, block in zip(decoder.numbers, decoder.blocks, strict=True):
        yield from _block(number, block, decoder, fusion)
    if decoder.has_final_norm:
        yield _norm("norm", OUTSIDE, decoder.norms, hidden)
    if decoder.projections:
        yield Gemm("project_out", "other", OUTSIDE, decoder.projections[1:])
    yield Gemm("head", "head", OUTSIDE, (decoder.head,), "new" if all_logits else "last")


def _block(number: int, block: Block, decoder: Decoder, fusion: Fusion) -> Iterator[DecoderOperation]:
    place, hidden, layout = f"blocks.{number}", decoder.hidden_size, block.norms.layout
    before, parallel = layout in ("pre", "sandwich"), layout == "parallel"
    shared = parallel and block.norms.count == 1  # one norm for both
    if (before or parallel) and (block.has_attention or shared):
        yield _norm(f"{place}.attention_norm", number, block.norms, hidden)
    if parallel and not shared and block.has_ffn:
        yield _norm(f"{place}.ffn_norm", number, block.norms, hidden)
    if block.has_attention:
        yield from _attention(place, number, block, fusion)
        yield from _behind(place, "attention", number, block.norms, decoder)
    if block.has_ffn:
        if before:
            yield _norm(f"{place}.ffn_norm", number, block.norms, hidden)
        yield from _feed_forward(place, number, block, hidden, fusion)
        yield from _behind(place, "ffn", number, block.norms, decoder)


def _behind(place: str, part: str, number: int, norms: Norms, decoder: Decoder) -> Iterator[DecoderOperation]:
    hidden = decoder.hidden_size
    if decoder.ranks > 1:
        yield AllReduce(f"{place}.{part}.all_reduce", "all_reduce", number, hidden, decoder.ranks)
    if norms.layout in ("post", "sandwich"):
        yield _norm(f"{place}.{part}_norm_behind", number, norms, hidden)
    yield ResidualAdd(f"{place}.{part}.add", "add", number, hidden)
    if norms.layout == "after_add":
        yield _norm(f"{place}.{part}_norm_behind", number, norms, hidden)


def _attention(place: str, number: int, block: Block, fusion: Fusion) -> Iterator[DecoderOperation]:
    attention, latent = block.attention, block.attention.latent
    yield from _gemms(place, number, block, ("q", "k", "v", "qkv") if latent is None else ("q", "q_a", "kv_a"), fusion)
    one: CausalAttention | LatentAttention
    if latent is not None:
        sizes = [size for size in (latent.query_size, latent.size) if size]
        for name, size in zip(("q_latent", "kv_latent")[-len(sizes) :], sizes, strict=True):
            yield Norm(f"{place}.{name}_norm", "norm", number, size, "rms", size)
        yield from _gemms(place, number, block, ("q_b",), fusion)
        yield from _gemms(place, number, block, ("kv_b",), fusion, "context")
        yield Rotary(f"{place}.rotary", "rotary", number, attention.heads + 1, latent.rope_size)
        one = LatentAttention(
            f"{place}.attention", "attention", number, attention.heads, latent.size, latent.nope_size, latent.rope_size,
            attention.value_size, fusion.attention,
        )  # fmt: skip
    else:
        heads = attention.heads + attention.kv_heads
        if attention.qk_norm:
            yield Norm(
                f"{place}.qk_norm", "norm", number, attention.head_size, block.norms.kind, attention.norm_parameters,
                groups=heads,
            )  # fmt: skip
        if attention.rotary_size:
            yield Rotary(f"{place}.rotary", "rotary", number, heads, attention.rotary_size)
        one = CausalAttention(
            f"{place}.attention", "attention", number, attention.heads, attention.kv_heads, attention.head_size,
            attention.value_size, attention.window, fusion.attention,
        )  # fmt: skip
    yield KvWrite(f"{place}.kv_write", "kv_write", number, attention.cached_size)
    yield one
    if not fusion.attention:
        yield Softmax(f"{place}.softmax", "softmax", number, one)
    yield from _gemms(place, number, block, ("o",), fusion)


def _feed_forward(place: str, number: int, block: Block, hidden: int, fusion: Fusion) -> Iterator[DecoderOperation]:
    mixture, ffn = block.mixture, block.ffn
    if mixture is None:
        yield from _dense_ffn(place, number, block, fusion, "")
        return
    yield Gemm(f"{place}.router", "router", number, (mixture.router,))
    yield ExpertFfn(
        f"{place}.experts", "experts", number, mixture.experts, mixture.kinds, ffn.kind, ffn.is_gated, mixture.counts
    )  # fmt: skip
    if mixture.experts.per_token > 1:
        yield ExpertSum(f"{place}.experts.sum", "expert_sum", number, hidden, mixture.experts.per_token)
    if block.matrix("shared_down"):
        yield from _dense_ffn(place, number, block, fusion, "shared_")
        if mixture.shared_gate is not None:
            yield Gemm(f"{place}.shared_gate", "router", number, (mixture.shared_gate,))
        yield ResidualAdd(f"{place}.shared.add", "add", number, hidden)


def _dense_ffn(place: str, number: int, block: Block, fusion: Fusion, prefix: str) -> Iterator[DecoderOperation]:
    ups, downs = ("gate", "up", "gate_up", "fc1"), ("down", "fc2")
    yield from _gemms(place, number, block, tuple(prefix + role for role in ups), fusion)
    down = next(matrix for role in downs if (matrix := block.matrix(prefix + role)))
    yield Activation(f"{place}.{prefix}activation", "activation", number, down.in_features, block.ffn.kind,
                     block.ffn.is_gated)  # fmt: skip
    yield from _gemms(place, number, block, tuple(prefix + role for role in downs), fusion)


def _gemms(
    place: str, number: int, block: Block, roles: tuple[str, ...], fusion: Fusion, over: str = "new"
) -> Iterator[Gemm]:
    """One for all matrices that are stored alike, named after them; each block of a product of factors by itself."""
    found = [matrix for role in roles if (matrix := block.matrix(role)) is not None]
    products = [matrix for matrix in found if matrix.factors is not None]
    if products and len(found) > 1:
        for matrix in found:
            yield from _gemms(place, number, block, (matrix.role,), fusion, over)
        return
    for matrix in products:
        for name, blocks, part in matrix.parts:
            one = Gemm(f"{place}.{matrix.role}.{name}", matrix.role, number, (part,), over)  # type: ignore[arg-type]
            yield from [one] * blocks
        return
    alike = {(matrix.stored, matrix.weight_bits, matrix.group_size) for matrix in found}
    together = [tuple(found)] if fusion.gemms and len(alike) == 1 else [(matrix,) for matrix in found]
    for matrices in together:
        role = _joined(matrices)
        yield Gemm(f"{place}.{role}", role, number, matrices, over)  # type: ignore[arg-type]


def _joined(matrices: tuple[Matrix, ...]) -> str:
    roles = [matrix.role for matrix in matrices]
    return {("q", "k", "v"): "qkv", ("gate", "up"): "gate_up", ("shared_gate", "shared_up"): "shared_gate_up"}.get(
        tuple(roles),
        "+".join(roles),  # type: ignore[arg-type]
    )


def _norm(name: str, number: int, norms: Norms, width: int) -> Norm:
    return Norm(name, "norm", number, width, norms.kind, norms.parameters(width))
