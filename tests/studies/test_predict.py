"""prunesim predict as a user meets it."""

import json

import pandas as pd
import pytest

import prunesim as ps
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
        (["--on", "h200"], "give one of a file of GEMMS, --shapes, each m,n,k, and --model"),
        (["--shapes", "1,2", "--on", "h200"], "m,n,k"),
        (["--shapes", "1,2,x", "--on", "h200"], "k = 'x'"),
        (["--shapes", "1,64,64", "--on", "h300"], "did you mean 'h200'"),
        (["--shapes", "1,64,64", "--on", "a100-sxm", "--dtype", "fp8"], "no fp8"),
        (["--shapes", "1,64,64", "--on", "h200", "--dtype", "fp32"], "unknown dtype"),
        (["--shapes", "1,64,64", "--on", "h200", "--format", "xml"], "unknown format"),
        (["--shapes", "1,64,64", "--on", "h200", "--set", "chip.sms=0"], "chip.sms"),
        (["--shapes", "1,64,64", "--model", "llama-7b", "--on", "h200"], "give one of"),
        (["--shapes", "1,64,64", "--on", "h200", "--batch", "2"], "--batch is of the layers of a --model"),
        (["--model", "llama7b", "--on", "h200"], "did you mean 'llama-7b'"),
        (["--model", "llama-7b", "--on", "h200", "--phase", "prefil"], "did you mean 'prefill'"),
        (["--model", "llama-7b", "--on", "h200", "--tokens", "0"], "--tokens 0: at least 1"),
        (["--model", "llama-7b", "--on", "h200", "--tokens", "2", "--phase", "decode"], "leave one of both out"),
        (["--model", "llama-7b", "--on", "h200", "--phase", "decode", "--prompt", "9"], "decode has no --prompt"),
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


def test_the_linears_of_a_model_by_phase(capsys):
    assert run("--model", "llama-7b", "--on", "h100-pcie", "--batch", 4, "--prompt", 512, "--format", "json") == 0
    rows = pd.DataFrame(json.loads(capsys.readouterr().out))
    assert rows.groupby("phase")["m"].unique().map(list).to_dict() == {"prefill": [2048], "decode": [4]}
    weights = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008)
    assert (rows["executions"] * rows["n"] * rows["k"]).groupby(rows["phase"]).sum().tolist() == [weights, weights]
    assert list(rows["roles"]) == ["q k v o", "gate up", "down"] * 2
    expected = predict(load_gpu("h100-pcie"), 4, 4096, 11008, "fp16")
    (down,) = rows.loc[(rows["phase"] == "decode") & (rows["roles"] == "down"), "dense_us"]
    assert down == pytest.approx(expected.dense.time_us[0])
    again = ps.predict(model="llama-7b", on="h100-pcie", batch=4, prompt=512).frame
    assert list(again["dense_us"]) == pytest.approx(list(rows["dense_us"]))
    assert set(ps.predict(model="llama-7b", on="h100-pcie", tokens=16).frame["m"]) == {16}


def test_experts_have_their_share_of_the_tokens(tmp_path):
    config = {
        "model_type": "mixtral", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 64, "num_local_experts": 8,
        "num_experts_per_tok": 2,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    rows = ps.predict(model=tmp_path, on="h100-pcie", tokens=1).frame
    experts = rows[rows["roles"].str.contains("expert")]
    assert set(experts["m"]) == {1}
    assert (experts["executions"] * experts["n"] * experts["k"]).sum() == pytest.approx(3 * 2 * 3 * 64 * 128)
