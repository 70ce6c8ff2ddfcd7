"""prunesim predict as a user meets it."""

import json

import pandas as pd
import pytest

from simulator.gpu import load_gpu, predict
from studies.cli.main import main


def run(*arguments: object) -> int:
    try:
        main(["predict", *map(str, arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def gemms(tmp_path):
    path = tmp_path / "gemms.csv"
    path.write_text("layer,m,n,k,dense_us\nq,2048,4096,4096,300.5\nodd,1,4097,4096,\n")
    return path


def test_json_rows_keep_columns_and_match_the_library(gemms, capsys):
    assert run(gemms, "--on", "a100-pcie", "--format", "json") == 0
    first, second = json.loads(capsys.readouterr().out)
    expected = predict(load_gpu("a100-pcie"), 2048, 4096, 4096, "fp16")
    assert first["layer"] == "q"
    assert first["given_dense_us"] == 300.5
    assert first["dense_us"] == pytest.approx(expected.dense.time_us[0])
    assert first["speedup"] == pytest.approx(first["dense_us"] / first["sparse24_us"])
    assert first["source"] == "predicted"
    assert first["reason"] == ""
    assert second["sparse24_us"] is None
    assert second["speedup"] is None
    assert "multiples of 16" in second["reason"]
    assert second["dense_us"] > 0


def test_csv_to_a_file(gemms, tmp_path):
    out = tmp_path / "rows.csv"
    assert run(gemms, "--on", "h200", "--dtype", "fp8", "--format", "csv", "--out", out) == 0
    frame = pd.read_csv(out)
    assert list(frame.columns[:5]) == ["layer", "m", "n", "k", "given_dense_us"]
    assert set(frame["target"]) == {"h200"}
    assert set(frame["bound"].dropna()) <= {"tensor", "dram", "l2", "launch", "wave_tail"}


def test_shapes_and_overrides(capsys):
    assert (
        run("--shapes", "64,2048,2048", "--shapes", "1,2048,2048", "--on", "h100-pcie", "--set", "memory.l2_warm=false")
        == 0
    )
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a CSV"),
        ("m,n\n1,2\n", "lacks the column 'k'"),
        ("m,n,k\n", "no rows"),
        ("m,n,k\n1,2,3\n1,-2,3\n", "line 3: n = -2"),
        ("m,n,k\n1,0,3\n", "line 2: n = 0"),
        ("m,n,k\n1,2.5,3\n", "line 2: n = '2.5'"),
        ("m,n,k\n1,,3\n", "line 2: n = ''"),
        ("m,n,k\n1,nan,3\n", "line 2: n"),
        ("m,n,k\n1,2,99999999\n", "line 2: k = 99999999"),
        ("m,n,k\n1,2,3,4\n1,2\n", "line"),
        ("m,n,k\n1,2,3\n1,2,3,4,5\n", "line 3: 5 fields"),
    ],
)
def test_bad_files_get_one_line(text, said, tmp_path, capsys):
    path = tmp_path / "gemms.csv"
    path.write_text(text)
    assert run(path, "--on", "a100-pcie") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.csv", "--on", "h200"], "missing.csv"),
        (["--on", "h200"], "give either"),
        (["--shapes", "1,2", "--on", "h200"], "m,n,k"),
        (["--shapes", "1,2,x", "--on", "h200"], "k = 'x'"),
        (["--shapes", "1,64,64", "--on", "h300"], "did you mean 'h200'"),
        (["--shapes", "1,64,64", "--on", "a100-sxm", "--dtype", "fp8"], "no fp8"),
        (["--shapes", "1,64,64", "--on", "h200", "--dtype", "fp32"], "unknown dtype"),
        (["--shapes", "1,64,64", "--on", "h200", "--format", "xml"], "unknown format"),
        (["--shapes", "1,64,64", "--on", "h200", "--set", "chip.sms=0"], "chip.sms"),
    ],
)
def test_bad_arguments_get_one_line(arguments, said, capsys):
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert len(captured.err.splitlines()) == 1


def test_whole_numbers_written_as_floats_are_sizes(tmp_path, capsys):
    path = tmp_path / "gemms.csv"
    path.write_text("k, m, n\n64.0, 16, 32\n")
    assert run(path, "--on", "h200", "--format", "json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["m"], row["n"], row["k"]) == (16, 32, 64)


@pytest.mark.parametrize(
    ("text", "said"),
    [("m,n,k\n1,2,3,4,5\n", "5 fields"), ("m,n,k\n1,2\n", "2 fields"), ("m,n,k,m\n1,2,3,4\n", "'m' twice")],
)
def test_lines_that_do_not_fit_the_header(tmp_path, text, said):
    from studies.gemm_files import read_gemms
    from workloads.errors import UserError

    (tmp_path / "g.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        read_gemms(tmp_path / "g.csv")
