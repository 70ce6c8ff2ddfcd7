"""Calibration and evaluation token ids: from text, JSON lines, .npy ids or a Hugging Face data set name.

The ids are the input, not the corpus: their hash stands in every bundle made with them.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workloads.arrays import load_arrays
from workloads.errors import UserError
from workloads.parsing import parse_json

DEFAULT_SAMPLES = 128
DEFAULT_SEQ_LEN = 2048


@dataclass(frozen=True)
class Calibration:
    """Token ids (samples, seq_len) int64 and where they come from."""

    ids: torch.Tensor
    source: str

    @property
    def facts(self) -> dict[str, Any]:
        """What a bundle records of it."""
        samples, seq_len = self.ids.shape
        return {"source": self.source, "samples": samples, "seq_len": seq_len, "sha256": ids_sha256(self.ids)}


def ids_sha256(ids: torch.Tensor) -> str:
    return hashlib.sha256(np.ascontiguousarray(ids.numpy(), dtype="<i8").tobytes()).hexdigest()


def read_calibration(
    source: str, model_folder: Path, samples: int | None, seq_len: int | None, seed: int
) -> Calibration:
    """Calibration sequences from
      * .npy: int64 (samples, seq_len), exactly those in that order (fewer if --samples or --seq-len ask for fewer);
      * .jsonl: documents under "text"; N times, one longer than seq_len is drawn and cut at a random place (as is done
        with C4);
      * any other file: one text, N random crops of its token stream (as is done with WikiText2);
      * a data set name of the Hugging Face hub: documents of its train split, as .jsonl (needs the extra `datasets`).

    Raises UserError when the source cannot be read or holds less than asked for.
    """
    path = Path(source)
    for asked, option in ((samples, "--samples"), (seq_len, "--seq-len")):
        if asked is not None and asked < 1:
            raise UserError(f"calibration: {option} must be at least 1, not {asked}")
    if path.suffix == ".npy":
        return Calibration(_read_ids(path, samples, seq_len), path.name)
    samples, seq_len = samples or DEFAULT_SAMPLES, seq_len or DEFAULT_SEQ_LEN
    draw = np.random.default_rng(seed)
    if path.suffix == ".jsonl":
        ids = _crops_of_documents(_json_lines(path), model_folder, samples, seq_len, draw, source)
    elif path.is_file():
        ids = _crops_of_stream(encode(path, model_folder), samples, seq_len, draw, source)
    elif path.suffix or path.is_absolute():
        raise UserError(f"calibration: no such file: {source}")
    else:
        ids = _crops_of_documents(_hub_documents(source), model_folder, samples, seq_len, draw, source)
    return Calibration(ids, path.name)


def encode(path: Path, model_folder: Path) -> np.ndarray:
    """Token ids of a whole text file as one stream; a leading BOS only if the tokenizer adds one."""
    return _tokenize(_tokenizer(model_folder), read_text(path))


def read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None


def windows(path: Path, model_folder: Path, seq_len: int, count: int | None) -> torch.Tensor:
    """(windows, seq_len) consecutive windows of a text, the remainder dropped (methods 19.2).

    Raises UserError when the text is shorter than one window, or than `count` windows.
    """
    if seq_len < 2:
        raise UserError(f"--seq-len must be at least 2 to predict anything, not {seq_len}")
    ids = _read_ids(path, None, None).reshape(-1).numpy() if path.suffix == ".npy" else encode(path, model_folder)
    if count is not None and count < 1:
        raise UserError(f"--windows must be at least 1, not {count}")
    whole = len(ids) // seq_len
    if whole < (count or 1):
        raise UserError(f"{path} has {len(ids)} tokens, that is {whole} windows of {seq_len}; {count or 1} are needed")
    whole = count or whole
    return torch.from_numpy(ids[: whole * seq_len].reshape(whole, seq_len).astype(np.int64))


def check_ids(ids: torch.Tensor, config: Any, what: str) -> None:
    """Raises UserError for ids outside the vocabulary or sequences longer than the model's positions."""
    text_config = config.get_text_config()
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= text_config.vocab_size:
        raise UserError(f"{what}: token ids reach {low}..{high}, the vocabulary has {text_config.vocab_size}")
    longest = getattr(text_config, "max_position_embeddings", None)
    if longest and ids.shape[1] > longest:
        raise UserError(f"{what}: sequences of {ids.shape[1]} tokens, the model takes {longest}; lower --seq-len")


