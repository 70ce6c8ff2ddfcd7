"""`prunesim attention` as a user meets it: rows in three formats, and one line for each mistake."""

import csv
import io
import json
import re

import numpy as np
import pytest

from studies.cli.main import main


def run(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def masks(tmp_path):
    """Two layers, two heads, 60 tokens; key 3 is global."""
    kept = np.random.default_rng(0).random((2, 2, 60, 60)) < 0.1
    kept[:, :, :, 3] = True
    np.save(tmp_path / "masks.npy", kept)
    np.save(tmp_path / "pruned.npy", ~kept)
    return tmp_path / "masks.npy"


def json_rows(capsys, *arguments: object) -> list[dict]:
    assert run("attention", *arguments, "--format", "json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("on", ["vitcod-attention-paper", "vitcod-attention"])
def test_rows_and_both_ways_to_write_a_mask(masks, capsys, on):
    rows = json_rows(capsys, masks, "--on", on)
    assert [row["layer"] for row in rows] == ["attention.0", "attention.1", "total"]
    assert all(row["cycles"] > 0 and row["feasible"] for row in rows)
    turned = json_rows(capsys, masks.with_name("pruned.npy"), "--on", on, "--pruned-is-one")
    assert [{**row, "model": "masks"} for row in turned] == rows


def test_one_layer_integers_and_settings(masks, capsys):
    np.save(masks, np.load(masks)[0].astype(np.int64))
    rows = json_rows(
        capsys, masks, "--on", "vitcod-attention", "--set", "array.height=64", "attention.head_features=32"
    )
    assert len(rows) == 2
    assert rows[0]["head_features"] == 32
    assert rows[0]["cycles"] < json_rows(capsys, masks, "--on", "vitcod-attention")[0]["cycles"]


def test_the_table_has_the_columns_of_the_log(masks, capsys):
    assert run("attention", masks, "--on", "vitcod-attention-paper") == 0
    header, *lines = capsys.readouterr().out.splitlines()
    for column in (
        "dense_preload_cycles",
        "sparse_decoder_cycles",
        "dense_sddmm_cycles",
        "sparse_spmm_cycles",
        "cycles",
    ):
        assert column in header.split()
    assert lines[-1].split()[0] == "total"


def test_csv_into_a_file(masks, tmp_path, capsys):
    out = tmp_path / "rows.csv"
    assert run("attention", masks, "--on", "vitcod-attention", "--format", "csv", "--out", out) == 0
    assert capsys.readouterr().out == ""
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert rows[-1]["layer"] == "total"
    assert int(rows[-1]["cycles"]) == sum(int(row["cycles"]) for row in rows[:-1])


def test_what_does_not_fit_is_a_row_and_where_nothing_fits_an_exit_code(masks, capsys):
    assert run("attention", masks, "--on", "vitcod-attention", "--set", "buffers.key_kib=1", "--format", "json") == 3
    captured = capsys.readouterr()
    rows = json.loads(captured.out)
    assert [row["feasible"] for row in rows] == [False] * 3
    assert "buffers.key_kib, which holds 1,024 B; raise it to" in rows[0]["reason"]
    assert rows[0]["cycles"] is None
    assert captured.err.count("\n") == 1
    assert "none of 3 rows can run on vitcod-attention; the first, attention.0: " in captured.err


def with_value(value: float) -> np.ndarray:
    array = np.ones((1, 2, 4, 4))
    array[0, 1, 2, 3] = value
    return array


MISTAKES = {
    "two dimensions": (np.ones((4, 4)), [],
        r"shape \(layers, heads, T, T\) or \(heads, T, T\); this array has shape \(4, 4\)"),
    "five dimensions": (np.ones((1, 1, 1, 4, 4)), [], r"this array has shape \(1, 1, 1, 4, 4\)"),
    "not square": (np.ones((2, 4, 5)), [], r"as many queries as keys; this array has shape \(2, 4, 5\)"),
    "empty": (np.ones((0, 2, 4, 4)), [], "is empty"),
    "no tokens": (np.ones((2, 0, 0)), [], "is empty"),
    "NaN": (with_value(np.nan), [], "layer 0 holds 1 values other than 0 and 1, the first is nan"),
    "another value": (with_value(0.5), [], "layer 0 holds 1 values other than 0 and 1, the first is 0.5"),
    "complex": (np.ones((1, 4, 4), dtype=complex), [], "this array is of type complex128"),
    "text": (np.full((1, 4, 4), "a"), [], "this array is of type <U1"),
    "objects": (np.full((1, 4, 4), None), [], "is not a readable .npy or .npz file"),
    "all pruned": (np.zeros((2, 4, 4)), [], "layer 0 keeps no position at all; .* with --pruned-is-one"),
    "all pruned, other way": (np.ones((2, 4, 4)), ["--pruned-is-one"], "keeps no position at all; .* without "
        "--pruned-is-one"),
    "unknown key": (np.ones((2, 4, 4)), ["--set", "array.depth=3"], "unknown key of vitcod-attention: 'array.depth'; "
        "did you mean 'array.width'"),
    "bad value": (np.ones((2, 4, 4)), ["--set", "array.width=0"], "array.width = 0"),
    "bad choice": (np.ones((2, 4, 4)), ["--set", "engines.stationary=rows"], "engines.stationary = 'rows'"),
    "unknown format": (np.ones((2, 4, 4)), ["--format", "xml"], "unknown format 'xml'"),
}  # fmt: skip


def refused(capsys, *arguments: object) -> str:
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("prunesim: ")
    return line


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_line(mistake, tmp_path, capsys):
    array, arguments, message = MISTAKES[mistake]
    path = tmp_path / "m.npy"
    np.save(path, array, allow_pickle=True)
    line = refused(capsys, "attention", path, "--on", "vitcod-attention", *arguments)
    assert re.search(message, line), line


def test_files_that_are_no_mask(tmp_path, capsys):
    on = ("--on", "vitcod-attention")
    assert "no such mask file" in refused(capsys, "attention", tmp_path / "absent.npy", *on)
    (tmp_path / "text.npy").write_text("not an array")
    assert "not a readable .npy or .npz file" in refused(capsys, "attention", tmp_path / "text.npy", *on)
    (tmp_path / "empty.npy").write_bytes(b"")
    assert "not a readable .npy or .npz file" in refused(capsys, "attention", tmp_path / "empty.npy", *on)
    np.save(tmp_path / "cut.npy", np.ones((2, 30, 30)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:2000])
    assert "not a readable .npy or .npz file" in refused(capsys, "attention", tmp_path / "cut.npy", *on)
    np.savez(tmp_path / "many.npz", a=np.ones((2, 4, 4)))
    assert "is an .npz archive" in refused(capsys, "attention", tmp_path / "many.npz", *on)
    assert "readable" in refused(capsys, "attention", tmp_path, *on)


def test_an_unknown_accelerator(masks, capsys):
    line = refused(capsys, "attention", masks, "--on", "vitcod")
    assert "unknown attention accelerator 'vitcod'" in line
    assert "vitcod-attention-paper" in line
