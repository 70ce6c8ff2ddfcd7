"""Questions made of a text, and how models answer them: against a whole model, and one that must be right."""

from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from pruning.data.questions import CHOICES, Questions, clozes, continuations
from pruning.evaluation.answers import right_answers
from validation.conformance.tiny_models import load_whole, quiet, save, token_ids
from workloads.errors import UserError


def letters(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8).astype(np.int64)


def test_continuations_share_their_beginning_and_the_right_one_is_the_texts() -> None:
    stream = np.arange(1000)
    made = continuations(stream, 10, 16, 3)
    assert len(made) == 10
    for question in made.ids.reshape(10, CHOICES, 16):
        assert (question[:, :12] == question[0, :12]).all()
        assert torch.equal(question[0], torch.arange(int(question[0, 0]), int(question[0, 0]) + 16))
        assert len({int(choice[12]) for choice in question}) == CHOICES
    assert torch.equal(continuations(stream, 10, 16, 3).ids, made.ids)
    assert not torch.equal(continuations(stream, 10, 16, 4).ids, made.ids)
    with pytest.raises(UserError, match="3 passages of 300"):
        continuations(stream, 10, 300, 0)
    with pytest.raises(UserError, match="repeats itself"):
        continuations(np.zeros(1000, int), 10, 16, 0)


def test_clozes_end_with_a_word_that_was_there_before() -> None:
    plain = ["ab"] * 59
    text = " ".join([*plain, "ab", *plain[1:], "house", "house", *plain[3:], "door", "house.", "door", "end"])
    made = clozes(text, letters, 10, 1000, 0)
    assert len(made) == 2  # the first ends with a short word
    assert [bytes(row[a:b].tolist()).decode() for row, (a, b) in zip(made.ids, made.answers, strict=True)] == [
        " house",
        " door",
    ]
    with pytest.raises(UserError, match="no passage of 60 words, at most 20 tokens"):
        clozes(text, letters, 10, 20, 0)


@torch.no_grad()
def test_answers_are_those_of_the_whole_model(tmp_path: Path) -> None:
    folder = save("llama", tmp_path)
    ids = token_ids(24, 12, seed=5)
    questions = Questions(ids, [(9, 12)] * 24, CHOICES)
    chances = load_whole(folder)(input_ids=ids).logits[:, :-1].double().log_softmax(-1)
    own = chances.gather(2, ids[:, 1:, None])[:, 8:, 0].sum(1).reshape(6, CHOICES)
    expected = (own[:, :1] > own[:, 1:]).all(dim=1).tolist()
    assert right_answers(Checkpoint(folder), questions, None, quiet) == expected
    likeliest = ids.clone()
    likeliest[::2, 9] = chances[::2, 8].argmax(-1)
    one = Questions(likeliest, [(9, 10)] * 24, 1)
    right = right_answers(Checkpoint(folder), one, None, quiet)
    assert right[::2] == [True] * 12
    assert right[1::2] == (ids[1::2, 9] == chances[1::2, 8].argmax(-1)).tolist()