def _read_ids(path: Path, samples: int | None, seq_len: int | None) -> torch.Tensor:
    if not path.exists():
        raise UserError(f"no such file: {path}; token ids are a .npy of shape (samples, seq_len)")
    ids = load_arrays(path)
    if not isinstance(ids, np.ndarray):
        raise UserError(f"{path} holds several arrays; save token ids with numpy.save")
    if ids.ndim != 2 or ids.dtype.kind not in "iu" or ids.size == 0:
        raise UserError(f"{path}: token ids are int64 of shape (samples, seq_len), not {ids.dtype} {ids.shape}")
    if (samples or 0) > ids.shape[0] or (seq_len or 0) > ids.shape[1]:
        raise UserError(
            f"{path} holds {ids.shape[0]} sequences of {ids.shape[1]} tokens, asked for: "
            f"{samples or ids.shape[0]} of {seq_len or ids.shape[1]}"
        )
    return torch.from_numpy(ids[:samples, :seq_len].astype(np.int64))


def _tokenizer(model_folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model_folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raise plain Exceptions for broken files
        reason = (str(error).splitlines() or [""])[0][:200]
        raise UserError(f"{model_folder} has no usable tokenizer ({reason}); give token ids as .npy instead") from None


def _tokenize(tokenizer: Any, text: str) -> np.ndarray:
    return np.array(tokenizer(text, verbose=False)["input_ids"], dtype=np.int64)


def _crops_of_stream(
    stream: np.ndarray, samples: int, seq_len: int, draw: np.random.Generator, source: str
) -> torch.Tensor:
    if len(stream) < samples * seq_len:
        raise UserError(
            f"calibration: {source} has {len(stream)} tokens, {samples} samples of {seq_len} need {samples * seq_len}; "
            "lower --samples or --seq-len"
        )
    starts = draw.integers(0, len(stream) - seq_len + 1, size=samples)
    return torch.from_numpy(np.stack([stream[s : s + seq_len] for s in starts]))


def _crops_of_documents(
    documents: list[str], model_folder: Path, samples: int, seq_len: int, draw: np.random.Generator, source: str
) -> torch.Tensor:
    tokenizer = _tokenizer(model_folder)
    crops: list[np.ndarray] = []
    too_short: set[int] = set()
    while len(crops) < samples:
        if len(too_short) == len(documents):
            raise UserError(f"calibration: no document of {source} is longer than {seq_len} tokens; lower --seq-len")
        number = int(draw.integers(len(documents)))
        if number in too_short:
            continue
        ids = _tokenize(tokenizer, documents[number])
        if len(ids) <= seq_len:
            too_short.add(number)
            continue
        start = int(draw.integers(0, len(ids) - seq_len))
        crops.append(ids[start : start + seq_len])
    return torch.from_numpy(np.stack(crops))


def _json_lines(path: Path) -> list[str]:
    documents = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            document = parse_json(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number} is not JSON: {error}") from None
        if not isinstance(document, dict) or not isinstance(document.get("text"), str):
            raise UserError(f'{path}, line {number}: expected a JSON object with a string under "text"')
        documents.append(document["text"])
    if not documents:
        raise UserError(f"{path} holds no documents")
    return documents


def _hub_documents(name: str) -> list[str]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise UserError(
            f"calibration: {name!r} is no file; to take it as a data set name install the extra: pip install 'prunesim[datasets]'"
        ) from None
    try:
        return [row["text"] for row in load_dataset(name, split="train")]
    except Exception as error:  # the datasets library raises many kinds; all mean the same to the user
        reason = (str(error).splitlines() or [""])[0][:200]
        raise UserError(f"calibration: cannot load data set {name!r}: {reason}") from None
