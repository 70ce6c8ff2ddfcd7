"""Calibration ids from text, JSON lines and .npy, and every way their files can be wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig

from pruning.data.calibration import check_ids, ids_sha256, read_calibration, windows
from validation.conformance.tiny_models import save_tokenizer
from workloads.errors import UserError

TEXT = "the quick brown fox jumps over the lazy dog, 0123456789 times. is it? yes!\n" * 4
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 .,!?\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return folder


def spell(ids: torch.Tensor) -> str:
    """Back to text, by the table of the test's tokenizer: <s> is 1, "a" is 3."""
    return "".join("^" if number == 1 else LETTERS[number - 3] for number in ids.tolist())


def refused(*args) -> str:
    with pytest.raises(UserError) as refusal:
        read_calibration(*args)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_crops_of_a_text_are_pieces_of_it_and_depend_on_the_seed(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    source = str(tmp_path / "a.txt")
    one = read_calibration(source, model, 6, 20, 0)
    assert one.ids.shape == (6, 20)
    assert one.ids.dtype == torch.int64
    assert all(spell(row) in "^" + TEXT for row in one.ids)
    assert len({spell(row) for row in one.ids}) > 1
    assert torch.equal(one.ids, read_calibration(source, model, 6, 20, 0).ids)
    assert not torch.equal(one.ids, read_calibration(source, model, 6, 20, 1).ids)
    assert one.facts == {"source": "a.txt", "samples": 6, "seq_len": 20, "sha256": ids_sha256(one.ids)}


def test_a_text_of_exactly_the_needed_length_and_one_token_less(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a" * 39)  # and <s>
    assert read_calibration(str(tmp_path / "a.txt"), model, 2, 20, 0).ids.shape == (2, 20)
    (tmp_path / "a.txt").write_text("a" * 38)
    assert "has 39 tokens, 2 samples of 20 need 40" in refused(str(tmp_path / "a.txt"), model, 2, 20, 0)


def test_every_start_of_a_text_can_be_drawn(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcdefghi")
    drawn = {spell(read_calibration(str(tmp_path / "a.txt"), model, 1, 8, seed).ids[0]) for seed in range(60)}
    assert drawn == {"^abcdefg", "abcdefgh", "bcdefghi"}


def test_documents_shorter_than_a_crop_are_passed_over(model: Path, tmp_path: Path) -> None:
    documents = ["a" * 19, "b" * 8, "c" * 30, "", "d" * 20]  # with <s>: 20, 9, 31, 1 and 21 tokens
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text, "url": "x"}) for text in documents) + "\n\n")
    crops = [spell(row) for row in read_calibration(str(tmp_path / "a.jsonl"), model, 40, 20, 0).ids]
    assert {set(crop.removeprefix("^")).pop() for crop in crops} == {"c", "d"}
    # Starts are drawn from 0..length-seq_len-1, so d's only crop has its <s>.
    assert {crop for crop in crops if "d" in crop} == {"^" + "d" * 19}
    assert {crop for crop in crops if "c" in crop} == {"^" + "c" * 19, "c" * 20}
    assert "no document" in refused(str(tmp_path / "a.jsonl"), model, 1, 31, 0)


def test_json_lines_may_hold_any_character(model: Path, tmp_path: Path) -> None:
    """U+2028, U+0085 and form feeds end no line of JSON, and \\r\\n is a line end like \\n."""
    text = "a\u2028b\u0085c" * 10
    lines = [json.dumps({"text": text}, ensure_ascii=False)] * 2
    (tmp_path / "a.jsonl").write_bytes("\r\n".join(lines).encode())
    assert read_calibration(str(tmp_path / "a.jsonl"), model, 3, 30, 0).ids.shape == (3, 30)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"text": "a"', "is not JSON"), ('{"content": "a"}', 'under "text"'), ('["a"]', 'under "text"'),
        ('"text"', 'under "text"'), ('{"text": null}', 'under "text"'), ('{"text": 5}', 'under "text"'),
    ],
)  # fmt: skip
def test_a_bad_line_is_numbered(line: str, what: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "abc"}\n\n' + line + "\n")
    message = refused(str(tmp_path / "a.jsonl"), model, 1, 2, 0)
    assert "line 3" in message
    assert what in message


