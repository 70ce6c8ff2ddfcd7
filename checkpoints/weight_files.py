"""Which files of a model folder hold its weights, told by their first bytes and never by their names alone. Needs no
torch."""

import struct
import zipfile
from pathlib import Path
from typing import Literal

from workloads.errors import UserError
from workloads.files import read_json
from workloads.limits import check_links

Kind = Literal["safetensors", "torch", "gguf"]

REMOVAL_NAME = "prunesim-removal.safetensors"  # see checkpoints/smaller.py
SMALLER_INDEX = "prunesim.safetensors.index.json"
INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json", SMALLER_INDEX)
USUAL = ("model.safetensors", INDICES[0], "pytorch_model.bin", *INDICES[1:])  # in the order in which transformers looks
# Never weights of the model: what training and adapters leave, the same weights under other names, settings, texts.
STRANGERS = (
    "optimizer",
    "scheduler",
    "rng_state",
    "training_args",
    "scaler",
    "adapter_",
    "consolidated",
    "global_step",
)
COMPANIONS = (".json", ".txt", ".md", ".model", ".jinja", ".py", ".toml", ".yaml", ".yml", ".csv", ".npy", ".npz")
MAX_UNPACKED = 4  # times the size of the file; torch stores its tensors uncompressed

# What zipfile raises on archives that are damaged.
DAMAGED_ZIP = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, LookupError, struct.error)

_FOREIGN = {
    b"\x89HDF": "an HDF5 file (Keras)",
    b"version http": "a Git LFS pointer, not the weights; run `git lfs pull`",
    b"<!DO": "a web page, not weights; download it again",
    b"<htm": "a web page, not weights; download it again",
}


def kind_of(file: Path) -> Kind | None:
    """What a file is by its content; None for anything but weights. Raises UserError if it cannot be read."""
    try:
        with file.open("rb") as stream:
            head = stream.read(12)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    if head[:4] == b"GGUF":
        return "gguf"
    if len(head) >= 9 and head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") <= file.stat().st_size:
        return "safetensors"
    if head[:4] == b"PK\x03\x04" or (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        return "torch"
    return None


def weight_files(model: Path) -> list[Path]:
    """The files that hold a model's weights, sorted by name: those of `model` itself if it is a GGUF file.

    Of a folder, the file or the index of the usual names; else every safetensors file, else every file saved by torch,
    else its one GGUF file, whatever they are called. Raises UserError if there is none, one is missing, or a file of
    the folder is a link that leads out of it.
    """
    if model.is_file():
        return [model]
    check_links(model)
    for name in (SMALLER_INDEX,) if (model / REMOVAL_NAME).is_file() else USUAL:
        if not (model / name).is_file():
            continue
        if name not in INDICES:
            return [model / name]
        files = [model / shard for shard in sorted(set(read_index(model / name).values()))]
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise UserError(
                f"{model}: weight file {missing[0].name} is missing ({len(files) - len(missing)} of {len(files)} are "
                "there); download or save the model again"
            )
        return files
    return _by_content(model)


def find_gguf(model: Path) -> Path | None:
    """The GGUF file that a model is, or that its folder holds for weights."""
    if not model.exists():
        return None
    try:
        file = weight_files(model)[0]
        return file if kind_of(file) == "gguf" else None
    except UserError:
        return None


def _by_content(folder: Path) -> list[Path]:
    candidates = [
        file
        for file in sorted(folder.iterdir())
        if file.is_file() and file.suffix not in COMPANIONS and not file.name.startswith((".", *STRANGERS))
    ]
    kinds = {file: kind_of(file) for file in candidates}
    for kind in ("safetensors", "torch"):
        found = [file for file in candidates if kinds[file] == kind and not _is_zip_of_others(file, kind)]
        if found:
            return found
    ggufs = [file for file in candidates if kinds[file] == "gguf"]
    if len(ggufs) > 1:
        raise UserError(f"{folder} holds {len(ggufs)} GGUF files; give the one that is meant, for example {ggufs[0]}")
    if ggufs:
        return ggufs
    strange = next((f"; {file.name} is {what}" for file in candidates if (what := foreign(file))), "")
    raise UserError(f"{folder} holds no weights: no safetensors, no torch file (.bin), no GGUF{strange}")


def _is_zip_of_others(file: Path, kind: Kind) -> bool:
    """A zip that torch did not write, such as an archive of the whole folder."""
    if kind != "torch":
        return False
    try:
        if not zipfile.is_zipfile(file):
            return False
        with zipfile.ZipFile(file) as archive:
            return not any(name.endswith("data.pkl") for name in archive.namelist())
    except DAMAGED_ZIP:
        return False  # its reader says what is wrong with it


def foreign(file: Path) -> str | None:
    """What a file that holds no weights is, where its first bytes tell."""
    try:
        with file.open("rb") as stream:
            head = stream.read(12)
    except OSError:
        return None
    if not head:
        return "empty"
    return next((what for magic, what in _FOREIGN.items() if head.startswith(magic)), None)


def read_index(index: Path) -> dict[str, str]:
    """Tensor name -> file name, of a sharded checkpoint's index. Raises UserError unless all files lie beside it."""
    content = read_json(index, "checkpoint index")
    names = content.get("weight_map") if isinstance(content, dict) else None
    if (
        not isinstance(names, dict)
        or not names
        or not all(isinstance(n, str) and n and Path(n).name == n and "\0" not in n for n in names.values())
    ):
        raise UserError(f'{index}: its "weight_map" does not name weight files beside it; save the model again')
    return names


def check_unpacked_size(file: Path) -> None:
    """Raises UserError for a torch archive that would unpack to far more than it is."""
    try:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except DAMAGED_ZIP as error:
        raise UserError(f"{file} is a damaged torch file: {error}; save it again") from None
    if size > MAX_UNPACKED * file.stat().st_size + (1 << 20):
        raise UserError(
            f"{file} has {file.stat().st_size:,} bytes and would unpack to {size:,}; torch stores weights "
            "uncompressed, so this is no checkpoint"
        )
