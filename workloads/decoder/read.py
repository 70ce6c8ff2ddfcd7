"""A decoder's dimensions from its config alone: no weights, no torch."""

from collections.abc import Mapping
from typing import Any

from workloads.decoder.dimensions import Block, Decoder, Ffn, Latent, Mixture, SelfAttention
from workloads.decoder.families import FAMILIES, Traits
from workloads.decoder.settings import FFN, HEADS, HIDDEN, KV_HEADS, LAYERS, POSITIONS, Settings, text_part
from workloads.errors import UserError
from workloads.experts import COUNT, experts_of
from workloads.limits import check_config
from workloads.operations.gemm import Matrix

SLIDING, FULL = "sliding_attention", "full_attention"


def knows(config: Mapping[str, Any]) -> bool:
    """Whether the family of a config is read without transformers."""
    return text_part(config).get("model_type") in FAMILIES


def read_decoder(config: Mapping[str, Any]) -> Decoder:
    """Raises UserError for a family that is not known here, and for a config that leaves something open."""
    part = text_part(config)
    kind = part.get("model_type")
    if kind not in FAMILIES:
        raise UserError(
            f"model_type {kind!r}: what its blocks compute is not known; known: {', '.join(sorted(FAMILIES))}"
        )
    family = FAMILIES[kind]
    settings = Settings(part, family.usual)
    return decoder_from(settings, family.traits(settings))


def decoder_from(settings: Settings, traits: Traits) -> Decoder:
    """From what the config says and what it does not. Raises UserError for what is missing or does not fit."""
    check_config(settings.values, f"config of {settings.family!r}")
    hidden, vocab = settings.whole(HIDDEN), settings.whole(("vocab_size",))
    count = settings.whole(LAYERS)
    blocks: list[Block] = []
    for number in range(count):
        block = _block(settings, traits, hidden, number)
        blocks.append(blocks[-1] if blocks and blocks[-1] == block else block)
    width = settings.whole(("word_embed_proj_dim",), default=hidden)
    projections = (
        ()
        if width == hidden
        else (Matrix("other", hidden, width, is_float=True), Matrix("other", width, hidden, is_float=True))
    )
    rows = settings.whole(POSITIONS) + traits.extra_positions if traits.positions == "learned" else 0
    return Decoder(
        family=settings.family,
        hidden_size=hidden,
        vocab_size=vocab,
        blocks=tuple(blocks),
        numbers=tuple(range(count)),
        norms=traits.norms,
        is_tied=settings.flag("tie_word_embeddings", traits.is_tied),
        embedding_size=width,
        head=Matrix("head", vocab, width, traits.head_bias, is_float=True),
        positions=traits.positions,
        positions_rows=rows,
        positions_size=hidden,
        has_embedding_norm=traits.has_embedding_norm,
        has_final_norm=traits.has_final_norm,
        projections=projections,
    )


def _block(settings: Settings, traits: Traits, hidden: int, number: int) -> Block:
    attention, matrices = _attention(settings, traits, hidden, number)
    mixture = _mixture(settings, traits, hidden, number)
    width = _shared_width(settings) if mixture else traits.ffn_size or settings.whole(FFN, number, 4 * hidden)
    if width:
        matrices += _ffn(traits, hidden, width, "shared_" if mixture else "", traits.ffn_bias)
    return Block(attention, Ffn(settings.activation, traits.is_gated), traits.norms, matrices, mixture)


def _attention(
    settings: Settings, traits: Traits, hidden: int, number: int
) -> tuple[SelfAttention, tuple[Matrix, ...]]:
    heads = settings.whole(HEADS, number)
    if settings.get("kv_lora_rank") is not None:
        return _latent_attention(settings, traits, hidden, heads)
    kv_heads = traits.kv_heads or settings.whole(KV_HEADS, number, heads)
    if heads % kv_heads:
        raise UserError(f"config of {settings.family!r}: {heads} heads share {kv_heads} keys, which does not divide")
    if settings.maybe("head_dim") is None and hidden % heads:
        raise UserError(
            f"config of {settings.family!r}: {heads} heads do not divide {hidden} hidden features; give head_dim"
        )
    size = settings.maybe("head_dim") or hidden // heads
    rotary = settings.maybe("rotary_dim") or int(size * traits.rotary)
    attention = SelfAttention(
        heads, kv_heads, size, size, _window(settings, traits, number),
        rotary if traits.positions == "rotary" else 0, traits.qk_norm, traits.sinks,
    )  # fmt: skip
    parts = {"q": heads, "k": kv_heads, "v": kv_heads} if traits.splits_qkv else {"qkv": heads + 2 * kv_heads}
    inputs = tuple(Matrix(role, n * size, hidden, traits.qkv_bias) for role, n in parts.items())
    return attention, (*inputs, Matrix("o", hidden, heads * size, traits.o_bias))


