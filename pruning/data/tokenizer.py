"""The tokenizer of a model: of its folder, or the one inside its GGUF file."""

from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from checkpoints.weight_files import find_gguf
from workloads.errors import UserError, one_line


def load_tokenizer(model: Path, otherwise: str = "give token ids as .npy instead") -> Any:
    """Raises UserError, which says what to do `otherwise`, if the folder or GGUF file has none that can be used."""
    where: dict[str, Any] = {}
    folder = model
    if not any((model / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")):
        gguf = find_gguf(model)
        folder, where = (gguf.parent, {"gguf_file": gguf.name}) if gguf else (model, {})
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, **where)
    except Exception as error:  # tokenizers raise plain Exceptions for broken files
        raise UserError(f"{model} has no usable tokenizer ({one_line(error)}); {otherwise}") from None


def tokenize(tokenizer: Any, text: str) -> np.ndarray:
    """Token ids int64 of a text, with a leading BOS only if the tokenizer adds one. Raises UserError if it fails on the
    text."""
    try:
        return np.array(tokenizer(text, verbose=False)["input_ids"], dtype=np.int64)
    except Exception as error:  # as above
        raise UserError(f"the tokenizer {type(tokenizer).__name__} fails on a text: {one_line(error)}") from None
