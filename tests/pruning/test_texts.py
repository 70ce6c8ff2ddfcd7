"""Texts of every kind of file are told by content, and whatever is wrong with them is one line."""

import bz2
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pruning.data import texts
from pruning.data.calibration import read_calibration, windows
from pruning.data.texts import read_documents
from validation.conformance.tiny_models import save_tokenizer
from workloads.errors import UserError

DOCUMENTS = ["alpha beta gamma " * 4, "short", "delta epsilon zeta " * 5, "eta theta iota kappa " * 3]
LINES = "".join(json.dumps({"text": text, "timestamp": "t", "url": "u"}) + "\n" for text in DOCUMENTS).encode()
PLAIN = "the quick brown fox jumps over the lazy dog\n" * 20


def zstd(content: bytes) -> bytes:
    return pytest.importorskip("zstandard", reason="zstandard is not installed").ZstdCompressor().compress(content)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "zstd": zstd,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of one token a character, without <s>."""
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder, bos=False)
    return folder


def read(path: Path, plain_bytes: int = texts.PLAIN_BYTES) -> tuple[list[str], bool, str]:
    with read_documents(path, plain_bytes) as documents:
        return list(documents), documents.plain, documents.note


def refused(path: Path) -> str:
    with pytest.raises(UserError) as refusal:
        read(path)
    message = str(refusal.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("name", ["c4.json", "c4-train.00000-of-01024.json.gz", "a.jsonl.zst", "a.txt", "a"])
def test_json_lines_are_documents_whatever_the_name(packer: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(PACKERS[packer](LINES))
    assert read(tmp_path / name) == (DOCUMENTS, False, "")


@pytest.mark.parametrize("packer", PACKERS)
def test_a_plain_text_is_one_text(packer: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(PACKERS[packer](PLAIN.encode()))
    assert read(tmp_path / "a") == ([PLAIN], True, "")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_array_holds_texts_or_documents(mark: bytes, indent: int | None, tmp_path: Path) -> None:
    for array in (DOCUMENTS, [{"text": text} for text in DOCUMENTS]):
        for name in ("a.json", "a.txt"):
            (tmp_path / name).write_bytes(mark + json.dumps(array, indent=indent).encode())
            assert read(tmp_path / name) == (DOCUMENTS, False, "")


def test_one_object_over_several_lines_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"id": 1, "text": "alpha"}, indent=2))
    assert read(tmp_path / "a.json") == (["alpha"], False, "")
    (tmp_path / "a.json").write_text(json.dumps({"data": [{"text": "alpha"}]}, indent=2))
    assert 'string under "text" (data)' in refused(tmp_path / "a.json")


@pytest.mark.parametrize(
    "text", ["[1] Smith, A. On foxes.\n", '["Hello] said the fox\n', "{curly} text\n", "{'a': 1}\n", "# x\n", '"Hi."\n']
)
def test_texts_that_only_begin_like_json(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text * 3)
    assert read(tmp_path / "a.txt") == ([text * 3], True, "")


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": DOCUMENTS, "n": [1, 2, 3, 4]}), tmp_path / "a.bin")
    assert read(tmp_path / "a.bin") == (DOCUMENTS, False, "")
    pq.write_table(pa.table({"n": [1, 2]}), tmp_path / "a.bin")
    assert 'no column "text", only n' in refused(tmp_path / "a.bin")
    (tmp_path / "a.bin").write_bytes(b"PAR1" + b"x" * 50)
    assert "damaged Parquet" in refused(tmp_path / "a.bin")


WRONG = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\t\n", "is empty"),
    "binary": (b"abc\0def", "byte 3 is 0"),
    "latin-1": ("caf\u00e9 au lait".encode("latin-1"), "not UTF-8 text"),
    "utf-16": ("hello".encode("utf-16"), "UTF-16"),
    "zip": (b"PK\x03\x04" + b"x" * 30, "zip archive"),
    "xz": (b"\xfd7zXZ\0" + b"x" * 30, "xz archive"),
    "pdf": (b"%PDF-1.7", "PDF"),
    "gguf": (b"GGUF\3\0\0\0", "GGUF model"),
    "cut gzip": (gzip.compress(PLAIN.encode())[:-20], "is damaged"),
    "spoilt gzip": (gzip.compress(LINES)[:20] + b"\xff" * 40, "is damaged"),
    "cut lines": (LINES[:-30], "line 4 is not JSON"),
    "other key": (b'{"content": "a"}\n', 'under "text" (content)'),
    "null text": (b'{"text": null}\n', 'under "text"'),
    "deep": (b'{"a":' + b"[" * 100_000, "is not JSON"),
    "empty gzip": (gzip.compress(b""), "is empty"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_files_that_hold_no_text(case: str, tmp_path: Path) -> None:
    content, what = WRONG[case]
    (tmp_path / "a").write_bytes(content)
    assert what in refused(tmp_path / "a")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"hello world", "line 1 is not JSON"),
        (b"[1, 2", "is not JSON"),
        (b"[]", "no documents"),
        (b"[5]", "item 1"),
        (b"", "is empty"),
    ],
)
def test_a_file_named_as_json_that_holds_none(content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    assert what in refused(tmp_path / "a.json")
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(content))
    assert what in refused(tmp_path / "a.json.gz")


def test_zstd_archives_of_several_frames_and_damaged_ones(tmp_path: Path) -> None:
    packed = zstd(LINES)
    (tmp_path / "a").write_bytes(packed + zstd(LINES))
    assert read(tmp_path / "a")[0] == DOCUMENTS * 2
    for damaged in (packed[:-5], packed[:12] + b"\xff" * 20, packed + b"more than zstd"):
        (tmp_path / "a").write_bytes(damaged)
        assert "is damaged" in refused(tmp_path / "a")


def test_a_zstd_archive_that_unpacks_to_far_more_than_it_is(tmp_path: Path) -> None:
    """64 MiB of words in a few kB; 1 MiB is taken."""
    (tmp_path / "a").write_bytes(zstd(b"word " * (1 << 24 - 2)))
    found, _, note = read(tmp_path / "a", 1 << 20)
    assert (len(found[0]), note) == (1_048_574, "first 1,048,574 bytes")


class Endless(io.RawIOBase):
    """A decompressor that never ends, and how much was taken from it."""

    taken = 0

    def __init__(self, unit: bytes):
        self.unit = unit * (1 + 65536 // len(unit))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        count = min(len(buffer), len(self.unit) // len(self.unit[: 1 << 16]) * len(self.unit))
        buffer[:count] = self.unit[:count]
        Endless.taken += count
        return count


def endless(monkeypatch: pytest.MonkeyPatch, path: Path, unit: bytes) -> Path:
    path.write_bytes(gzip.compress(b"x"))
    Endless.taken = 0
    monkeypatch.setattr(texts.gzip, "GzipFile", lambda fileobj: Endless(unit))
    return path


def test_an_archive_that_never_ends_is_read_to_the_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = endless(monkeypatch, tmp_path / "a.gz", b"word ")
    found, plain, note = read(path, 1 << 20)
    assert plain
    assert len(found[0]) == 1_048_574  # the last whole word before 2^20 bytes, without the space behind it
    assert note == "first 1,048,574 bytes"
    assert Endless.taken < 4 << 20


def test_documents_that_never_end_are_read_to_the_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(texts, "MOST_DOCUMENTS", 5000)
    path = endless(monkeypatch, tmp_path / "a.gz", b'{"text": "abc"}\n')
    found, plain, note = read(path)
    assert (len(found), plain, note) == (5000, False, "first 5,000 documents")


def test_one_line_that_never_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(texts, "LINE_BYTES", 1 << 20)
    path = endless(monkeypatch, tmp_path / "a.gz", b'{"text": "')
    assert "line 1 is longer than 1 MiB" in refused(path)
    monkeypatch.setattr(texts, "MOST_BYTES", 1 << 20)
    path = endless(monkeypatch, tmp_path / "b.gz", b'["a", ')
    assert "save it as JSON lines" in refused(path)


def test_a_text_is_cut_between_characters(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("\u00e9" * 100)  # no space to cut at
    found, _, _ = read(tmp_path / "a", 21)
    assert found == ["\u00e9" * 10]


def test_json_lines_are_never_calibrated_on_as_raw_text(model: Path, tmp_path: Path) -> None:
    """C4's own file name: crops are pieces of documents, and "timestamp" or braces are in none."""
    file = tmp_path / "c4-train.00000-of-01024.json.gz"
    file.write_bytes(gzip.compress(LINES))
    letters = "abcdefghijklmnopqrstuvwxyz0123456789 .,!?\n"
    crops = read_calibration(str(file), model, 30, 40, 0)
    assert crops.source == file.name
    for row in crops.ids:
        piece = "".join(letters[number - 3] for number in row.tolist())
        assert any(piece in document for document in DOCUMENTS if len(document) > 40)
    again = read_calibration(str(file), model, 30, 40, 0)
    assert np.array_equal(again.ids, crops.ids)