def _latent_attention(
    settings: Settings, traits: Traits, hidden: int, heads: int
) -> tuple[SelfAttention, tuple[Matrix, ...]]:
    nope, rope, value, latent = (
        settings.whole((name,)) for name in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank")
    )
    query = settings.maybe("q_lora_rank")
    attention = SelfAttention(heads, heads, nope + rope, value, None, rope, latent=Latent(latent, nope, rope, query))
    queries = heads * (nope + rope)
    first = (
        (Matrix("q", queries, hidden),)
        if query is None
        else (Matrix("q_a", query, hidden, traits.qkv_bias), Matrix("q_b", queries, query))
    )
    rest = (
        Matrix("kv_a", latent + rope, hidden, traits.qkv_bias),
        Matrix("kv_b", heads * (nope + value), latent),
        Matrix("o", hidden, heads * value, traits.o_bias),
    )
    return attention, (*first, *rest)


def _ffn(traits: Traits, hidden: int, width: int, prefix: str, bias: bool) -> tuple[Matrix, ...]:
    if not traits.is_gated:
        first, second = (prefix + role for role in traits.ungated)
        return Matrix(first, width, hidden, bias), Matrix(second, hidden, width, bias)
    parts = {"gate": width, "up": width} if traits.splits_gate else {"gate_up": 2 * width}
    ups = (Matrix(f"{prefix}{role}", n, hidden, bias) for role, n in parts.items())
    return (*ups, Matrix(f"{prefix}down", hidden, width, bias))


def _mixture(settings: Settings, traits: Traits, hidden: int, number: int) -> Mixture | None:
    if not any(settings.maybe(name) for name in COUNT) or not _is_sparse(settings, number):
        return None
    experts = experts_of(dict(settings.values), number)
    if experts is None:
        raise UserError(f"config of {settings.family!r}: it has experts, but does not say how many see a token")
    width = settings.whole(("moe_intermediate_size", *FFN), number)
    bias = traits.expert_bias
    *ups, down = _ffn(Traits(splits_gate=False), hidden, width, "expert_", bias)
    shared_gate = Matrix("router", 1, hidden, is_float=True) if traits.shared_gate and _shared_width(settings) else None
    router = Matrix("router", experts.count, hidden, bias, is_float=True)
    return Mixture(experts, ((tuple(ups), down, experts.count),), router, shared_gate)


def _is_sparse(settings: Settings, number: int) -> bool:
    """Whether a block has experts."""
    first, step = settings.maybe("first_k_dense_replace") or 0, settings.maybe("decoder_sparse_step") or 1
    frequency = settings.get("moe_layer_freq")
    every = frequency if isinstance(frequency, int) and frequency > 0 else 1
    dense = settings.get("mlp_only_layers")
    return (
        number >= first
        and number % every == 0
        and (number + 1) % step == 0
        and not (isinstance(dense, list) and number in dense)
    )


def _shared_width(settings: Settings) -> int:
    """FFN size of the experts that see every token, 0 if there are none."""
    single = settings.maybe("shared_expert_intermediate_size")
    return single or (settings.maybe("n_shared_experts") or 0) * (settings.maybe("moe_intermediate_size") or 0)


def _window(settings: Settings, traits: Traits, number: int) -> int | None:
    window = settings.maybe("sliding_window")
    if window is None or not settings.flag("use_sliding_window", True):
        return None
    kinds = settings.get("layer_types")
    if isinstance(kinds, list) and number < len(kinds):
        return window if kinds[number] == SLIDING else None
    every = settings.maybe("sliding_window_pattern") or traits.window_every
    sees_all = number < traits.window_from or (every and (number + 1) % every == 0)
    return None if sees_all else window
