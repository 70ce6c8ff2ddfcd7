"""A Hugging Face checkpoint whose weights are read a few parameters at a time (needs torch and transformers).

The model is built on the meta device; `load` fills chosen parameters from the safetensors files, through transformers'
own key renamings and expert stacking, and `release` empties them again. Nothing is unpickled, no remote code is run.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
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

from workloads.discovery import BAD_CONFIG, find_blocks
from workloads.errors import UserError, one_line
from workloads.files import read_json
from workloads.limits import check_config, check_links

STORED_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
HUB_FILES = ["*.json", "*.safetensors", "tokenizer*", "*.model"]


class Checkpoint:
    """A causal LM on the meta device and the files its parameters come from.

    `model` is the skeleton (eval mode, `dtype` parameters, real buffers), `blocks` its decoder blocks at `block_path`,
    `sources` maps a parameter name to the checkpoint keys it is made of; `converted` names the parameters that are
    assembled from them (stacked experts, split matrices), not just renamed.
    """

    def __init__(self, folder: Path, dtype: torch.dtype | None = None, device: str = "cpu"):
        """dtype None means the config's; parameters are loaded to `device`. Raises UserError if the folder is no model, its
        files are broken, or there is no such device."""
        transformers_logging.disable_progress_bar()
        self.device = find_device(device)
        self.folder = folder
        self.files = weight_files(folder)
        raw = read_json(folder / "config.json", "model config")
        if isinstance(raw, dict):
            check_config(raw, folder / "config.json")
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (*BAD_CONFIG, OSError) as error:
            raise UserError(f"{folder}: config.json is not usable: {one_line(error)}; correct it") from None
        if getattr(config, "quantization_config", None):
            raise UserError(f"{folder}: its weights are quantized; give the checkpoint they were quantized from")
        self.config = config
        try:
            with torch.device("meta"):
                self.model = AutoModelForCausalLM.from_config(
                    config, dtype=dtype or config.dtype or torch.float32, trust_remote_code=False
                )
        except BAD_CONFIG as error:
            raise UserError(f"{folder}: not a causal language model: {one_line(error)}; give a decoder model") from None
        self.model.eval().requires_grad_(False)
        self.model.config.use_cache = False
        self.model.config._experts_implementation = "eager"  # one linear an expert, so that its inputs can be seen
        _fill_buffers(self.model, self.model)
        for module in self.model.modules():
            module._buffers = {n: b if b is None else b.to(self.device) for n, b in module._buffers.items()}
        self.block_path, self.blocks = find_blocks(self.model)
        self._mapping = get_model_conversion_mapping(self.model)
        self._shapes = self.model.state_dict()
        self._key_file = key_files(self.files)
        self.sources: dict[str, list[str]] = {}
        self.converted: set[str] = set()
        self._find_sources()

    def load(self, parameters: Iterable[str]) -> None:
        """Fills the named parameters. Raises UserError if the checkpoint lacks one or has another shape."""
        names = [name for name in parameters if name in self._shapes]
        keys = [key for name in names for key in self.sources.get(name, [])]
        readers = {file: safe_open(file, framework="pt") for file in {self._key_file[key] for key in keys}}
        slices = {key: readers[self._key_file[key]].get_slice(key) for key in keys}
        config = LoadStateDictConfig(dtype=self.model.dtype, weight_mapping=self._mapping)  # type: ignore[arg-type]
        info, _ = convert_and_load_state_dict_in_model(self.model, slices, config)
        for name, found, expected in info.mismatched_keys:
            raise UserError(f"{self.folder}: {name} has shape {tuple(found)}, its config asks for {tuple(expected)}")
        if info.conversion_errors:
            raise UserError(f"{self.folder}: {first_line(next(iter(info.conversion_errors.values())))}")
        if self.device.type != "cpu":
            self._to_device(names)

    def stored_dtype(self, parameter: str) -> torch.dtype:
        """The type the files hold a parameter in."""
        key = self.sources[parameter][0]
        with safe_open(self._key_file[key], framework="pt") as reader:
            return STORED_TYPES.get(reader.get_slice(key).get_dtype(), self.model.dtype)

    def load_block(self, number: int) -> nn.Module:
        """Decoder block `number` with its weights."""
        block = self.blocks[number]
        prefix = f"{self.block_path}.{number}."
        self.load([prefix + name for name in block.state_dict()])
        self._check_filled(block, prefix)
        return block

    def load_rest(self) -> None:
        """Everything outside the blocks: embeddings, final norm, head (tied weights stay tied)."""
        inside = self.block_path + "."
        self.load([name for name in self._shapes if not name.startswith(inside)])
        self.model.tie_weights()
        for name, child in self.model.named_parameters():
            if not name.startswith(inside) and child.is_meta:
                raise UserError(f"{self.folder}: the checkpoint lacks {name}")

    def release(self, module: nn.Module) -> None:
        """Gives the memory of a module's parameters back."""
        for child in module.modules():
            for name, parameter in list(child._parameters.items()):
                if parameter is not None and not parameter.is_meta:
                    child._parameters[name] = nn.Parameter(parameter.to("meta"), requires_grad=False)

    def raw(self, keys: Iterable[str]) -> dict[str, torch.Tensor]:
        """Tensors as stored in the files; writing into them changes no file."""
        keys_in: dict[Path, list[str]] = {}
        for key in keys:
            keys_in.setdefault(self._key_file[key], []).append(key)
        tensors: dict[str, torch.Tensor] = {}
        for file, wanted in keys_in.items():
            with safe_open(file, framework="pt") as reader:
                tensors |= {key: reader.get_tensor(key) for key in wanted}
        return tensors

    def to_stored(self, parameters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Converted parameters (or anything of their shapes) in the pieces and under the keys of the files."""
        self.model._weight_conversions = [transform for transform in self._mapping if transform.was_used()]
        return revert_weight_conversion(self.model, parameters)

    def sha256(self) -> str:
        """Hash of all weight files, in the order of their names."""
        digest = hashlib.sha256()
        for file in self.files:
            with file.open("rb") as stream:
                while chunk := stream.read(1 << 24):
                    digest.update(chunk)
        return digest.hexdigest()

    def _find_sources(self) -> None:
        converters = [transform for transform in self._mapping if isinstance(transform, WeightConverter)]
        renamings = [transform for transform in self._mapping if isinstance(transform, WeightRenaming)]
        targets_of = {pattern: c.target_patterns for c in converters for pattern in c.source_patterns}
        for key in sorted(self._key_file, key=dot_natural_key):
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
            f"no device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return device


def find_model_folder(model: str) -> Path:
    """A local model folder, or the local copy of a hub model. Raises UserError if it is neither."""
    folder = Path(model)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder} is not a model folder: it holds no config.json")
        check_links(folder)
        return folder
    if folder.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise UserError(f"{model} is not a model: no such folder, and not a hub id such as meta-llama/Llama-2-7b-hf")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, allow_patterns=HUB_FILES))
    except Exception as error:  # the hub client raises many kinds; all mean the same to the user
        raise UserError(
            f"{model}: no such folder, and the hub has it not or is out of reach: {first_line(error)}"
        ) from None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, sorted by name."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        files = [folder / "model.safetensors"]
    elif index.is_file():
        weight_map = _weight_map(index)
        names = sorted(set(weight_map.values()))
        files = [folder / name for name in names]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(
            f"{folder} holds no .safetensors weights; convert the checkpoint (pickled weights are not read)"
        )
    for file in files:
        if not file.is_file():
            raise UserError(f"{folder}: weight file {file.name} is missing; download or save the model again")
    return files


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor name -> file name, of a sharded checkpoint's index."""
    content = read_json(index, "checkpoint index")
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not all(isinstance(n, str) and Path(n).name == n for n in names.values()):
        raise UserError(f'{index}: its "weight_map" does not name weight files beside it; save the model again')
    return names


def key_files(files: list[Path]) -> dict[str, Path]:
    """Which file holds each tensor."""
    place = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as reader:
                place.update(dict.fromkeys(reader.keys(), file))
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file} is not a readable safetensors file: {first_line(error)}") from None
    return place


def first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


@torch.no_grad()
def _fill_buffers(module: nn.Module, owner: PreTrainedModel) -> None:
    """Buffers that no checkpoint holds (rotary frequencies) are computed by the initialiser of the model they are in."""
    owner = module if isinstance(module, PreTrainedModel) else owner
    lost = {name: buffer for name, buffer in module._buffers.items() if buffer is not None and buffer.is_meta}
    for name, buffer in lost.items():
        module._buffers[name] = torch.empty_like(buffer, device="cpu")
    if lost:
        owner._init_weights(module)
    for child in module.children():
        _fill_buffers(child, owner)
