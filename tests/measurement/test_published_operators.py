"""Single operators that publications timed: the figures of the tables, predictions beside them, listed and shown."""

import io
import re
from contextlib import suppress

import pandas as pd
import pytest

from measurement.published import OPERATORS as NAME
from measurement.published_models import published_models
from measurement.published_operators import COLUMNS, SIZES, SOURCES, published_operators
from studies.cli.main import main
from studies.operator_files import FORMS, read_operators
from studies.predict_operators import predict_operators
from tests.documents import ROOT
from tests.measurement.test_verb import refused

DATA = ROOT.parent / "shared" / "data" / "performance"


def out_of(capsys, *arguments: str) -> str:
    with suppress(SystemExit):
        main(list(arguments))
    return capsys.readouterr().out


def test_each_has_a_source_that_notice_names():
    notice = (ROOT / "NOTICE").read_text()
    assert "operators.csv.gz" in notice
    assert set(published_operators()["published"]) == set(SOURCES)
    for source in SOURCES.values():
        assert source.licence in ("Apache-2.0", "MIT", "BSD-3-Clause")
        assert re.search(r"@(\w+)", source.citation)[1] in notice


def test_each_has_what_its_operation_reads_and_a_time():
    frame = published_operators()
    assert tuple(frame) == COLUMNS
    assert (frame["latency_us"] > 0).all()
    for operation, rows in frame.groupby("operation"):
        needed = [name for name in FORMS[operation].sizes if name in SIZES]
        assert rows[needed].notna().all(axis=None), operation


def test_figures_are_those_of_the_tables():
    if not DATA.exists():
        pytest.skip("the published tables are not here")
    frame = published_operators()
    tables = {"attention": ["attention_prefill", "attention_decode"], "moe": ["moe_ffn"], "all_reduce": ["allreduce"]}
    for operation, names in tables.items():
        given = [time for name in names for time in pd.read_csv(DATA / f"{name}.csv")["latency_us"]]
        assert frame.loc[frame["operation"] == operation, "latency_us"].tolist() == given
    layers = pd.read_csv(DATA / "layer_ops.csv")
    linears = frame[frame["operation"] == "linear"]
    assert sorted(linears["latency_us"]) == sorted(layers.loc[layers["op"].str.endswith("proj"), "latency_us"])
    down = layers[(layers["op"] == "down_proj") & (layers["model"] == "Llama-2-7B") & (layers["tp"] == 1)]
    ours = linears[(linears["of"] == "down") & (linears["n"] == 4096) & (linears["k"] == 11008)]
    assert sorted(ours["latency_us"]) == sorted(down["latency_us"])


def test_predictions_beside_them_are_those_of_predict(capsys, tmp_path):
    shown = pd.read_csv(io.StringIO(out_of(capsys, "measure", "--replay", NAME, "--format", "csv")))
    assert len(shown) == len(published_operators())
    assert set(shown["source"]) == {"published"}
    assert shown.loc[shown["target"] == "rtx-pro-6000", "predicted_us"].isna().all()
    one = shown[(shown["operation"] == "attention") & (shown["target"] == "h100-sxm")].iloc[[0]]
    one[["operation", "phase", "batch", "q_tokens", "kv_tokens", "heads", "kv_heads", "head_dim", "window", "dtype",
         "kernel"]].to_csv(tmp_path / "one.csv", index=False)  # fmt: skip
    alone = predict_operators(read_operators(tmp_path / "one.csv"), ["h100-sxm"], "fp16")
    assert alone["latency_us"].tolist() == pytest.approx(one["predicted_us"].tolist(), rel=1e-12)


def test_both_tables_are_listed_shown_and_replayed_whole(capsys):
    listed = out_of(capsys, "ls", "records")
    shown = out_of(capsys, "show", NAME) + out_of(capsys, "show", "whole-models")
    for source in SOURCES.values():
        assert source.said in shown
    assert re.search(rf"^{NAME} .*{len(published_operators()):,} times", listed, re.MULTILINE)
    assert re.search(rf"^whole-models .*{len(published_models()):,} times", listed, re.MULTILINE)
    assert "h100-sxm predicts attention decode: median error" in shown
    rows = pd.read_csv(io.StringIO(out_of(capsys, "measure", "--replay", "whole-models", "--format", "csv")))
    assert rows["decode_ms_per_token"].tolist() == pytest.approx(
        published_models()["decode_ms_per_token"].tolist(), nan_ok=True
    )


@pytest.mark.parametrize("name", [NAME, "whole-models"])
def test_a_table_is_empty_where_a_row_lacks_a_value(capsys, name):
    """Every value ends below the end of its heading, and the cells are those of the .csv."""
    heading, *lines = out_of(capsys, "measure", "--replay", name).splitlines()
    ends = [found.end() for found in re.finditer(r"\S+", heading)]
    rows = pd.read_csv(
        io.StringIO(out_of(capsys, "measure", "--replay", name, "--format", "csv")), dtype=str, keep_default_na=False
    )[heading.split()]
    assert len(lines) == len(rows)
    assert (rows == "").any(axis=None)
    for line, row in zip(lines, rows.to_numpy().tolist(), strict=True):
        cells = [line[begin:end].strip() for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
        assert [cell == "" for cell in cells] == [value == "" for value in row]


def test_a_choice_beside_a_whole_table_is_told(capsys):
    for choice in (("--dtype", "fp16"), ("--l2", "warm"), ("--tokens", "1")):
        assert f"--replay of {NAME} prints all of it" in refused(capsys, "--replay", NAME, *choice)
