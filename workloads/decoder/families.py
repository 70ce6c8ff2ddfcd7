"""What a config does not say of a decoder, for the families whose configs are read without transformers: one line each.

Every other family that transformers can build is asked for the same (checkpoints/decoder_traits.py)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workloads.decoder.dimensions import Norms, Positions, QkNorm
from workloads.decoder.settings import HEADS, HIDDEN, Settings

RMS, LAYER = Norms(), Norms("layer", bias=True)
SANDWICH = Norms(layout="sandwich")


@dataclass(frozen=True)
class Traits:
    """What LLaMA has, unless told otherwise. `window_every`: each such block sees all keys where the config gives no
    `layer_types`, 0: none does; `window_from`: blocks before it see all. `kv_heads`, `ffn_size`: where the config's
    words for them mean something else. `splits`: q, k, v and gate, up are matrices of their own; `ungated`: roles of an
    FFN's two matrices where it is not gated. `extra_positions`: rows that a learned table has beyond the positions."""

    norms: Norms = RMS
    is_gated: bool = True
    splits_qkv: bool = True
    splits_gate: bool = True
    qkv_bias: bool = False
    o_bias: bool = False
    ffn_bias: bool = False
    head_bias: bool = False
    expert_bias: bool = False
    qk_norm: QkNorm = ""
    positions: Positions = "rotary"
    rotary: float = 1.0
    extra_positions: int = 0
    is_tied: bool = False
    has_embedding_norm: bool = False
    has_final_norm: bool = True
    kv_heads: int | None = None
    ffn_size: int | None = None
    ungated: tuple[str, str] = ("fc1", "fc2")
    window_every: int = 0
    window_from: int = 0
    sinks: bool = False
    shared_gate: bool = False


@dataclass(frozen=True)
class Family:
    """`usual` are values of settings that published configs leave out."""

    traits: Callable[[Settings], Traits] = lambda s: Traits()
    usual: Mapping[str, Any] = field(default_factory=dict)


def _parallel(count: int, bias: bool = True) -> Norms:
    return Norms("layer", bias=bias, layout="parallel", count=count)


def _llama(s: Settings) -> Traits:
    attention = s.flag("attention_bias")
    return Traits(qkv_bias=attention, o_bias=attention, ffn_bias=s.flag("mlp_bias"))


def _gemma(norms: Norms, qk_norm: QkNorm = "", every: int = 0) -> Callable[[Settings], Traits]:
    def traits(s: Settings) -> Traits:
        bias = s.flag("attention_bias")
        return Traits(norms, qkv_bias=bias, o_bias=bias, qk_norm=qk_norm, is_tied=True, window_every=every)

    return traits


def _qwen(s: Settings) -> Traits:
    bias = s.flag("attention_bias")
    return Traits(qkv_bias=bias, o_bias=bias, qk_norm="head", window_from=s.maybe("max_window_layers") or 0)


def _falcon(s: Settings) -> Traits:
    new, bias = s.flag("new_decoder_architecture"), s.flag("bias")
    norms = (
        _parallel(s.maybe("num_ln_in_parallel_attn") or (2 if new else 1)) if s.flag("parallel_attn", True) else LAYER
    )
    kv_heads = s.whole(("num_kv_heads",), default=1) if new else 1 if s.flag("multi_query", True) else None
    return Traits(
        norms, is_gated=False, splits_qkv=False, qkv_bias=bias, o_bias=bias, ffn_bias=bias, is_tied=True,
        positions="alibi" if s.flag("alibi") else "rotary", kv_heads=kv_heads or s.whole(HEADS),
        ffn_size=s.whole(("ffn_hidden_size",), default=4 * s.whole(HIDDEN)),
    )  # fmt: skip


def _opt(s: Settings) -> Traits:
    before, bias = s.flag("do_layer_norm_before", True), s.flag("enable_bias", True)
    affine = s.flag("layer_norm_elementwise_affine", True)
    norms = Norms("layer", gain=affine, bias=affine, layout="pre" if before else "after_add")
    final = before and not s.flag("_remove_final_layer_norm")
    return Traits(
        norms, is_gated=False, qkv_bias=bias, o_bias=bias, ffn_bias=bias, is_tied=True, positions="learned",
        extra_positions=2, has_final_norm=final,
    )  # fmt: skip


