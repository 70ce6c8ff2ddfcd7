"""Questions made of a held-out text, so that accuracy can be measured where no data set is at hand.

    cloze          a word of four letters or more that the passage held before, the last such one of PASSAGE words in
                   the second half, where the passage is cut; right if every token of it is the likeliest one (as
                   LAMBADA is scored, Paperno et al., 2016)
    continuation   the last quarter of a passage of tokens among three taken from elsewhere in the text; right if it is
                   the likeliest after the first three quarters (chance: 1 of 4)

Passages do not overlap. Which of them are asked, and where wrong answers come from, is drawn with a seed: the same
text, tokenizer and seed make the same questions. Ours, no published set: comparable between models of one tokenizer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from workloads.errors import UserError

PASSAGE = 60  # words
CHOICES = 4
LETTERS = 4


@dataclass(frozen=True)
class Questions:
    """ids (questions * choices, seq) int64, those of one question together, the right one first; answers: where the
    scored tokens of every sequence begin and end. Behind the end is padding, which no token before it sees."""

    ids: torch.Tensor
    answers: list[tuple[int, int]]
    choices: int

    def __len__(self) -> int:
        return len(self.answers) // self.choices


def continuations(stream: np.ndarray, count: int, seq_len: int, seed: int) -> Questions:
    """`count` questions, or as many as there are, of a stream of token ids (tokens,). Raises UserError for fewer
    passages than choices."""
    whole = len(stream) // seq_len
    tail = max(1, seq_len // 4)
    if seq_len < 2 or whole < CHOICES:
        raise UserError(
            f"the text has {whole} passages of {seq_len} tokens, a question needs {CHOICES}; lower `seq_len`"
        )
    passages = stream[: whole * seq_len].reshape(whole, seq_len)
    draw = np.random.default_rng(seed)
    made: list[np.ndarray] = []
    for number in np.sort(draw.permutation(whole)[:count]):
        own = passages[number]
        others = draw.permutation(np.delete(np.arange(whole), number))
        wrong = [place for place in others if not np.array_equal(passages[place, -tail:], own[-tail:])][: CHOICES - 1]
        if len(wrong) == CHOICES - 1:
            made += [own, *(np.concatenate([own[:-tail], passages[place, -tail:]]) for place in wrong)]
    if not made:
        raise UserError("the text repeats itself: it has no passages that end differently; give another")
    ids = torch.from_numpy(np.stack(made).astype(np.int64))
    return Questions(ids, [(seq_len - tail, seq_len)] * len(ids), CHOICES)


def clozes(text: str, tokens_of: Callable[[str], np.ndarray], count: int, seq_len: int, seed: int) -> Questions:
    """`count` questions, or as many as there are; passages of more than seq_len tokens, and those whose last word
    changes the tokens before it, are left out. Raises UserError where none is left."""
    words = text.split()
    passages = [words[at : at + PASSAGE] for at in range(0, len(words) - PASSAGE + 1, PASSAGE)]
    found: list[tuple[int, np.ndarray, int]] = []
    for place in np.random.default_rng(seed).permutation(len(passages)):
        passage = _cut(passages[place])
        if not passage:
            continue
        before, whole = tokens_of(" ".join(passage[:-1])), tokens_of(" ".join(passage))
        if len(before) < len(whole) <= seq_len and np.array_equal(whole[: len(before)], before):
            found.append((int(place), whole, len(before)))
        if len(found) == count:
            break
    if not found:
        raise UserError(
            f"the text has no passage of {PASSAGE} words, at most {seq_len} tokens up to a word that it held before; "
            "raise `seq_len`, or give a longer text"
        )
    found.sort(key=lambda passage: passage[0])
    ids = np.zeros((len(found), max(len(whole) for _, whole, _ in found)), np.int64)
    for row, (_, whole, _) in zip(ids, found, strict=True):
        row[: len(whole)] = whole
    return Questions(torch.from_numpy(ids), [(start, len(whole)) for _, whole, start in found], 1)


def _cut(passage: list[str]) -> list[str]:
    """Up to the last word of its second half that is of letters alone and was there before; [] without one."""
    for end in range(len(passage), len(passage) // 2, -1):
        last = passage[end - 1]
        if len(last) >= LETTERS and last.isalpha() and last in passage[: end - 1]:
            return passage[:end]
    return []
