"""A model folder of ours whose blocks have sizes that no config of its family can say: the settings of the model before
pruning, and beside them what was taken out of it.

    config.json                     of the model before pruning
    prunesim-removal.safetensors    what was taken out (workloads/removal.py, Removal.arrays), names and numbers of the
                                    model before; "factors|NAME", (2, 3) int64, the sizes of both factors of a matrix
                                    that became a product (workloads/factors.py); in its metadata "biased", the
                                    matrices that had no bias and have one
    prunesim.safetensors.index.json and the shards it names: the tensors that are left, blocks numbered anew

No loader but ours looks for files of these names, so none fills a whole model from them by mistake."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from transformers import PretrainedConfig, PreTrainedModel

from checkpoints.cutting import cut_block
from checkpoints.discovery import find_refs, find_stacks
from checkpoints.factored import factor_module
from checkpoints.silent import silence
from checkpoints.weight_files import REMOVAL_NAME
from workloads.errors import NotForThisModel, UserError
from workloads.factors import Factors
from workloads.removal import Removal, Units
from workloads.removals_in_turn import in_turn

FACTORS = "factors|"
NUMBERS = ("layer_idx", "layer_id", "layer_number", "block_idx")  # what families call a block's own number
INDEX_LISTS = ("mlp_only_layers", "moe_layers")  # settings that list numbers of blocks


@dataclass(frozen=True)
class Smaller:
    """What was taken out of a model, the names of the matrices that had no bias and have one now, and of those that are
    products the factors."""

    removal: Removal
    biased: frozenset[str] = frozenset()
    factors: Mapping[str, Factors] = field(default_factory=dict)

    def write(self, file: Path) -> None:
        metadata = {"biased": json.dumps(sorted(self.biased))}  # one key: safetensors writes several in any order
        sizes = {f"{FACTORS}{name}": np.array([own.first, own.second]) for name, own in self.factors.items()}
        save_file(self.removal.arrays() | sizes, file, metadata=metadata)


def read_smaller(folder: Path) -> Smaller | None:
    """None of an ordinary model folder. Raises UserError for a damaged file."""
    file = folder / REMOVAL_NAME
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="np") as content:
            arrays = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118
            biased = json.loads((content.metadata() or {})["biased"])
        factors = {
            key.removeprefix(FACTORS): Factors(*(tuple(map(int, sizes)) for sizes in array))  # type: ignore[arg-type]
            for key, array in sorted(arrays.items())
            if key.startswith(FACTORS)
        }
        return Smaller(Removal.from_arrays(arrays), frozenset(str(name) for name in biased), factors)
    except (SafetensorError, OSError, AttributeError, KeyError, TypeError, ValueError, UserError) as error:
        raise UserError(f"{file} cannot be read ({error}); save the model again") from None


def further(first: Smaller | None, second: Removal, biased: frozenset[str], paths: list[str]) -> Smaller:
    """What both take out of the model before the first. `second` and `biased` are of what the first left, and go by the
    numbers of its blocks, which are at `paths`."""
    if first is None:
        return Smaller(second, biased)
    gone = first.removal.blocks
    numbers = [n for n in range(len(paths) + len(gone)) if n not in gone]
    before = {path: f"{path.rpartition('.')[0]}.{n}" for path, n in zip(paths, numbers, strict=True)} if gone else {}

    def old(name: str) -> str:
        path = next((path for path in before if name.startswith(f"{path}.")), "")
        return before[path] + name.removeprefix(path) if path else name

    removal = in_turn(
        first.removal,
        Removal(
            frozenset(numbers[n] for n in second.blocks),
            tuple(Units(each.kind, numbers[each.block], old(each.module), each.kept) for each in second.units),
            {old(name): cut for name, cut in second.cuts.items()},
            {old(path): values for path, values in second.sublayers.items()},
        ),
    )
    names = first.biased | {old(name) for name in biased}
    return Smaller(removal, frozenset(n for n in names if not removal.has_sublayer_of(n)), first.factors)


def shrink(model: PreTrainedModel, smaller: Smaller, config: PretrainedConfig) -> None:
    """Makes a model without weights what pruning left of it, its configs and `config` too; blocks are numbered anew.

    Raises UserError if the removal is of another model, and NotForThisModel for blocks that cannot be numbered anew.
    """
    removal, refs = smaller.removal, find_refs(model)
    known = {ref.layer.name: ref.layer for block in refs for ref in block}
    if strange := [name for name in (*removal.cuts, *smaller.biased, *smaller.factors) if name not in known]:
        raise UserError(f"{strange[0]}, of which something was taken out, is not in this model; was it another?")
    for layer in known.values():
        removal.left(layer)
    for path in removal.sublayers:
        if not any(name.startswith(f"{path}.") for name in known):
            raise UserError(f"{path}, which was taken out, is not in this model; was it another?")
    for name, sizes in smaller.factors.items():
        if sizes.shape != known[name].shape:
            raise UserError(f"{name} is no product of {sizes.words} in this model; was it another?")
    settings = block_settings(model, removal.blocks)
    configs = {id(own): own for own in (config, *_configs(model))}
    for own in configs.values():
        for name, value in settings.items():
            if hasattr(own.get_text_config(), name):
                vars(own.get_text_config())[name] = value
    biases = {name: torch.empty(known[name].out_features, device="meta") for name in smaller.biased}
    number = 0
    for stack in find_stacks(model):
        gone = []
        for n, block in enumerate(stack.blocks):
            if number in removal.blocks:
                gone.append(n)
            else:
                silence(block, f"{stack.path}.{n}", removal.sublayers)
                cut_block(block, f"{stack.path}.{n}", number, removal, biases)
                _renumber(block, n - len(gone))
            number += 1
        for n in reversed(gone):
            del stack.blocks[n]
    for name, sizes in smaller.factors.items():
        factor_module(model, name, sizes)


def block_settings(model: PreTrainedModel, gone: frozenset[int]) -> dict[str, Any]:
    """The text settings that change when whole blocks go, under the names that the family uses. Raises NotForThisModel
    for a model whose other blocks would not be what they were."""
    config = model.config.get_text_config()
    if not gone:
        return {}
    stacks = find_stacks(model)
    if len(stacks) > 1:
        raise NotForThisModel(f"{type(model).__name__} has {len(stacks)} stacks; whole blocks of it cannot be left out")
    if getattr(config, "scale_attn_by_inverse_layer_idx", False):
        raise NotForThisModel(
            f"{type(model).__name__} divides attention by the number of the block, so none can be left out"
        )
    count = len(stacks[0].blocks)
    left = [n for n in range(count) if n not in gone]
    settings: dict[str, Any] = {config.attribute_map.get("num_hidden_layers", "num_hidden_layers"): len(left)}
    for name, value in config.to_dict().items():
        if not isinstance(value, list | tuple):
            continue
        if name in INDEX_LISTS:
            settings[name] = [left.index(n) for n in value if n in left]
        elif "layer" in name and len(value) == count:
            settings[name] = [value[n] for n in left]
    return settings


def _configs(model: PreTrainedModel) -> Iterator[PretrainedConfig]:
    for module in model.modules():
        if isinstance(own := getattr(module, "config", None), PretrainedConfig):
            yield own


def _renumber(block: torch.nn.Module, number: int) -> None:
    for module in block.modules():
        for name in NUMBERS:
            if isinstance(vars(module).get(name), int):
                setattr(module, name, number)
