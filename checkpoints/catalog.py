"""Which model is meant: a name of the catalog, a local folder, a config file or a GGUF file. Needs no network, torch
for GGUF alone."""

from pathlib import Path
from typing import Any

from checkpoints.model_folder import check_no_adapter
from checkpoints.weight_files import REMOVAL_NAME, find_gguf
from workloads.errors import UserError, meant
from workloads.files import read_json
from workloads.limits import check_config, check_links

_MODELS = Path(__file__).parent / "models"


def catalog_names() -> list[str]:
    """The models whose configs ship with the package, in alphabetical order, e.g. "llama-7b"."""
    return sorted(path.stem for path in _MODELS.glob("*.json"))


def catalog_config(name: str) -> dict[str, Any]:
    """A fresh copy of a catalog model's config; case does not matter in `name`.

    Raises UserError, with the closest names, when the catalog has no such model.
    """
    stem = name.lower()
    if stem not in catalog_names():
        raise UserError(f"no model {name!r} in the catalog; {_suggestion(name)}")
    return _read_config(_MODELS / f"{stem}.json")


def in_catalog(config: dict[str, Any]) -> bool:
    return any(config == catalog_config(name) for name in catalog_names())


def resolve_config(name_or_path: str) -> tuple[str, dict[str, Any]]:
    """(model id, config) of a catalog name, of a folder with a config.json or a GGUF file, of a config file, or of a
    GGUF file.

    A catalog name wins over a local folder of that name; write "./llama-7b" for the folder. The id is the catalog's
    spelling, the folder's name (also for a file called config.json), or the file's name without ".json".
    Raises UserError when the text is none of these, the JSON is broken, or it has no model_type.
    """
    if name_or_path.lower() in catalog_names():
        return name_or_path.lower(), catalog_config(name_or_path)
    path = Path(name_or_path).expanduser() if name_or_path.strip() else None
    if path is not None and path.is_dir():
        return _folder_id(path), _config_of(path)
    if path is not None and path.is_file():
        if find_gguf(path):
            return path.stem, _gguf_config(path)
        if path.suffix.lower() == ".json" or starts_with_brace(path):
            model_id = _folder_id(path.parent) if path.name == "config.json" else path.stem
            return model_id, _read_config(path)
    raise UserError(
        f"no model {name_or_path!r}: it is neither a catalog name, nor a folder with a config.json, nor a .json file, "
        f"nor a GGUF file; {_suggestion(name_or_path)}"
    )


def _config_of(folder: Path) -> dict[str, Any]:
    config = folder / "config.json"
    if (folder / REMOVAL_NAME).is_file():
        raise UserError(
            f"{folder}: its blocks have sizes that its config.json does not say; give the mask bundle it was saved from"
        )
    if config.is_file():
        check_links(folder)
        return _read_config(config)
    check_no_adapter(folder)
    if gguf := find_gguf(folder):
        return _gguf_config(gguf)
    raise UserError(f"folder {folder} holds no config.json; give the folder a Hugging Face model was saved to")


def _gguf_config(file: Path) -> dict[str, Any]:
    from checkpoints.gguf_files import gguf_config  # needs torch

    return gguf_config(file).to_dict()


def starts_with_brace(file: Path) -> bool:
    """Whether a file begins like a JSON object."""
    with file.open("rb") as stream:
        return stream.read(256).lstrip().startswith(b"{")


def _folder_id(folder: Path) -> str:
    """The folder's own name, also when it was given as "." or "..", or "model" for the root of the disk."""
    return folder.resolve().name or "model"


def _read_config(path: Path) -> dict[str, Any]:
    config = read_json(path, "model config")
    if not isinstance(config, dict):
        raise UserError(f"model config: {path} holds a JSON {type(config).__name__}; it must be an object of settings")
    if not isinstance(config.get("model_type"), str) or not config["model_type"]:
        raise UserError(f'model config: {path} has no "model_type"; add the architecture, e.g. "model_type": "llama"')
    check_config(config, f"model config: {path}")
    return config


def _suggestion(name: str) -> str:
    known = catalog_names()
    return meant(name, known).strip() or "the catalog has: " + " ".join(known)
