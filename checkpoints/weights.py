"""The tensors of a checkpoint by key, whatever kind of file they lie in (needs torch). Nothing is unpickled but
tensors."""

import pickle
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

from checkpoints.weight_files import check_unpacked_size, foreign, kind_of
from workloads.errors import UserError, one_line

STORED_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip


class Weights(Protocol):
    """What a checkpoint needs of its files. Keys are those of the files."""

    def names(self) -> Iterable[str]: ...

    def shape(self, key: str) -> tuple[int, ...]: ...

    def dtype(self, key: str) -> torch.dtype:
        """The type a tensor is stored in, or comes out in where it is stored compressed."""
        ...

    def slices(self, keys: Iterable[str]) -> dict[str, Any]:
        """By key what `[...]` turns into the tensor: how transformers' loader takes them, one after the other."""
        ...

    def tensors(self, keys: Iterable[str]) -> dict[str, torch.Tensor]:
        """Tensors of their own: writing into them changes no file."""
        ...


def open_weights(files: list[Path]) -> Weights:
    """The tensors of safetensors or torch files, which may not be mixed. Raises UserError naming the file that is
    unreadable."""
    kinds = {file: kind_of(file) for file in files}
    if set(kinds.values()) == {"torch"}:
        return TorchWeights(files)
    for file, kind in kinds.items():
        if kind == "torch":
            raise UserError(
                f"{file} was saved by torch, {files[0].name} beside it was not; keep one kind in the folder"
            )
        if kind is None and (what := foreign(file)):
            raise UserError(f"{file} is not a readable weight file: it is {what}")
    return SafetensorsWeights(files)


class SafetensorsWeights:
    """Memory-mapped files; a tensor is read when it is asked for."""

    def __init__(self, files: list[Path]):
        self._place: dict[str, Path] = {}
        for file in files:
            try:
                with safe_open(file, framework="pt") as reader:
                    self._place.update(dict.fromkeys(reader.keys(), file))
            except (SafetensorError, OSError, ValueError) as error:
                raise unreadable(file, error) from None

    def names(self) -> Iterable[str]:
        return self._place

    def shape(self, key: str) -> tuple[int, ...]:
        with safe_open(self._place[key], framework="pt") as reader:
            return tuple(reader.get_slice(key).get_shape())

    def dtype(self, key: str) -> torch.dtype:
        with safe_open(self._place[key], framework="pt") as reader:
            kind = reader.get_slice(key).get_dtype()
        if kind not in STORED_TYPES:
            raise UserError(f"{self._place[key]}: {key} is stored as {kind}, which is not read; save it as floats")
        return STORED_TYPES[kind]

    def slices(self, keys: Iterable[str]) -> dict[str, Any]:
        keys = list(keys)
        try:
            readers = {file: safe_open(file, framework="pt") for file in {self._place[key] for key in keys}}
            return {key: readers[self._place[key]].get_slice(key) for key in keys}
        except (SafetensorError, OSError) as error:
            raise unreadable(self._place[keys[0]], error) from None

    def tensors(self, keys: Iterable[str]) -> dict[str, torch.Tensor]:
        wanted: dict[Path, list[str]] = {}
        for key in keys:
            wanted.setdefault(self._place[key], []).append(key)
        found: dict[str, torch.Tensor] = {}
        for file, names in wanted.items():
            try:
                with safe_open(file, framework="pt") as reader:
                    found |= {name: reader.get_tensor(name) for name in names}
            except (SafetensorError, OSError, AttributeError) as error:
                raise unreadable(file, error) from None
        return found


class HeldWeights:
    """Tensors that are in memory, or mapped into it, already."""

    def __init__(self, tensors: dict[str, torch.Tensor]):
        self._held = tensors

    def names(self) -> Iterable[str]:
        return self._held

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._held[key].shape)

    def dtype(self, key: str) -> torch.dtype:
        return self._held[key].dtype

    def slices(self, keys: Iterable[str]) -> dict[str, Any]:
        return self.tensors(keys)

    def tensors(self, keys: Iterable[str]) -> dict[str, torch.Tensor]:
        return {key: self._held[key].clone(memory_format=torch.contiguous_format) for key in keys}


class TorchWeights(HeldWeights):
    """Files written by torch.save, mapped into memory where they are zip archives (since torch 1.6)."""

    def __init__(self, files: list[Path]):
        super().__init__({key: tensor for file in files for key, tensor in read_torch_file(file).items()})


def read_torch_file(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file that torch.save wrote: its dict, or the one under "state_dict" or "model" in it.

    Raises UserError for a damaged file, one that holds other objects than tensors, and one that unpacks to far more
    than it is.
    """
    content = load_torch(file)
    for name in ("state_dict", "model", "module"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict):
        raise UserError(
            f"{file} holds a {type(content).__name__}, not a dict of tensors; save the model's state_dict()"
        )
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}
    if not tensors:
        raise UserError(f"{file} holds no tensors; save the model's state_dict()")
    for key, tensor in tensors.items():
        check_tensor(file, key, tensor)
    return tensors


def check_tensor(file: Path, key: str, tensor: torch.Tensor) -> None:
    """Raises UserError for a tensor that is not plain numbers, all of which the file holds."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise UserError(f"{file}: {key} is a sparse or quantized tensor; save it as plain floats")
    if tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
        raise UserError(f"{file}: {key} claims {tuple(tensor.shape)}, the file holds less; save it again")


def load_torch(file: Path) -> Any:
    """Whatever torch.save wrote, if it is tensors and plain containers. Raises UserError as `read_torch_file`."""
    check_unpacked_size(file)
    try:
        return _loaded(file)
    except pickle.UnpicklingError:
        raise UserError(
            f"{file} holds Python objects beside tensors, which are never unpickled; save the model's state_dict() "
            "alone, or as safetensors"
        ) from None
    except (RuntimeError, ValueError, EOFError, OSError, LookupError, AttributeError, TypeError, MemoryError) as error:
        raise UserError(f"{file} is a damaged torch file: {one_line(error)}; save it again") from None


def _loaded(file: Path) -> Any:
    """What the file holds: mapped into memory, unless it is older than zip archives or has a name that torch takes for
    another kind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickle protocols, which are no matter of the user's
        if file.suffix != ".safetensors":
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
        with file.open("rb") as stream:
            return torch.load(stream, map_location="cpu", weights_only=True)


def unreadable(file: Path, error: Exception) -> UserError:
    return UserError(f"{file} is not a readable safetensors file: {one_line(error)}; download or save it again")
