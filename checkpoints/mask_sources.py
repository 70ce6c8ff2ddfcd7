"""What a path that somebody calls masks is, told by its content: arrays, tensors, or a model whose weights hold
zeros."""

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from checkpoints.catalog import resolve_config
from checkpoints.model_folder import check_no_adapter
from checkpoints.weight_files import DAMAGED_ZIP, foreign, kind_of, weight_files
from workloads.bundle import HEADER_FILE
from workloads.errors import UserError
from workloads.importers import Matrix, read_arrays

_READABLE = "masks are read from .npy and .npz arrays, safetensors and torch files (.pt), and Hugging Face checkpoints"


@dataclass(frozen=True)
class MaskSource:
    """`read` yields the matrices anew each time it is called. `files`: what they are made of. `config`: the model's, of
    a checkpoint. `remark`: what the user should know of it."""

    path: Path
    kind: Literal["arrays", "tensors", "checkpoint"]
    files: list[Path]
    read: Callable[[], Iterator[Matrix]]
    config: dict[str, Any] = field(default_factory=dict)
    remark: str = ""


def open_masks(path: Path) -> MaskSource:
    """Raises UserError, which says what the path is, for anything that holds no masks."""
    if not path.exists():
        raise UserError(f"no such file or folder: {path}")
    if not path.is_dir():
        return _of_file(path)
    if (path / HEADER_FILE).is_file():
        raise UserError(f"{path} is a mask bundle already; every verb takes it as it is")
    files = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    kinds = {file: content_of(file) for file in files}
    if {"safetensors", "torch", "gguf"} & set(kinds.values()):
        check_no_adapter(path)
        return _checkpoint(path) if (path / "config.json").is_file() else _tensors(path, weight_files(path))
    check_no_adapter(path)
    arrays = [file for file in files if kinds[file] == "arrays"]
    if not arrays:
        shown = ", ".join(file.name for file in files[:3]) + (", ..." if len(files) > 3 else "")
        raise UserError(f"{path} holds no masks{f' (only {shown})' if shown else ', it is empty'}; {_READABLE}")
    return MaskSource(path, "arrays", arrays, partial(read_arrays, arrays))


def _of_file(path: Path) -> MaskSource:
    if not path.is_file():
        raise UserError(f"{path} is neither a file nor a folder; {_READABLE}")
    kind = content_of(path)
    if kind == "arrays":
        return MaskSource(path, "arrays", [path], partial(read_arrays, [path]))
    if kind == "gguf":
        return _checkpoint(path)
    if kind is None:
        what = foreign(path)
        raise UserError(f"{path} holds no masks{f': it is {what}' if what else ''}; {_READABLE}")
    folder = path.resolve().parent
    if (folder / "config.json").is_file() and path.resolve() in weight_files(folder):
        raise UserError(f"{path} is the weights, or part of them, of the model in {path.parent}; give that folder")
    return _tensors(path, [path])


def _checkpoint(path: Path) -> MaskSource:
    """As the model of its config where it is one; else, with a remark, its weights by their names in the files."""
    from checkpoints.checkpoint import Checkpoint
    from checkpoints.checkpoint_masks import read_checkpoint_masks

    files = weight_files(path)
    config = resolve_config(str(path))[1] if path.is_dir() else {}
    try:
        checkpoint = Checkpoint(path)
    except UserError as error:
        if not path.is_dir():
            raise
        return _tensors(
            path,
            files,
            config,
            f"its weights are taken by their names in the files, as no model can be built ({error})",
        )
    if others := checkpoint.other_shapes():
        remark = (
            f"{path}: {len(others)} of its weights, the first is {others[0]}, have other shapes than its config.json "
            "asks for; they are taken as they are, by their names in the files"
        )
        return _tensors(path, files, config, remark)

    def read() -> Iterator[Matrix]:
        for layer, mask in read_checkpoint_masks(path):
            yield Matrix(layer.name, mask, True, layer, checkpoint.grid(layer.name))

    return MaskSource(path, "checkpoint", files, read, config)


def _tensors(path: Path, files: list[Path], config: dict[str, Any] | None = None, remark: str = "") -> MaskSource:
    from checkpoints.state_masks import read_state_masks

    return MaskSource(path, "tensors", files, partial(read_state_masks, path, files), config or {}, remark)


def content_of(file: Path) -> Literal["arrays", "safetensors", "torch", "gguf"] | None:
    """By its first bytes, and of a zip archive by what is in it; None for anything that holds no matrices. Of a damaged
    file what it seems to be: its reader says what is wrong with it."""
    with file.open("rb") as stream:
        head = stream.read(256)
    if head.startswith(b"\x93NUMPY"):
        return "arrays"
    if head.startswith(b"PK"):
        try:
            with zipfile.ZipFile(file) as archive:
                torch = any(name.endswith("data.pkl") for name in archive.namelist())
        except DAMAGED_ZIP:
            torch = b"data.pkl" in head
        return "torch" if torch else "arrays"
    return "safetensors" if head[8:9] == b"{" else kind_of(file)
