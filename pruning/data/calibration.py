"""Calibration and evaluation token ids: from texts of any kind of file, .npy ids or the name of a data set.

The ids are the input, not the corpus: their hash stands in every bundle made with them.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pruning.data.named_texts import Purpose, named_documents
from pruning.data.texts import MOST_BYTES, PLAIN_BYTES, Documents, holds_ids, read_documents
from pruning.data.tokenizer import load_tokenizer, tokenize
from workloads.arrays import load_arrays, load_member
from workloads.errors import UserError

DEFAULT_SAMPLES = 128
DEFAULT_SEQ_LEN = 2048
COUNTED_BYTES = 4 << 20  # of a text of which so many windows are asked for, where they need no more
BYTES_A_TOKEN = 16  # of a text that is read so far only: more than any tokenizer puts into one on average
SPECIAL_TOKENS = 8  # the most a tokenizer adds to a text
C4_DOCUMENTS, C4_WINDOWS = 1100, 256  # what the papers evaluate of C4's validation shard


@dataclass(frozen=True)
class Calibration:
    """Token ids (samples, seq_len) int64 and where they come from; `arrays` instead, by the names of the model's
    arguments, where it reads more or other things (`ids` is then the first of them)."""

    ids: torch.Tensor
    source: str
    arrays: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def data(self) -> torch.Tensor | dict[str, torch.Tensor]:
        """What the model is given."""
        return self.arrays or self.ids

    @property
    def facts(self) -> dict[str, Any]:
        """What a bundle records of it."""
        if self.arrays:
            shapes = {name: list(value.shape) for name, value in self.arrays.items()}
            return {
                "source": self.source,
                "samples": len(self.ids),
                "arrays": shapes,
                "sha256": arrays_sha256(self.arrays),
            }
        samples, seq_len = self.ids.shape
        return {"source": self.source, "samples": samples, "seq_len": seq_len, "sha256": ids_sha256(self.ids)}


def arrays_sha256(arrays: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(arrays.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(np.ascontiguousarray(value.numpy()).tobytes())
    return digest.hexdigest()


def ids_sha256(ids: torch.Tensor) -> str:
    return hashlib.sha256(np.ascontiguousarray(ids.numpy(), dtype="<i8").tobytes()).hexdigest()


def in_own_order(samples: torch.Tensor) -> torch.Tensor:
    """Samples (samples, ...), of texts their tokens, sorted by what they hold, so that the order in which they come
    changes nothing."""
    keys = samples.reshape(len(samples), -1).numpy().T[::-1]
    return samples[torch.from_numpy(np.lexsort(keys).copy())]


def read_calibration(
    source: str, model_folder: Path, samples: int | None, seq_len: int | None, seed: int
) -> Calibration:
    """Calibration sequences from
      * token ids (.npy): int64 (samples, seq_len), exactly those in that order (fewer if `samples` or `seq_len` ask for
        fewer);
      * documents (JSON lines, a JSON array, Parquet, also packed; a data set's name, c4): N times, one longer than
        seq_len is drawn and cut at a random place;
      * a plain text, or wikitext2: N random crops of its token stream.

    Raises UserError when the source cannot be read or holds less than asked for.
    """
    for asked, option in ((samples, "`samples`"), (seq_len, "`seq_len`")):
        if asked is not None and asked < 1:
            raise UserError(f"calibration: {option} must be at least 1, not {asked}")
    path = file_of(source, "calibration")
    if path is not None and path.suffix == ".npz":
        return read_inputs(path, samples)
    if path is not None and holds_ids(path):
        return Calibration(_read_ids(path, samples, seq_len), path.name)
    samples, seq_len = samples or DEFAULT_SAMPLES, seq_len or DEFAULT_SEQ_LEN
    draw = np.random.default_rng(seed)
    enough = max(PLAIN_BYTES, BYTES_A_TOKEN * samples * seq_len)
    with documents_of(source, path, "calibration", enough) as documents:
        tokenizer = load_tokenizer(model_folder)
        if documents.plain:
            ids = _crops_of_stream(tokenize(tokenizer, "".join(documents)), samples, seq_len, draw, source)
        else:
            ids = _crops_of_documents(documents, tokenizer, samples, seq_len, draw, source)
    name = path.name if path else source
    return Calibration(ids, f"{name} ({documents.note})" if documents.note else name)


def read_inputs(path: Path, samples: int | None) -> Calibration:
    """What a model reads, arrays by the names of its arguments: floats (pixel_values, input_features) or token ids,
    (samples, ...).

    Raises UserError for a file that is no .npz of such arrays, all of one length.
    """
    content = load_arrays(path)
    if isinstance(content, np.ndarray):
        raise UserError(
            f"{path} holds one array; name it as the model's argument: numpy.savez(file, pixel_values=array)"
        )
    with content:
        arrays = {name: load_member(content, name, path) for name in content.files}
    lengths = {name: len(value) for name, value in arrays.items() if value.ndim > 1 and value.dtype.kind in "fiu"}
    if not arrays or len(lengths) < len(arrays) or len(set(lengths.values())) > 1 or 0 in lengths.values():
        shapes = ", ".join(f"{name} {value.dtype} {value.shape}" for name, value in arrays.items()) or "nothing"
        raise UserError(
            f"{path} holds {shapes}; give arrays of numbers (samples, ...), all of the same number of samples"
        )
    if (samples or 0) > min(lengths.values()):
        raise UserError(f"{path} holds {min(lengths.values())} samples, asked for: {samples}")
    kinds = {"f": np.float32, "i": np.int64, "u": np.int64}
    made = {name: torch.from_numpy(value[:samples].astype(kinds[value.dtype.kind])) for name, value in arrays.items()}
    for name, value in made.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(f"{path}: {name} holds NaN or Inf")
    return Calibration(next(iter(made.values())), path.name, made)


def file_of(source: str, what: str) -> Path | None:
    """The file that a source is, None for the name of a data set. Raises UserError for what is neither."""
    if "\0" in source:
        raise UserError(f"{what}: {source!r} is no file: no path holds a null byte")
    path = Path(source)
    if path.is_dir():
        raise UserError(f"{what}: {source} is a folder; give a file of texts, or the name of a data set")
    if path.exists():
        return path
    if path.suffix or path.is_absolute() or source.count("/") > 1 or source.startswith("."):
        raise UserError(f"{what}: no such file: {source}")
    return None


@contextmanager
def documents_of(source: str, path: Path | None, purpose: Purpose, plain_bytes: int) -> Iterator[Documents]:
    """The texts of a file or a data set. Raises UserError as `read_documents` and `named_documents`."""
    if path is None:
        yield named_documents(source, purpose)
        return
    with read_documents(path, min(plain_bytes, MOST_BYTES)) as documents:
        yield documents


def windows(source: str | Path, model_folder: Path, seq_len: int | None, count: int | None) -> torch.Tensor:
    """(windows, seq_len) consecutive windows of a text, the remainder dropped (methods 19.2); of token ids (.npy) the
    array's own rows, whole or their first seq_len tokens. seq_len None: the rows' own, of texts DEFAULT_SEQ_LEN.

    Documents are joined by spaces; of C4 that is the first 1,100, of which 256 windows are taken. Raises UserError when
    the text is shorter than one window, or than `count` windows, or too long to take all of it.
    """
    if seq_len is not None and seq_len < 2:
        raise UserError(f"`seq_len` must be at least 2 to predict anything, not {seq_len}")
    if count is not None and count < 1:
        raise UserError(f"`windows` must be at least 1, not {count}")
    path = file_of(str(source), "the text")
    if path is not None and holds_ids(path):
        rows = _read_ids(path, count, seq_len)
        if rows.shape[1] < 2:
            raise UserError(f"{path}: a window of one token predicts nothing; give rows of 2 tokens or more")
        return rows
    seq_len = seq_len or DEFAULT_SEQ_LEN
    ids = _evaluation_ids(str(source), path, model_folder, seq_len, count)
    whole = len(ids) // seq_len
    if whole < (count or 1):
        raise UserError(
            f"{source} has {len(ids)} tokens, that is {whole} windows of {seq_len}; {count or 1} are needed"
        )
    whole = count or whole
    return torch.from_numpy(ids[: whole * seq_len].reshape(whole, seq_len).astype(np.int64))


def evaluation_text(source: str) -> str:
    """The beginning of a text, COUNTED_BYTES of it; documents joined by spaces. Raises UserError for token ids."""
    path = file_of(source, "the text")
    if path is not None and holds_ids(path):
        raise UserError(f"{source} holds token ids; words are asked for, give a text")
    with documents_of(source, path, "evaluation", COUNTED_BYTES) as documents:
        return _joined(documents, COUNTED_BYTES)[0]


def _evaluation_ids(source: str, path: Path | None, model_folder: Path, seq_len: int, count: int | None) -> np.ndarray:
    tokenizer = load_tokenizer(model_folder)
    needed = (count or 1) * seq_len
    ids = np.zeros(0, np.int64)
    for least in (PLAIN_BYTES,) if count is None else (COUNTED_BYTES, PLAIN_BYTES):
        enough = max(least, BYTES_A_TOKEN * needed)
        with documents_of(source, path, "evaluation", enough) as documents:
            text, all_of_it = _joined(documents, enough)
            most = C4_WINDOWS * seq_len if documents.is_c4 else None
        if count is None and not all_of_it:
            raise UserError(
                f"{source} is longer than {enough >> 20} MiB of text; say how many windows of it: `windows=256`"
            )
        ids = tokenize(tokenizer, text)[:most]
        if all_of_it or len(ids) >= needed:
            break
    return ids


def _joined(documents: Documents, enough: int) -> tuple[str, bool]:
    """The documents with spaces between them, and whether that is all of them that count."""
    if documents.plain:
        return "".join(documents), not documents.note
    texts: list[str] = []
    size = 0
    for text in documents:
        if documents.is_c4 and len(texts) == C4_DOCUMENTS:
            break
        if size > enough:
            return " ".join(texts), False
        texts.append(text)
        size += len(text) + 1
    return " ".join(texts), True


def check_ids(ids: torch.Tensor, config: Any, what: str) -> None:
    """Raises UserError for ids outside the vocabulary or sequences longer than the model's positions."""
    text_config = config.get_text_config()
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= text_config.vocab_size:
        raise UserError(f"{what}: token ids reach {low}..{high}, the vocabulary has {text_config.vocab_size}")
    longest = getattr(text_config, "max_position_embeddings", None)
    if longest and ids.shape[1] > longest:
        raise UserError(f"{what}: sequences of {ids.shape[1]} tokens, the model takes {longest}; lower `seq_len`")


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
            f"{path} holds {ids.shape[0]} sequences of {ids.shape[1]} tokens, asked for: {samples or ids.shape[0]} of "
            f"{seq_len or ids.shape[1]}"
        )
    return torch.from_numpy(ids[:samples, :seq_len].astype(np.int64))


