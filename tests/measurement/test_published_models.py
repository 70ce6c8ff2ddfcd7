"""Whole models that publications timed: the figures of the tables, beside the very configurations."""

import json

import pandas as pd
import pytest

from measurement.published_models import SOURCES, published_models, rows_beside
from studies.cli.main import main
from tests.documents import ROOT
from workloads.columns.inference import INFERENCE_COLUMNS
from workloads.rows import to_frame

DATA = ROOT.parent / "shared" / "data" / "performance"
WANTED = {"model": "llama-2-70b", "target": "a100-sxm", "dtype": "fp16", "tensor_parallel": 8, "batch": 1,
          "prompt": 512, "generate": 128, "source": "predicted", "feasible": True}  # fmt: skip


def wanted(**others) -> pd.DataFrame:
    return to_frame([{**WANTED, **others}], INFERENCE_COLUMNS)


def test_each_has_a_source_that_notice_names():
    notice = (ROOT / "NOTICE").read_text()
    frame = published_models()
    assert set(frame["published"]) == set(SOURCES)
    for source in SOURCES.values():
        assert source.licence in ("Apache-2.0", "MIT", "BSD-3-Clause")
        assert source.citation.split("@")[-1].split(" ")[0] in notice
    assert (frame[["prefill_ms", "decode_ms_per_token", "tokens_per_s"]].fillna(1) > 0).all(axis=None)


def test_figures_are_those_of_the_tables():
    if not DATA.exists():
        pytest.skip("the published tables are not here")
    frame = published_models()
    given = pd.read_csv(DATA / "whole_model_splitwise.csv")
    ours = frame[frame["published"] == "Splitwise"]
    assert ours["decode_ms_per_token"].tolist() == given["decode_ms_per_token"].tolist()
    assert ours["prefill_ms"].tolist() == given["prefill_ms"].tolist()
    fast = pd.read_csv(DATA / "whole_model_gptfast_decode.csv")
    assert frame.loc[frame["published"] == "gpt-fast", "tokens_per_s"].tolist() == fast["tokens_per_s"].tolist()
    served = [pd.read_csv(DATA / f"whole_model_{name}.csv") for name in ("llama31_fp8", "qwen3_32b_fp8")]
    steps = pd.concat(served)["silicon_tpot_ms"].tolist()
    assert frame.loc[frame["published"] == "aiconfigurator", "decode_ms_per_token"].tolist() == steps


def test_the_very_configuration_or_what_is_nearest_marked_so():
    (row,) = rows_beside(wanted(), nearest=True)
    assert (row["prefill_ms"], row["decode_ms_per_token"]) == (94.31, 44.852)  # of the table
    assert row["source"] == "published"
    assert "Splitwise" in row["settings"]
    assert "MIT" in row["reason"]
    (far,) = rows_beside(wanted(prompt=520), nearest=True)
    assert not far["feasible"]
    assert far["reason"].startswith("not published; nearest: fp16, 8 chips, 1 sequences, prompt 512, 128 new: ")
    assert rows_beside(wanted(prompt=520), nearest=False) == []
    assert rows_beside(wanted(target="b200"), nearest=True) == []


def test_the_command_sets_them_beside_predictions(capsys):
    asked = [
        "inference",
        "llama-2-70b",
        "--on",
        "a100-sxm",
        "--tensor-parallel",
        "8",
        "--prompt",
        "512",
        "--generate",
        "128",
    ]
    with pytest.raises(SystemExit) as stop:
        main([*asked, "--measured", "whole-models", "--format", "json"])
    assert not stop.value.code
    assert [row["source"] for row in json.loads(capsys.readouterr().out)] == ["predicted", "published"]


def test_a_study_has_them_in_its_report(tmp_path, capsys):
    file = tmp_path / "study.toml"
    file.write_text(
        'title = "Published beside predicted"\nout = "out"\n'
        '[[models]]\nname = "llama-2-70b"\nshapes = "llama-2-70b"\n[[methods]]\ntreat = ["2:4"]\n'
        "[[phases]]\nbatch = 1\nprompt = [512, 600]\ngenerate = 128\ntensor_parallel = 8\n"
        'host = "eager-2023"\n[[accelerators]]\nname = "a100-sxm"\n[[measured]]\nrecord = "whole-models"\n'
    )
    with pytest.raises(SystemExit) as stop:
        main(["run", str(file), "--out", str(tmp_path / "out")])
    assert not stop.value.code, capsys.readouterr().err
    rows = pd.read_csv(tmp_path / "out" / "inference.csv")
    published = rows[rows["source"] == "published"]
    assert published[["prompt", "prefill_ms", "decode_ms_per_token"]].to_numpy().tolist() == [[512, 94.31, 44.852]]
    assert "8 x a100-sxm" in (tmp_path / "out" / "report.md").read_text()
    assert "published=Splitwise" in (tmp_path / "out" / "report.md").read_text()
