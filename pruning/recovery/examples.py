"""The sequences that are trained on: windows of a stream of tokens, token ids as they are, or prompts with
completions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from checkpoints.checkpoint import Checkpoint
from pruning.block_job import Warn
from pruning.data import calibration
from pruning.data.calibration import BYTES_A_TOKEN, documents_of, file_of, ids_sha256, read_calibration
from pruning.data.pairs import read_pairs
from pruning.data.texts import PLAIN_BYTES, Documents, holds_ids
from pruning.data.tokenizer import load_tokenizer, tokenize
from pruning.recovery.text_objective import IGNORED
from workloads.errors import UserError, one_line

MOST_HELD_OUT = 64  # sequences


@dataclass(frozen=True)
class Examples:
    """ids (sequences, longest) int64, short ones filled with 0 at the end; labels, likewise: the ids again, IGNORED
    where a token is not to be predicted."""

    ids: torch.Tensor
    labels: torch.Tensor
    source: str

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """(ids, labels) of some, as long as the longest of them; nothing behind its last label is of use."""
        ids, labels = self.ids[rows], self.labels[rows]
        used = int((labels != IGNORED).any(dim=0).nonzero().max()) + 1
        return ids[:, :used], labels[:, :used]

    @property
    def facts(self) -> dict[str, Any]:
        """What a bundle records."""
        counted = int((self.labels[:, 1:] != IGNORED).sum())
        return {
            "source": self.source, "sequences": len(self), "seq_len": self.ids.shape[1], "predicted_tokens": counted,
            "sha256": ids_sha256(torch.cat([self.ids, self.labels])),
        }  # fmt: skip


def training_and_held_out(
    checkpoint: Checkpoint, text: str, held_out: str | float, seq_len: int | None, most: int, warn: Warn
) -> tuple[Examples, Examples]:
    """What is trained on, and what is not. `most`: sequences that training can use. Raises UserError for texts too
    short, or that do not fit the model."""
    share = held_out if isinstance(held_out, float) else 0.0
    enough = int(most / (1 - share)) + MOST_HELD_OUT
    examples = read_examples(checkpoint, text, "`text`", seq_len, enough, warn)
    if isinstance(held_out, str):
        return examples, first(read_examples(checkpoint, held_out, "`held_out`", seq_len, MOST_HELD_OUT, warn))
    count = min(MOST_HELD_OUT, max(1, round(held_out * len(examples))))
    if count == len(examples):
        raise UserError(
            f"{text} makes {len(examples)} sequence of {examples.ids.shape[1]} tokens, and one is held out; give more "
            "text, a smaller `seq_len`, or `held_out` a file"
        )
    kept = len(examples) - count
    return (
        Examples(examples.ids[:kept], examples.labels[:kept], examples.source),
        Examples(examples.ids[kept:], examples.labels[kept:], f"{examples.source} (the last {count} sequences)"),
    )


def first(examples: Examples) -> Examples:
    return Examples(examples.ids[:MOST_HELD_OUT], examples.labels[:MOST_HELD_OUT], examples.source)


def read_examples(
    checkpoint: Checkpoint, source: str, what: str, seq_len: int | None, enough: int, warn: Warn
) -> Examples:
    """Of documents at least `enough` sequences are read where there are so many."""
    path = file_of(source, what)
    length = seq_len or calibration.DEFAULT_SEQ_LEN
    if path is not None and path.suffix == ".npz":
        raise UserError(f"{path}: fine-tuning needs a text or token ids (.npy); an .npz holds neither")
    if path is not None and holds_ids(path):
        ids = read_calibration(source, checkpoint.folder, None, seq_len, 0).ids
        labels, name = ids.clone(), path.name
    elif path is not None and (pairs := read_pairs(path)) is not None:
        tokenizer = load_tokenizer(checkpoint.folder, "prompts and completions need one")
        ids, labels = of_pairs(pairs, tokenizer, length, warn)
        name = path.name
    else:
        needed = enough * length
        with documents_of(source, path, "calibration", max(PLAIN_BYTES, BYTES_A_TOKEN * needed)) as documents:
            stream = stream_of(documents, load_tokenizer(checkpoint.folder), needed)
        count = len(stream) // length
        if count == 0:
            raise UserError(f"{source} has {len(stream)} tokens, fewer than one sequence of {length}; lower `seq_len`")
        ids = torch.from_numpy(stream[: count * length].reshape(count, length))
        name = path.name if path else source
        labels, name = ids.clone(), f"{name} ({documents.note})" if documents.note else name
    if ids.shape[1] < 2:
        raise UserError(f"{source}: sequences of {ids.shape[1]} token predict nothing; they need at least 2")
    calibration.check_ids(ids, checkpoint.config, source)
    return Examples(ids, labels, name)


def stream_of(documents: Documents, tokenizer: Any, needed: int) -> np.ndarray:
    """Tokens of a plain text, or of documents with the tokenizer's end of text behind each, `needed` or a few more
    where there are so many."""
    if documents.plain:
        return tokenize(tokenizer, "".join(documents))
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    parts: list[np.ndarray] = []
    size = 0
    for text in documents:
        parts.append(np.concatenate([tokenize(tokenizer, text), np.array(end, np.int64)]))
        size += len(parts[-1])
        if size >= needed:
            break
    return np.concatenate(parts)


def of_pairs(
    pairs: list[tuple[str, tuple[str, str]]], tokenizer: Any, length: int, warn: Warn
) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, labels): prompt, completion and the tokenizer's end of text, of which prompts are not predicted; of a
    prompt that leaves no room the first tokens are dropped. Raises UserError for a completion that does not fit by
    itself."""
    rows, cut = list[tuple[np.ndarray, int]](), 0
    for where, prompt, completion in tokens_of(pairs, tokenizer):
        room = length - len(completion)
        if room < 1:
            raise UserError(
                f"{where}: its completion has {len(completion)} tokens, with one of the prompt before it that is more "
                f"than a sequence of {length}; raise `seq_len` or leave it out"
            )
        if len(prompt) == 0:
            raise UserError(f"{where}: its prompt is empty, so nothing predicts its completion's first token; fill it")
        cut += len(prompt) > room
        rows.append((np.concatenate([prompt[-room:], completion]), min(room, len(prompt))))
    if cut:
        warn(f"{cut} of {len(rows)} prompts lost their first tokens: with their completions they exceed {length}")
    longest = max(len(ids) for ids, _ in rows)
    ids, labels = torch.zeros(len(rows), longest, dtype=torch.int64), torch.full((len(rows), longest), IGNORED)
    for number, (row, start) in enumerate(rows):
        ids[number, : len(row)] = torch.from_numpy(row)
        labels[number, start : len(row)] = ids[number, start : len(row)]
    return ids, labels


def tokens_of(pairs: list[tuple[str, tuple[str, str]]], tokenizer: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Prompt and completion are tokenized apart, the prompt with what the tokenizer puts in front of a text."""
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    for where, (prompt, completion) in pairs:
        try:
            ids = tokenizer(completion, add_special_tokens=False, verbose=False)["input_ids"]
        except Exception as error:  # as in pruning/data/tokenizer.py
            raise UserError(f"{where}: the tokenizer fails on its completion: {one_line(error)}") from None
        yield where, tokenize(tokenizer, prompt), np.array([*ids, *end], dtype=np.int64)