def _crops_of_stream(
    stream: np.ndarray, samples: int, seq_len: int, draw: np.random.Generator, source: str
) -> torch.Tensor:
    if len(stream) < samples * seq_len:
        raise UserError(
            f"calibration: {source} has {len(stream)} tokens, {samples} samples of {seq_len} need {samples * seq_len}; "
            "lower `samples` or `seq_len`"
        )
    starts = draw.integers(0, len(stream) - seq_len + 1, size=samples)
    return torch.from_numpy(np.stack([stream[s : s + seq_len] for s in starts]))


def _crops_of_documents(
    documents: Documents, tokenizer: Any, samples: int, seq_len: int, draw: np.random.Generator, source: str
) -> torch.Tensor:
    """Documents are drawn from those longer than seq_len tokens, as by drawing from all until one is; they may
    repeat."""
    seen, long_enough = 0, []
    for text in documents:
        seen += 1
        if len(text.encode()) + SPECIAL_TOKENS > seq_len:  # a token is a byte or more
            long_enough.append(text)
    crops: list[np.ndarray] = []
    while len(crops) < samples:
        if not long_enough:
            raise UserError(
                f"calibration: no document of {source} ({seen:,} read) is longer than {seq_len} tokens; lower `seq_len`"
            )
        number = int(draw.integers(len(long_enough)))
        ids = tokenize(tokenizer, long_enough[number])
        if len(ids) <= seq_len:
            long_enough.pop(number)
            continue
        start = int(draw.integers(0, len(ids) - seq_len))
        crops.append(ids[start : start + seq_len])
    return torch.from_numpy(np.stack(crops))
