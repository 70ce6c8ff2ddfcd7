"""What a family's blocks have, seen in its model on the meta device; believed only where the decoder that follows has
exactly the model's matrices and as many parameters. Needs torch and transformers."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from checkpoints.discovery import LinearRef, block_linears, find_blocks, meta_model
from checkpoints.families import Kind, family_of
from workloads.decoder.bundled import role_in_block
from workloads.decoder.dimensions import Block, Decoder, Norms
from workloads.decoder.families import Traits
from workloads.decoder.read import decoder_from
from workloads.decoder.settings import HEADS, HIDDEN, POSITIONS, Settings
from workloads.errors import UserError
from workloads.operations.gemm import Matrix


def skeleton_decoder(config: dict[str, Any]) -> Decoder:
    """Raises UserError for what is no causal language model, and where a block has anything but attention, an FFN or
    experts, and norms."""
    model = meta_model(config)
    kind = family_of(model.config).kind
    if kind is not Kind.CAUSAL:
        raise UserError(f"{type(model).__name__} is an {kind.value}; operations are counted of causal language models")
    path, blocks = find_blocks(model)
    refs = [block_linears(block, f"{path}.{number}", number) for number, block in enumerate(blocks)]
    settings = Settings(model.config.get_text_config().to_dict(), {})
    decoder = decoder_from(settings, _traits(model, blocks, refs[0], settings))
    if len(decoder.blocks) != len(refs):
        raise UserError(f"{type(model).__name__} has {len(refs)} blocks, by its config {len(decoder.blocks)}")
    for number, (block, found) in enumerate(zip(decoder.blocks, refs, strict=True)):
        _check_matrices(block, found, f"{path}.{number}")
    _check_parameters(decoder, model)
    return decoder


def _traits(model: PreTrainedModel, blocks: nn.ModuleList, refs: list[LinearRef], settings: Settings) -> Traits:
    block, roles = blocks[0], {role_in_block(ref.layer): ref for ref in refs}
    inside = {id(module) for module in blocks.modules()}
    outside = [module for module in _text(model).modules() if id(module) not in inside]
    tables = [m for m in outside if isinstance(m, nn.Embedding) and m is not model.get_input_embeddings()]
    norms = sum(_is_norm(module) for module in outside)
    head: Any = model.get_output_embeddings()
    positions: Any = "learned" if tables else "alibi" if settings.flag("alibi") else "rotary"
    return Traits(
        norms=_norms(block, settings),
        is_gated=any("gate" in role for role in roles),
        ungated=("up", "down") if "up" in roles else ("fc1", "fc2"),
        splits_qkv="q" in roles or "q_a" in roles,
        splits_gate="gate" in roles,
        qkv_bias=any(_has_bias(block, roles.get(role)) for role in ("q", "qkv", "kv_a")),
        o_bias=_has_bias(block, roles.get("o")),
        ffn_bias=any(_has_bias(block, roles.get(role)) for role in ("up", "gate_up", "fc1")),
        head_bias=getattr(head, "bias", None) is not None,
        expert_bias=any(name.endswith("down_proj_bias") for name, _ in blocks.named_parameters()),
        qk_norm=_qk_norm(block, settings),
        positions=positions,
        rotary=settings.share("partial_rotary_factor", "rotary_pct"),
        extra_positions=tables[0].num_embeddings - settings.whole(POSITIONS) if tables else 0,
        is_tied=bool(getattr(model.config, "tie_word_embeddings", False)),
        has_embedding_norm=norms > 1,
        has_final_norm=norms > 0,
        sinks=any(name.endswith("sinks") for name, _ in block.named_parameters()),
        shared_gate=any(name.endswith("shared_expert_gate") for name, _ in blocks.named_modules()),
    )


def _text(model: PreTrainedModel) -> nn.Module:
    """The text decoder of a model that has towers too."""
    return model.get_decoder() or model


def _norms(block: nn.Module, settings: Settings) -> Norms:
    hidden = settings.whole(HIDDEN)
    found = {
        name: module
        for name, module in block.named_modules()
        if _is_norm(module) and "att" not in name.rpartition(".")[0] and _width(module) in (None, hidden)
    }
    if not found:
        raise UserError(f"{type(block).__name__}: it has no norms of {hidden} features; what it computes is not known")
    first = next(iter(found.values()))
    parallel = len(found) == 1 or settings.flag("use_parallel_residual") or settings.flag("parallel_attn")
    behind = all(name.rpartition(".")[2].startswith("post") for name in found)
    layout: Any = "sandwich" if len(found) == 4 else "parallel" if parallel else "post" if behind else "pre"
    return Norms(
        "rms" if "rms" in type(first).__name__.lower() else "layer",
        gain=getattr(first, "weight", None) is not None,
        bias=getattr(first, "bias", None) is not None,
        layout=layout,
        count=min(len(found), 2),
    )


def _qk_norm(block: nn.Module, settings: Settings) -> Any:
    """One gain for all heads, or one for each element of all of them."""
    for name, module in block.named_modules():
        if _is_norm(module) and name.rpartition(".")[2] in ("q_norm", "q_layernorm", "query_layernorm"):
            size = settings.maybe("head_dim") or settings.whole(HIDDEN) // settings.whole(HEADS)
            return "head" if _width(module) == size else "whole"
    return ""


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower() and not list(module.children())


def _width(module: nn.Module) -> int | None:
    weight = getattr(module, "weight", None)
    return weight.numel() if isinstance(weight, torch.Tensor) else None


def _has_bias(block: nn.Module, ref: LinearRef | None) -> bool:
    return ref is not None and getattr(block.get_submodule(ref.module_path), "bias", None) is not None


def _check_matrices(block: Block, refs: list[LinearRef], where: str) -> None:
    """Raises UserError unless a block has these matrices and no others, routed experts' ones counted."""
    expected: dict[tuple[str, int, int], int] = {}
    for matrix, number in block.stored:
        if not matrix.is_float:
            key = _key(matrix)
            expected[key] = expected.get(key, 0) + number
    for ref in refs:
        key = role_in_block(ref.layer), *ref.layer.shape
        if not expected.get(key):
            raise UserError(
                f"{ref.layer.name} ({ref.layer.out_features} x {ref.layer.in_features}): what {where} computes with it "
                "is not known; operations are counted of blocks of attention and of an FFN or experts"
            )
        expected[key] -= 1
    if missing := [key for key, number in expected.items() if number]:
        role, rows, cols = missing[0]
        raise UserError(f"{where}: by its config it has a matrix {role} of {rows} x {cols}, in the model there is none")


def _key(matrix: Matrix) -> tuple[str, int, int]:
    return matrix.role, matrix.out_features, matrix.in_features


def _check_parameters(decoder: Decoder, model: PreTrainedModel) -> None:
    """Raises UserError unless what is counted has as many parameters as the model's text decoder and head."""
    modules = [_text(model)]
    if (head := model.get_output_embeddings()) is not None:
        modules.append(head)
    own = {id(parameter): parameter.numel() for module in modules for parameter in module.parameters()}
    if sum(own.values()) != decoder.parameters:
        raise UserError(
            f"{type(model).__name__} has {sum(own.values()):,} parameters, of which the config explains "
            f"{decoder.parameters:,}; the operations of the others are not known"
        )
