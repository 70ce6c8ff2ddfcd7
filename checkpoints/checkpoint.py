"""A Hugging Face checkpoint whose weights are read a few parameters at a time (needs torch and transformers).

The model is built on the meta device; `load` fills chosen parameters from its weight files, through transformers' own
key renamings and expert stacking, and `release` empties them again. Nothing but tensors is unpickled, no remote code is
run.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    convert_and_load_state_dict_in_model,
    dot_natural_key,
    rename_source_key,
    revert_weight_conversion,
)
from transformers.modeling_utils import LoadStateDictConfig
from transformers.utils import logging as transformers_logging

from checkpoints.compressed import Decompressed, decompressed
from checkpoints.cutting import Restored, cut_block
from checkpoints.discovery import (
    BAD_CONFIG,
    LinearRef,
    Stack,
    block_linears,
    find_refs,
    find_stacks,
    shared_parameters,
)
from checkpoints.families import family_of
from checkpoints.gguf_files import gguf_config, gguf_weights
from checkpoints.opened import Changes
from checkpoints.silent import silence
from checkpoints.skeleton import build_skeleton
from checkpoints.smaller import read_smaller, shrink
from checkpoints.weight_files import kind_of, weight_files
from checkpoints.weights import Weights, open_weights
from workloads.errors import UserError, one_line
from workloads.files import read_json
from workloads.limits import check_config

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)  # types that weights are written back in


class Checkpoint(Changes):
    """A model on the meta device and the files its parameters come from: safetensors, torch files or one GGUF file.

    `folder` is the model's folder, or the GGUF file itself; `smaller` says what was taken out of the model that the
    folder's config describes (checkpoints/smaller.py), None if nothing was.

    `model` is the skeleton (eval mode, `dtype` parameters, real buffers) of a `family`, `blocks` those of all its
    `stacks`, at `block_paths`. `shared` maps a parameter of a block that is also an earlier block's to the name it has
    there. `sources` maps a parameter name to the checkpoint keys it is made of; `converted` names the parameters that
    are assembled from them (stacked experts, split matrices), not just renamed.
    """

    def __init__(self, folder: Path, dtype: torch.dtype | None = None, device: str = "cpu"):
        """dtype None means the config's; parameters are loaded to `device`. Raises UserError if the folder is no model,
        its files are broken, or there is no such device."""
        super().__init__()
        transformers_logging.disable_progress_bar()
        self.device = find_device(device)
        self.folder = folder
        self.files = weight_files(folder)
        self.is_gguf = kind_of(self.files[0]) == "gguf"
        config = gguf_config(self.files[0]) if self.is_gguf else read_config(folder)
        quantization = config.__dict__.pop("quantization_config", None)  # the weights say whether they are packed
        config._attn_implementation = None  # transformers' default: what a file asks for may not be installed
        self.config = config
        try:
            self.family = family_of(config)
            self.model = build_skeleton(self.family.model_class, config, dtype or config.dtype or torch.float32)
            self.smaller = read_smaller(folder)
            if self.smaller is not None:
                shrink(self.model, self.smaller, config)
        except UserError as error:
            raise UserError(f"{folder}: {error}") from None
        except BAD_CONFIG as error:
            raise UserError(f"{folder}: transformers cannot build it: {one_line(error)}; correct its config") from None
        self.model.config.use_cache = False
        self.model.config._experts_implementation = "eager"  # one linear an expert, so that its inputs can be seen
        for module in self.model.modules():
            module._buffers = {n: b if b is None else b.to(self.device) for n, b in module._buffers.items()}
        self.stacks: list[Stack] = find_stacks(self.model)
        self.blocks: list[nn.Module] = [block for stack in self.stacks for block in stack.blocks]
        self.block_paths = [f"{stack.path}.{n}" for stack in self.stacks for n in range(len(stack.blocks))]
        self.shared = shared_parameters(self.model)
        self._mapping = [] if self.is_gguf else get_model_conversion_mapping(self.model)
        self._shapes = self.model.state_dict()
        self._weights = self._open(quantization)
        self.sources: dict[str, list[str]] = {}
        self.converted: set[str] = set()
        self._find_sources()
        self._uncut: dict[int, Restored] = {}  # by the block's id
        self._silenced: dict[int, dict[str, nn.Module]] = {}  # by the block's id, what stood in the place of Silents

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.model.dtype

    def found_refs(self) -> list[list[LinearRef]]:
        """The prunable matrices of every block as it was, shared ones in the first of them alone."""
        return find_refs(self.model)

    def block_refs(self, number: int) -> list[LinearRef]:
        """Those of one block, shared ones too."""
        return block_linears(self.blocks[number], self.block_paths[number], number)

    def load(self, parameters: Iterable[str]) -> None:
        """Fills the named parameters. Raises UserError if the checkpoint lacks one or has another shape."""
        names = [name for name in parameters if name in self._shapes]
        keys = [key for name in names for key in self.sources.get(name, [])]
        slices = self._weights.slices(keys)
        config = LoadStateDictConfig(dtype=self.model.dtype, weight_mapping=self._mapping)  # type: ignore[arg-type]
        info, _ = convert_and_load_state_dict_in_model(self.model, slices, config)
        for name, found, expected in info.mismatched_keys:
            raise UserError(f"{self.folder}: {name} has shape {tuple(found)}, its config asks for {tuple(expected)}")
        if info.conversion_errors:
            raise UserError(f"{self.folder}: {one_line(next(iter(info.conversion_errors.values())))}")
        if self.device.type != "cpu":
            self._to_device(names)

    def stored_dtype(self, parameter: str) -> torch.dtype:
        """The type the files hold a parameter in."""
        found = self._weights.dtype(self.sources[parameter][0])
        return found if found in FLOATS else self.model.dtype

    def grid(self, layer: str) -> tuple[int, int] | None:
        """(bits, inputs that share a scale) of a layer that the files hold in codes; None of others."""
        keys = self.sources.get(f"{layer}.weight") or self.sources.get(layer.rpartition(".")[0])
        return self._weights.grid(keys[0]) if keys and isinstance(self._weights, Decompressed) else None

    def other_shapes(self) -> list[str]:
        """The parameters that the files hold in another shape than the config asks for, of those that are stored in one
        piece."""
        whole = {
            name: keys[0] for name, keys in self.sources.items() if name in self._shapes and name not in self.converted
        }
        return [name for name, key in whole.items() if self._weights.shape(key) != tuple(self._shapes[name].shape)]

    @property
    def unused(self) -> list[str]:
        """Keys of the files that the model has no place for."""
        return [key for name, keys in self.sources.items() if name not in self._shapes for key in keys]

    def load_block(self, number: int) -> nn.Module:
        """Decoder block `number` with its weights."""
        block = self.blocks[number]
        if number in self.removal.blocks:
            return block
        prefix = f"{self.block_paths[number]}."
        self.silence(number)
        names = [prefix + name for name in block.state_dict()]
        self.load([name for name in names if name not in self.shared])
        self._load_shared([name for name in names if name in self.shared])
        self._check_filled(block, prefix)
        if self.removal.cuts or self._biases:
            self._uncut[id(block)] = Restored(block)
            cut_block(block, self.block_paths[number], number, self.removal, self._biases)
        if self._edit is not None:
            self._edit(number, block)
        return block

    def silence(self, number: int) -> None:
        """Puts zeros in the place of the sub-layers of a block that `take_out` named; part of loading it."""
        block = self.blocks[number]
        if before := silence(block, self.block_paths[number], self.removal.sublayers):
            self._silenced[id(block)] = before

    def unsilence(self, block: nn.Module) -> None:
        """Puts them back; part of releasing it."""
        for name, sublayer in self._silenced.pop(id(block), {}).items():
            setattr(block, name, sublayer)

    def in_blocks(self, parameter: str) -> bool:
        return any(parameter.startswith(f"{stack.path}.") for stack in self.stacks)

    def load_rest(self) -> None:
        """Everything outside the blocks: embeddings, final norm, head (tied weights stay tied)."""
        self.load([name for name in self._shapes if not self.in_blocks(name)])
        self.model.tie_weights()
        for name, child in self.model.named_parameters():
            if not self.in_blocks(name) and child.is_meta:
                raise UserError(f"{self.folder}: the checkpoint lacks {name}")

    def release(self, module: nn.Module) -> None:
        """Gives the memory of a module's parameters back; blocks in it are again what files are loaded into."""
        for part in [part for part in module.modules() if id(part) in self._uncut]:
            self._uncut.pop(id(part)).restore()
        for part in [part for part in module.modules() if id(part) in self._silenced]:
            self.unsilence(part)
        for child in module.modules():
            for name, parameter in list(child._parameters.items()):
                if parameter is not None and not parameter.is_meta:
                    child._parameters[name] = nn.Parameter(parameter.to("meta"), requires_grad=False)

    def raw(self, keys: Iterable[str]) -> dict[str, torch.Tensor]:
        """Tensors as stored in the files; writing into them changes no file."""
        return self._weights.tensors(keys)

    def to_stored(self, parameters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Converted parameters (or anything of their shapes) in the pieces and under the keys of the files."""
        used = [transform for transform in self._mapping if transform.was_used()]
        self.model._weight_conversions = used  # type: ignore[assignment]
        return revert_weight_conversion(self.model, parameters)

    def sha256(self) -> str:
        """Hash of all weight files, in the order of their names."""
        digest = hashlib.sha256()
        for file in self.files:
            with file.open("rb") as stream:
                while chunk := stream.read(1 << 24):
                    digest.update(chunk)
        return digest.hexdigest()

    def _open(self, quantization: Any) -> Weights:
        if self.is_gguf:
            return gguf_weights(self.files[0], self.model)
        return decompressed(open_weights(self.files), self.folder, quantization)

    def _find_sources(self) -> None:
        converters = [transform for transform in self._mapping if isinstance(transform, WeightConverter)]
        renamings = [transform for transform in self._mapping if isinstance(transform, WeightRenaming)]
        targets_of = {pattern: c.target_patterns for c in converters for pattern in c.source_patterns}
        for key in sorted(self._weights.names(), key=dot_natural_key):
            name, pattern = rename_source_key(key, renamings, converters, self.model.base_model_prefix, self._shapes)
            if name not in self._shapes and key in self._shapes:
                name, pattern = key, None
            names = [name]
            if pattern is not None:
                first, *others = targets_of[pattern]
                names += [name.replace(first, other) for other in others]
                self.converted.update(names)
            for made in names:
                self.sources.setdefault(made, []).append(key)
        for name, owner in self.shared.items():
            if owner not in self.sources and name in self.sources:
                self.sources[owner] = self.sources.pop(name)

    def _load_shared(self, names: list[str]) -> None:
        """Fills parameters that an earlier block owns: a shared parameter may have any of its names in the files."""
        for name in names:
            owner = self.shared[name]
            module, leaf = self._place(name)
            other, own_leaf = self._place(owner)
            here = module._parameters[leaf]
            if here is None or not here.is_meta:
                continue
            before = other._parameters[own_leaf]
            self.load([owner])
            module._parameters[leaf] = other._parameters[own_leaf]
            if other is not module:
                other._parameters[own_leaf] = before

    def _place(self, name: str) -> tuple[nn.Module, str]:
        path, _, leaf = name.rpartition(".")
        return self.model.get_submodule(path), leaf

    def _to_device(self, names: list[str]) -> None:
        for name in names:
            path, _, leaf = name.rpartition(".")
            module = self.model.get_submodule(path)
            if leaf in module._parameters and not (parameter := module._parameters[leaf]).is_meta:  # type: ignore[union-attr]
                module._parameters[leaf] = nn.Parameter(parameter.to(self.device), requires_grad=False)  # type: ignore[union-attr]

    def _check_filled(self, module: nn.Module, prefix: str) -> None:
        for name, parameter in module.named_parameters():
            if parameter.is_meta:
                raise UserError(f"{self.folder}: the checkpoint lacks {prefix}{name}")


def find_device(name: str) -> torch.device:
    """Raises UserError for a device this machine lacks."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}; use cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name!r} is not supported; use cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"no device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices; use `device=cpu`"
        )
    return device


def check_model_type(settings: dict[str, Any], folder: Path) -> None:
    """Raises UserError for a kind of model that transformers has not, or that only code in the folder would make."""
    kind = settings.get("model_type")
    if isinstance(kind, str) and kind in CONFIG_MAPPING:
        return
    own = "; the code that its auto_map names is never run" if settings.get("auto_map") else ""
    raise UserError(
        f"{folder}: config.json is not usable: transformers has no model_type {kind!r}{own}; give a model it has"
    )


def read_config(folder: Path) -> PretrainedConfig:
    """The config of a model folder. Raises UserError if it cannot be used."""
    settings = read_json(folder / "config.json", "model config")
    if not isinstance(settings, dict):
        raise UserError(
            f"{folder}: config.json holds a JSON {type(settings).__name__}, not an object of settings; correct it"
        )
    check_config(settings, folder / "config.json")
    check_model_type(settings, folder)
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (*BAD_CONFIG, OSError) as error:
        raise UserError(f"{folder}: config.json is not usable: {one_line(error)}; correct it") from None
