"""Where a model lies: a folder, a GGUF file, or the local copy of a hub model, of which only what is read is
fetched."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from checkpoints.weight_files import INDICES, USUAL, kind_of, read_index, weight_files
from workloads.errors import UserError, one_line

# Settings and tokenizer in the hub's main folder; repositories keep other forms of the weights in folders of their own.
SETTINGS = ["*.json", "tokenizer*", "*.model", "*.jinja", "vocab*", "merges.txt"]
WEIGHTS = ["model.safetensors", "pytorch_model.bin"]  # where no index names shards; the first there is


def find_model(model: str) -> Path:
    """The folder of a local or hub model, or the GGUF file that is meant.

    Raises UserError if it is neither, only an adapter, or cannot be fetched.
    """
    path = Path(model)
    if "\0" in model:
        raise UserError(f"{model!r} is not a model: no path holds a null byte")
    if path.is_file() and kind_of(path) == "gguf":
        return path
    if path.is_dir():
        return _local(path)
    if path.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise UserError(
            f"{model} is not a model: no such folder, not a GGUF file, and not a hub id such as "
            "meta-llama/Llama-2-7b-hf"
        )
    return _local(fetch(model))


def _local(folder: Path) -> Path:
    usual = any((folder / name).is_file() for name in USUAL)
    if (folder / "config.json").is_file() and (usual or not (folder / "adapter_config.json").is_file()):
        return folder
    check_no_adapter(folder)
    if any(file.is_file() and kind_of(file) == "gguf" for file in folder.iterdir()):
        return weight_files(folder)[0]
    raise UserError(f"{folder} is not a model folder: it holds neither a config.json nor a GGUF file")


def check_no_adapter(folder: Path) -> None:
    """Raises UserError for a folder that holds a LoRA adapter and not the model it changes."""
    settings = folder / "adapter_config.json"
    if not settings.is_file():
        return
    try:
        base = json.loads(settings.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    of = f" of {base}" if isinstance(base, str) and base else ""
    raise UserError(
        f'{folder} holds a LoRA adapter{of}, not a model; merge it first: python -c "'
        "from peft import AutoPeftModelForCausalLM as A; "
        f"A.from_pretrained('{folder}').merge_and_unload().save_pretrained('merged')\", then give merged (with its "
        "tokenizer)"
    )


def fetch(model: str) -> Path:
    """The local copy of a hub model: its settings and tokenizer, and the one set of weight files that is read.

    Shards are those the index names; pickled copies of safetensors, and folders beside them, stay on the hub.
    """
    from huggingface_hub import snapshot_download

    def get(patterns: list[str]) -> Path:
        try:
            return Path(snapshot_download(model, allow_patterns=patterns, ignore_patterns=["*/*"]))
        except Exception as error:  # the hub client raises many kinds; all mean the same to the user
            raise UserError(
                f"{model}: no such folder, and the hub has it not or is out of reach: {one_line(error)}"
            ) from None

    folder = get(SETTINGS)
    for name in _weight_names(folder):
        if _fetched(get, name, folder):
            return folder
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        get(["*.gguf"])
    return folder


def _weight_names(folder: Path) -> list[list[str]]:
    """Sets of files, the first of which that the hub has is the weights: shards of an index, else one file of a usual
    name."""
    for index in INDICES:
        if (folder / index).is_file():
            return [sorted(set(read_index(folder / index).values()))]
    return [[name] for name in WEIGHTS] + [["*.safetensors"]]


def _fetched(get: Callable[[list[str]], Path], names: list[str], folder: Path) -> bool:
    get(names)
    return all(any(folder.glob(name)) for name in names)