def _stablelm(s: Settings) -> Traits:
    norms = _parallel(1) if s.flag("use_parallel_residual") else LAYER
    return Traits(
        norms,
        qkv_bias=s.flag("use_qkv_bias"),
        qk_norm="heads" if s.flag("qk_layernorm") else "",
        rotary=s.share("partial_rotary_factor"),
    )


def _gpt_neox(s: Settings) -> Traits:
    bias = s.flag("attention_bias", True)
    norms = _parallel(2) if s.flag("use_parallel_residual", True) else LAYER
    return Traits(
        norms, is_gated=False, splits_qkv=False, qkv_bias=bias, o_bias=bias, ffn_bias=True,
        rotary=s.share("rotary_pct", "partial_rotary_factor"), kv_heads=s.whole(HEADS),
    )  # fmt: skip


def _cohere(s: Settings) -> Traits:
    bias = s.flag("attention_bias")
    norm: QkNorm = "heads" if s.flag("use_qk_norm") else ""
    return Traits(_parallel(1, bias=False), qkv_bias=bias, o_bias=bias, qk_norm=norm, is_tied=True, window_every=4)


def _olmo(norms: Norms, norm: QkNorm, every: int = 0) -> Callable[[Settings], Traits]:
    def traits(s: Settings) -> Traits:
        bias = s.flag("attention_bias")
        return Traits(norms, qkv_bias=bias, o_bias=bias, qk_norm=norm, window_every=every)

    return traits


def _gpt_oss(s: Settings) -> Traits:
    bias = s.flag("attention_bias", True)
    return Traits(qkv_bias=bias, o_bias=bias, expert_bias=True, window_every=2, sinks=True)


_GPT2 = Traits(
    LAYER,
    is_gated=False,
    splits_qkv=False,
    qkv_bias=True,
    o_bias=True,
    ffn_bias=True,
    positions="learned",
    is_tied=True,
)
_BLOOM = Traits(
    LAYER, is_gated=False, splits_qkv=False, qkv_bias=True, o_bias=True, ffn_bias=True, positions="alibi", is_tied=True,
    has_embedding_norm=True,
)  # fmt: skip
_EIGHT = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}
_GELU = {"hidden_act": "gelu"}
_QK128 = {"head_dim": 128}

FAMILIES = {
    "llama": Family(_llama),
    "mistral": Family(),
    "mixtral": Family(),
    "granite": Family(_llama),
    "qwen2": Family(lambda s: Traits(qkv_bias=True, window_from=s.maybe("max_window_layers") or 0)),
    "qwen2_moe": Family(lambda s: Traits(qkv_bias=s.flag("qkv_bias", True), shared_gate=True)),
    "qwen3": Family(_qwen, _QK128),
    "qwen3_moe": Family(_qwen),
    "gemma": Family(_gemma(RMS), {"head_dim": 256} | _GELU),
    "gemma2": Family(_gemma(SANDWICH, every=2), {"head_dim": 256, "sliding_window": 4096} | _GELU),
    "gemma3_text": Family(
        _gemma(SANDWICH, "head", 6), _EIGHT | {"vocab_size": 262_208, "sliding_window": 4096} | _GELU
    ),
    "phi3": Family(lambda s: Traits(splits_qkv=False, splits_gate=False, rotary=s.share("partial_rotary_factor"))),
    "gpt2": Family(lambda s: _GPT2, _GELU),
    "gpt_neox": Family(_gpt_neox, {"rotary_pct": 0.25} | _GELU),
    "opt": Family(_opt, {"activation_function": "relu"}),
    "falcon": Family(_falcon, {"activation": "gelu"}),
    "bloom": Family(lambda s: _BLOOM, _GELU),
    "stablelm": Family(_stablelm, {"partial_rotary_factor": 0.25}),
    "cohere": Family(_cohere),
    "cohere2": Family(_cohere, _QK128 | {"sliding_window": 4096}),
    "olmo": Family(_olmo(Norms("layer", gain=False), "")),
    "olmo2": Family(_olmo(Norms(layout="post"), "whole")),
    "olmo3": Family(_olmo(Norms(layout="post"), "whole", 4), {"sliding_window": 4096}),
    "deepseek_v2": Family(_llama),
    "deepseek_v3": Family(_llama),
    "gpt_oss": Family(_gpt_oss, {"head_dim": 64, "sliding_window": 128}),
}
FAMILIES["gemma3"] = FAMILIES["gemma3_text"]