def test_npy_ids_are_taken_exactly_in_their_order(model: Path, tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 60, (5, 12))
    for kind in (np.int64, np.int32, np.uint16):
        np.save(tmp_path / "ids.npy", ids.astype(kind))
        for seed in (0, 1):
            found = read_calibration(str(tmp_path / "ids.npy"), model, None, None, seed)
            assert found.ids.dtype == torch.int64
            np.testing.assert_array_equal(found.ids.numpy(), ids)
    fewer = read_calibration(str(tmp_path / "ids.npy"), model, 3, 7, 0)
    np.testing.assert_array_equal(fewer.ids.numpy(), ids[:3, :7])
    assert "5 sequences of 12 tokens, asked for: 6 of 12" in refused(str(tmp_path / "ids.npy"), model, 6, None, 0)
    assert "asked for: 5 of 13" in refused(str(tmp_path / "ids.npy"), model, None, 13, 0)


@pytest.mark.parametrize(
    "content", [np.zeros(4, int), np.zeros((2, 3, 4), int), np.zeros((2, 4)), np.zeros((0, 4), int), np.array([[None]])]
)
def test_npy_files_that_are_no_ids(content: np.ndarray, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", content)
    assert "ids.npy" in refused(str(tmp_path / "ids.npy"), model, None, None, 0)


@pytest.mark.parametrize("damage", ["empty", "cut", "zip", "text", "folder"])
def test_npy_files_that_are_broken(damage: str, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "ids.npy"
    np.save(file, np.zeros((4, 100), int))
    if damage == "zip":
        with file.open("wb") as stream:
            np.savez(stream, a=np.zeros(3))
    elif damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes({"empty": b"", "cut": file.read_bytes()[:500], "text": b"hello world"}[damage])
    assert "ids.npy" in refused(str(file), model, None, None, 0)


@pytest.mark.parametrize("name", ["no.txt", "no.jsonl", "no.npy", "no"])
def test_missing_files(name: str, model: Path, tmp_path: Path) -> None:
    message = refused(str(tmp_path / name), model, 1, 4, 0)
    assert name in message
    assert "o such file" in message


def test_text_that_is_not_utf8(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"abc\xff" + b"d" * 100)
    assert "not UTF-8" in refused(str(tmp_path / "a.txt"), model, 1, 4, 0)
    assert "at byte 3" in refused(str(tmp_path / "a.txt"), model, 1, 4, 0)


@pytest.mark.parametrize(("samples", "seq_len"), [(0, 4), (-1, 4), (4, 0), (4, -2)])
@pytest.mark.parametrize("name", ["a.txt", "a.npy"])
def test_counts_below_one(samples: int, seq_len: int, name: str, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((9, 9), int))
    (tmp_path / "a.txt").write_text(TEXT)
    assert "at least 1" in refused(str(tmp_path / name), model, samples, seq_len, 0)


def test_a_folder_without_a_tokenizer_says_what_to_give_instead(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    assert ".npy" in refused(str(tmp_path / "a.txt"), tmp_path, 1, 4, 0)


def test_windows_follow_each_other_and_the_rest_is_dropped(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcdefghijk")  # 12 tokens with <s>
    assert [spell(row) for row in windows(tmp_path / "a.txt", model, 5, None)] == ["^abcd", "efghi"]
    assert [spell(row) for row in windows(tmp_path / "a.txt", model, 5, 1)] == ["^abcd"]
    assert [spell(row) for row in windows(tmp_path / "a.txt", model, 4, None)] == ["^abc", "defg", "hijk"]
    for seq_len, count in ((5, 3), (13, None), (1, None), (5, 0), (5, -1)):
        with pytest.raises(UserError):
            windows(tmp_path / "a.txt", model, seq_len, count)


def test_ids_beyond_the_model() -> None:
    config = LlamaConfig(vocab_size=64, max_position_embeddings=16)
    check_ids(torch.tensor([[0, 63] * 8]), config, "x")
    for ids, what in (([[64]], r"64\.\.64, the vocabulary has 64"), ([[-1]], r"-1\.\.-1"), ([[1] * 17], "17 tokens")):
        with pytest.raises(UserError, match=what):
            check_ids(torch.tensor(ids), config, "x")
