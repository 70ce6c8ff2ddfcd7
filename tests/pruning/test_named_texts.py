"""Data sets by name: what is asked of the `datasets` library, and no more of it than is needed."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pruning.data.calibration import read_calibration, windows
from pruning.data.named_texts import named_documents
from validation.conformance.tiny_models import save_tokenizer
from workloads.errors import UserError


class Library:
    """Stands in for `datasets`: notes what is loaded and how many rows are taken."""

    def __init__(self, rows: list[dict[str, Any]] | Exception):
        self.rows, self.asked, self.taken = rows, [], 0

    def load_dataset(
        self, repository: str, config: str | None, *, data_files: Any, split: str, streaming: bool
    ) -> Iterator[dict]:
        self.asked.append((repository, config, data_files, split, streaming))
        if isinstance(self.rows, Exception):
            raise self.rows
        return self._rows(self.rows)

    def _rows(self, rows: list[dict[str, Any]]) -> Iterator[dict]:
        for row in rows:
            self.taken += 1
            yield row


def install(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]] | Exception) -> Library:
    library = Library(rows)
    logging = types.ModuleType("datasets.utils.logging")
    logging.disable_progress_bar = lambda: None  # type: ignore[attr-defined]
    module = types.ModuleType("datasets")
    module.load_dataset = library.load_dataset  # type: ignore[attr-defined]
    for name, part in {
        "datasets": module,
        "datasets.utils": types.ModuleType("datasets.utils"),
        "datasets.utils.logging": logging,
    }.items():
        monkeypatch.setitem(sys.modules, name, part)
    return library


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder, bos=False)
    return folder


ROWS = [{"text": "abc def "}, {"text": ""}, {"text": "ghi jkl"}]


def test_wikitext2_is_what_the_papers_take(monkeypatch: pytest.MonkeyPatch) -> None:
    library = install(monkeypatch, ROWS)
    made = named_documents("wikitext2", "calibration")
    assert made.plain
    assert list(made) == ["abc def   ghi jkl"]  # joined by a space
    assert list(named_documents("wikitext2", "evaluation")) == ["abc def \n\n\n\nghi jkl"]  # by an empty line
    name = ("Salesforce/wikitext", "wikitext-2-raw-v1", None)
    assert library.asked == [(*name, "train", True), (*name, "test", True)]


def test_c4_is_one_shard(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = install(monkeypatch, [{"text": "abcdefgh" * 5}] * 50)
    drawn = read_calibration("c4", model, 4, 16, 0)
    assert drawn.source == "c4"
    assert library.asked == [("allenai/c4", None, {"train": "en/c4-train.00000-of-01024.json.gz"}, "train", True)]
    monkeypatch.setattr("pruning.data.calibration.C4_DOCUMENTS", 3)
    found = windows("c4", model, 10, None)
    assert library.asked[-1] == (
        "allenai/c4",
        None,
        {"train": "en/c4-validation.00000-of-00008.json.gz"},
        "train",
        True,
    )
    assert len(found) == (3 * 40 + 2) // 10
    assert library.taken == 50 + 4  # one more than is used


@pytest.mark.parametrize(
    ("name", "asked"),
    [("org/data:en:validation", ("org/data", "en", "validation")), ("org/data", ("org/data", None, "train")),
     ("data:en", ("data", "en", "train")), ("org/data::test", ("org/data", None, "test"))],
)  # fmt: skip
def test_a_name_with_configuration_and_split(
    name: str, asked: tuple, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = install(monkeypatch, [{"text": "abcdefgh" * 5, "id": 1}] * 30)
    monkeypatch.setattr("pruning.data.named_texts.STREAMED", 10)
    drawn = read_calibration(name, model, 2, 16, 0)
    repository, config, split = asked
    assert library.asked == [(repository, config, None, split, True)]
    assert library.taken == 11
    assert drawn.source == f"{name} (at most the first 10 documents)"


@pytest.mark.parametrize(
    ("rows", "what"),
    [([], "holds no documents"), ([{"content": "a"}], 'no column "text", only content'),
     ([{"text": 5}], 'string under "text"'),
     (ValueError("BuilderConfig 'x' not found.\nAvailable: ['en']. Pass trust_remote_code=True to load it."),
     "Available: .'en'.")],
)  # fmt: skip
def test_data_sets_that_cannot_be_used(rows: Any, what: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, rows)
    with pytest.raises(UserError, match=what) as refusal:
        read_calibration("org/data:x:train", model, 1, 4, 0)
    assert "\n" not in str(refusal.value)
    assert "trust_remote_code" not in str(refusal.value)


def test_without_the_library(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    for name in ("wikitext2", "c4", "org/data"):
        with pytest.raises(UserError, match=r"pip install 'prunesim\[datasets\]'"):
            read_calibration(name, model, 1, 4, 0)


def test_the_real_library_streams_a_local_file(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra `datasets` is not installed")
    (tmp_path / "a.json").write_text('{"text": "abcdefghabcdefgh"}\n' * 20)
    load = datasets.load_dataset

    def local(_name: str, _config: str | None, **options: Any) -> Any:
        return load("json", None, **options | {"data_files": {"train": str(tmp_path / "a.json")}})

    monkeypatch.setattr(datasets, "load_dataset", local)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    assert read_calibration("c4", model, 3, 8, 0).ids.shape == (3, 8)
