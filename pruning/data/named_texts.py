"""Texts of the Hugging Face hub by name (extra `datasets`): NAME[:CONFIG[:SPLIT]], and the papers' wikitext2 and c4.

Rows are streamed, and no more of them than are needed. What the papers' names stand for (methods 19.1 and 19.2):

    wikitext2   Salesforce/wikitext, wikitext-2-raw-v1. Calibration: train, its rows joined by a space, random crops of
                that one text. Evaluation: test, its rows joined by an empty line.
    c4          allenai/c4, English. Calibration: documents of the first training shard (00000 of 01024). Evaluation:
                the first 1,100 documents of the first validation shard (00000 of 00008) joined by spaces, of which 256
                windows are taken.
"""

from collections.abc import Iterator
from typing import Any, Literal

from pruning.data.texts import Documents, document_text
from workloads.errors import UserError, one_line, shorten

Purpose = Literal["calibration", "evaluation"]

STREAMED = 20_000  # documents of a data set named by the user
WIKITEXT = ("Salesforce/wikitext", "wikitext-2-raw-v1")
SPLITS = {"calibration": "train", "evaluation": "test"}
C4 = "allenai/c4"
C4_FILES = {
    "calibration": "en/c4-train.00000-of-01024.json.gz",
    "evaluation": "en/c4-validation.00000-of-00008.json.gz",
}


def named_documents(name: str, purpose: Purpose) -> Documents:
    """The texts of a data set. Raises UserError if it cannot be loaded, has no such configuration or split, or no
    texts."""
    if name == "c4":
        file = C4_FILES[purpose]
        return Documents(_texts(name, _rows(name, C4, None, "train", {"train": file})), is_c4=True)
    if name in ("wikitext2", "wikitext-2"):
        rows = _rows(name, *WIKITEXT, SPLITS[purpose])
        joint = " " if purpose == "calibration" else "\n\n"
        return Documents(iter([joint.join(_texts(name, rows))]), plain=True)
    repository, _, rest = name.partition(":")
    config, _, split = rest.partition(":")
    rows = _rows(name, repository, config or None, split or SPLITS[purpose])
    if repository.rpartition("/")[2] == "wikitext":  # rows are lines, not documents
        return Documents(iter([" ".join(_first(_texts(name, rows)))]), plain=True)
    return Documents(_first(_texts(name, rows)), note=f"at most the first {STREAMED:,} documents")


def _first(texts: Iterator[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        if number == STREAMED:
            return
        yield text


def _rows(
    name: str, repository: str, config: str | None, split: str, files: dict[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """Raises UserError, when the first row is asked for, or a later one."""
    try:
        from datasets import load_dataset
        from datasets.utils.logging import disable_progress_bar
    except ImportError:
        raise UserError(
            f"{name!r} is no file; to take it as the name of a data set install the extra: pip install "
            "'prunesim[datasets]'"
        ) from None
    disable_progress_bar()
    try:
        yield from load_dataset(repository, config, data_files=files, split=split, streaming=True)
    except UserError:
        raise
    except Exception as error:  # the datasets library raises many kinds; all mean the same to the user
        raise UserError(
            f"cannot load data set {name!r} (repository {repository}, configuration {config or 'default'}, split "
            f"{split}): {one_line(error)}"
        ) from None


def _texts(name: str, rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    found = False
    for number, row in enumerate(rows, start=1):
        if "text" not in row:
            raise UserError(f'data set {name!r} has no column "text", only {shorten(", ".join(map(str, row)), 80)}')
        found = True
        yield document_text(row, f"data set {name!r}, row {number}")
    if not found:
        raise UserError(f"data set {name!r} holds no documents")