def test_documents_are_evaluated_with_spaces_between(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(LINES)
    (tmp_path / "b").write_text(" ".join(DOCUMENTS))
    assert np.array_equal(windows(tmp_path / "a", model, 10, None), windows(tmp_path / "b", model, 10, None))
    monkeypatch.setattr("pruning.data.calibration.C4_DOCUMENTS", 2)
    monkeypatch.setattr("pruning.data.calibration.C4_WINDOWS", 3)
    assert len(windows(tmp_path / "a", model, 10, None)) == 3
    (tmp_path / "a").write_bytes(LINES.replace(b'"url"', b'"link"'))  # not C4: all of it
    assert len(windows(tmp_path / "a", model, 10, None)) == len(" ".join(DOCUMENTS)) // 10


def test_a_text_too_long_to_take_all_of_it_asks_for_windows(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pruning.data.calibration.PLAIN_BYTES", 300)
    (tmp_path / "a").write_text(PLAIN)
    with pytest.raises(UserError, match="say how many windows"):
        windows(tmp_path / "a", model, 10, None)
    assert len(windows(tmp_path / "a", model, 10, 25)) == 25
    (tmp_path / "b").write_text(PLAIN[:260])
    monkeypatch.setattr("pruning.data.calibration.COUNTED_BYTES", 20)  # and 16 bytes a token
    assert np.array_equal(windows(tmp_path / "a", model, 10, 25), windows(tmp_path / "b", model, 10, 25))


def test_ids_are_known_by_content(model: Path, tmp_path: Path) -> None:
    ids = np.arange(40).reshape(4, 10)
    with (tmp_path / "ids").open("wb") as stream:
        np.save(stream, ids)
    assert np.array_equal(read_calibration(str(tmp_path / "ids"), model, None, None, 0).ids, ids)
    assert np.array_equal(windows(tmp_path / "ids", model, 10, None), ids)


def test_places_that_are_no_text(model: Path, tmp_path: Path) -> None:
    for source, what in (
        (str(tmp_path), "is a folder"),
        ("a\0b", "null byte"),
        ("./gone", "no such file"),
        ("a/b/c", "no such file"),
    ):
        with pytest.raises(UserError, match=what):
            read_calibration(source, model, 1, 4, 0)
