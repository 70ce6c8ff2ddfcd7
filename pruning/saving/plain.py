"""Whether a config of the model's own family says what pruning left, so that every loader can read it.

No table of families is trusted: settings are tried, a model is built from them (on the meta device), and it has to be
the smaller model in every module, parameter, shape, buffer and setting of its modules.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from checkpoints.checkpoint import Checkpoint
from checkpoints.cutting import HEADS, KV_HEADS
from checkpoints.discovery import BAD_CONFIG
from checkpoints.skeleton import build_skeleton
from checkpoints.smaller import Smaller, block_settings, shrink
from pruning.saving.widths import EXPERT_GRANULE, stacked_experts, widths
from workloads.errors import UserError, one_line
from workloads.files import read_json
from workloads.removal import KV_GROUP, WORDS

FFN_WIDTHS = (
    "intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size", "intermediate_size_mlp",
    "ffn_dim", "ffn_hidden_size", "n_inner", "d_ff",
)  # fmt: skip
BIASES = ("attention_bias", "mlp_bias", "use_bias", "bias")  # settings that give linears a bias
# Sizes that modules note of themselves and no forward pass reads, or that cut modules no longer know.
NOTED = ("intermediate", "ffn", "inner", "expert_dim", "in_features", "out_features", "nx", "nf", "has_sliding_layers")


@dataclass(frozen=True)
class Plain:
    """`settings` for config.json (its "text_config" where that holds them), None where none says the sizes, `why`
    then. `zero_biases`: parameters that those settings add, under the names of the smaller model."""

    settings: dict[str, Any] | None
    zero_biases: frozenset[str] = frozenset()
    why: str = ""


def plain_form(checkpoint: Checkpoint, smaller: Smaller) -> Plain:
    """Raises UserError as `shrink`."""
    if smaller.removal.sublayers:
        return Plain(None, why="some blocks have no attention or no FFN")
    config = copy.deepcopy(checkpoint.config)
    cut = build_skeleton(checkpoint.family.model_class, config, checkpoint.model.dtype)
    changes = dict(block_settings(cut, smaller.removal.blocks))
    shrink(cut, smaller, config)
    for (kind, of), left in widths(smaller.removal).items():
        if len(left) > 1:
            counts = f"{min(left)} to {max(left)} of {of} {WORDS[kind]}"
            return Plain(None, why=f"blocks keep {counts}")
        changes |= _sizes(checkpoint, kind, of, left.pop())
    stacked = stacked_experts(checkpoint)
    for unit in smaller.removal.units:
        if unit.module in stacked and not unit.kept.all() and (count := int(unit.kept.sum())) % EXPERT_GRANULE:
            return Plain(None, why=f"experts keep {count} neurons, transformers runs multiples of {EXPERT_GRANULE}")
    flags = [name for name in BIASES if getattr(checkpoint.config.get_text_config(), name, None) is False]
    why = ""
    for count in range(len(flags) + 1 if smaller.biased else 1):
        for chosen in combinations(flags, count):
            settings = _written(checkpoint, changes | dict.fromkeys(chosen, True))
            found = _tried(checkpoint, settings, cut)
            if not isinstance(found, str):
                return Plain(settings, found)
            why = why or found
    return Plain(None, why=f"no config says it: {why}")


def _sizes(checkpoint: Checkpoint, kind: str, of: int, left: int) -> dict[str, Any]:
    """The settings that say how many units of a kind there are."""
    config = checkpoint.config.get_text_config()
    if left == of:
        return {}
    names = {config.attribute_map.get(name, name) for name in ((*HEADS, *KV_HEADS) if kind == KV_GROUP else FFN_WIDTHS)}
    changes: dict[str, Any] = {}
    for name in sorted(names):
        size = getattr(config, name, None)
        if kind != KV_GROUP:
            size = 4 * config.hidden_size if size is None and hasattr(config, name) else size
            changes |= {name: left} if size == of else {}
        elif isinstance(size, int) and not isinstance(size, bool) and size % of == 0:
            changes[name] = size // of * left
    if kind == KV_GROUP:
        changes["head_dim"] = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return changes


def _written(checkpoint: Checkpoint, changes: dict[str, Any]) -> dict[str, Any]:
    """The changes as config.json takes them: a name's other spellings too where the file has them, and in the part
    that describes the text model."""
    config, text = checkpoint.config, checkpoint.config.get_text_config()
    said = config.to_dict() if checkpoint.is_gguf else read_json(checkpoint.folder / "config.json", "model config")
    part = next((n for n, value in said.items() if isinstance(value, dict) and getattr(config, n, None) is text), None)
    if not changes:
        return {}
    inner = said if part is None else said[part]
    other = {alias: changes[name] for alias, name in text.attribute_map.items() if alias in inner and name in changes}
    return changes | other if part is None else {part: inner | changes | other}


def _tried(checkpoint: Checkpoint, settings: dict[str, Any], cut: PreTrainedModel) -> frozenset[str] | str:
    """The biases that a model of these settings has and the smaller one has not, or why it is not that model."""
    said = checkpoint.config.to_dict()
    try:
        config: PretrainedConfig = type(checkpoint.config).from_dict(said | _merged(said, settings))
        config.__dict__.pop("quantization_config", None)
        config._attn_implementation = None
        tried = build_skeleton(checkpoint.family.model_class, config, checkpoint.model.dtype)
    except (UserError, *BAD_CONFIG) as error:
        return one_line(error)
    return next(_differences(tried, cut), None) or _more_biases(tried, cut)


def _merged(said: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """A nested part of the settings over what the config says of that part."""
    return {
        name: said[name] | value if isinstance(value, dict) and isinstance(said.get(name), dict) else value
        for name, value in settings.items()
    }


def _more_biases(tried: nn.Module, cut: nn.Module) -> frozenset[str]:
    has = {name for name, _ in cut.named_parameters(remove_duplicate=False)}
    return frozenset(name for name, _ in tried.named_parameters(remove_duplicate=False) if name not in has)


def _differences(tried: PreTrainedModel, cut: PreTrainedModel) -> Iterator[str]:
    one, other = dict(tried.named_modules()), dict(cut.named_modules())
    if strange := one.keys() ^ other.keys():
        yield f"{min(strange)} is in one model alone"
        return
    for path, module in one.items():
        twin = other[path]
        if type(module) is not type(twin):
            yield f"{path} would be a {type(module).__name__}"
        yield from _of_tensors(path, module, twin)
        for name, value in vars(module).items():
            is_plain = isinstance(value, int | float | str | bool | tuple | type(None))
            if is_plain and not name.startswith("_") and not any(noted in name for noted in NOTED):
                same = vars(twin).get(name)
                if same != value and not (value is None and name not in vars(twin)):
                    yield f"{path}.{name} would be {value}, not {same}"


def _of_tensors(path: str, module: nn.Module, twin: nn.Module) -> Iterator[str]:
    """A bias that only the tried model's linear has can be zero; all else has to agree."""
    mine = {name: tuple(p.shape) for name, p in module._parameters.items() if p is not None}
    theirs = {name: tuple(p.shape) for name, p in twin._parameters.items() if p is not None}
    for name in sorted(mine.keys() | theirs.keys()):
        is_zero_bias = name == "bias" and name not in theirs and isinstance(module, nn.Linear)
        if mine.get(name) != theirs.get(name) and not is_zero_bias:
            yield f"{path}.{name} would be {mine.get(name, 'absent')}, not {theirs.get(name, 'absent')}"
    for name, buffer in module.named_buffers(recurse=False):
        same = dict(twin.named_buffers(recurse=False)).get(name)
        if same is None or buffer.shape != same.shape or not torch.equal(buffer, same):
            yield f"{path}.{name} would hold other values"
