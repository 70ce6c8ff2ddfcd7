"""[[phases]] of a study: rows of whole models as the verb gives them, found again, with perplexities and records."""

import json
from pathlib import Path

import pandas as pd
import pytest

import prunesim as ps
from reports.tables.serving import serving_table
from studies.end_to_end import whole_rows
from studies.running.study_run import StudyRun
from studies.study import read_study
from tests.studies.test_inference import CONFIG, bundle
from workloads.columns.inference import INFERENCE_COLUMNS, OPERATION_COLUMNS
from workloads.errors import UserError
from workloads.whole_models import WholeModels

ROOT = Path(__file__).parents[2]
STUDY = """
title = "Small"
[[models]]
name = "small"
shapes = "small.json"
[[methods]]
treat = ["2:4", "int4"]
[[methods]]
masks = "masks"
label = "ours"
[[phases]]
batch = [1, 8]
prompt = 64
generate = 2
[[phases]]
kind = "decode"
batch = [1, 8]
context = [32, 128]
[[accelerators]]
name = "h100-sxm"
"""


@pytest.fixture
def study_file(tmp_path) -> Path:
    (tmp_path / "small.json").write_text(json.dumps(CONFIG))
    bundle(tmp_path / "masks", "2:4")
    path = tmp_path / "small.toml"
    path.write_text(STUDY)
    return path


def changed(study_file: Path, old: str, new: str) -> Path:
    assert old in study_file.read_text()
    study_file.write_text(study_file.read_text().replace(old, new))
    return study_file


def made_at(out: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in (out / "steps").glob("whole*")}


def ran(study_file: Path, out: Path) -> WholeModels:
    """Without its report."""
    run = StudyRun(read_study(study_file), out)
    run.run()
    assert run.whole is not None
    return run.whole


def test_rows_are_the_verbs_and_are_found_again(study_file, tmp_path):
    out = tmp_path / "out"
    found = ran(study_file, out)
    rows = found.rows
    assert list(rows.columns) == [column.name for column in INFERENCE_COLUMNS]
    assert list(found.operations.columns) == [column.name for column in OPERATION_COLUMNS]
    assert list(rows["method"].drop_duplicates()) == ["dense", "2:4", "int4", "ours 2:4"]
    assert len(rows) == 4 * (2 + 4)
    whole = rows[rows["prefill_ms"].notna()].reset_index(drop=True)
    asked = {"on": "h100-sxm", "batch": [1, 8], "prompt": 64, "generate": 2}
    verb = ps.inference(tmp_path / "small.json", **asked, treat=["dense", "2:4", "int4"]).frame
    masked = ps.inference(tmp_path / "masks", **asked).frame
    expected = pd.concat([verb, masked], ignore_index=True)
    for name in ("prefill_ms", "decode_ms_per_token", "weight_gib", "largest_batch", "speedup"):
        assert list(whole[name]) == pytest.approx(list(expected[name]))
    before = made_at(out)
    ran(study_file, out)
    assert made_at(out) == before
    ran(changed(study_file, "context = [32, 128]", "context = [32, 64]"), out)
    now = made_at(out)
    assert {name for name in before if now[name] != before[name]} == set()
    assert all("decode" in name for name in now if name not in before)


def test_a_decode_step_alone_is_one_of_a_generation(study_file, tmp_path):
    """The step that sees 65 keys is the only one of a generation of two tokens behind 64."""
    rows = ran(changed(study_file, "context = [32, 128]", "context = 65"), tmp_path / "out").rows
    step = rows[rows["prefill_ms"].isna() & (rows["method"] == "dense")].set_index("batch")
    pair = ps.inference(tmp_path / "small.json", on="h100-sxm", batch=[1, 8], prompt=64, generate=2).frame
    assert list(step["decode_ms_per_token"]) == pytest.approx(list(pair["decode_ms_per_token"]))
    assert list(step["tokens_per_s"]) == pytest.approx([n / ms * 1e3 for n, ms in step["decode_ms_per_token"].items()])
    assert list(step["prompt"]) == [64, 64]
    assert list(step["kv_gib"]) == pytest.approx(list(pair["kv_gib"]))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "decode"', 'kind = "decod"', "phases.1: unknown kind 'decod'; did you mean 'decode'"),
        ("context = [32, 128]", "prompt = 32", "decode has no `prompt`; it takes context"),
        ("prompt = 64", "prompt = [64, 64]", "`prompt` has 64 twice"),
        ("prompt = 64", "prompt = 0", "phases.0: `prompt` 0: whole numbers from 1"),
        ("prompt = 64", "promt = 64", "did you mean 'prompt'"),
        ("prompt = 64", "prompt = 64\nhost = 'grph'", "`host` 'grph'"),
        ('"2:4", "int4"', '"2:4", "2:4"', "'2:4' is given twice"),
        ('"2:4", "int4"', '"2:5"', None),
        ('"int4"]', '"int4"]\nseed = 1', "treats whole models: leave `seed` out"),
        ('treat = ["2:4", "int4"]', 'treat = "int4"\nmethod = "wanda"', "needs either `method` or `masks`"),
        ('name = "h100-sxm"', 'name = "vitcod-attention"', "none of its [[accelerators]] runs"),
    ],
)
def test_mistakes_are_one_line(study_file, tmp_path, old, new, said):
    changed(study_file, old, new)
    if said is None:  # sound, but not for this model: the others go on
        run = StudyRun(read_study(study_file), tmp_path / "out")
        run.run()
        assert run.whole is not None
        assert run.left_out == ["small at 2:5: block 0: 2:5 does not divide the 256 inputs of q"]
        assert set(run.whole.rows["method"]) == {"dense", "ours 2:4"}
        return
    with pytest.raises(UserError) as error:
        StudyRun(read_study(study_file), tmp_path / "out").check()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_treatments_need_phases(study_file):
    start = study_file.read_text()
    study_file.write_text(start[: start.index("[[phases]]")] + '[[accelerators]]\nname = "h100-sxm"\n')
    with pytest.raises(UserError, match="say in \\[\\[phases\\]\\] what they run"):
        read_study(study_file)


def test_perplexities_stand_beside_whole_models(tiny_model, tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(f"""
title = "Tiny"
[[models]]
name = "tiny"
path = "{tiny_model}"
text = "{tiny_model}/evaluation.txt"
eval_seq_len = 64
[[methods]]
method = "magnitude"
targets = [0.5, "2:4"]
[[phases]]
batch = 2
prompt = 16
generate = 4
[[accelerators]]
name = "a100-sxm"
""")
    run = StudyRun(read_study(path), tmp_path / "out")
    _, quality = run.run()
    assert quality is not None
    assert run.whole is not None
    table = serving_table(run.whole).set_index("method")
    assert list(table.index) == ["dense", "magnitude 50 %", "magnitude 2:4"]
    assert list(table["perplexity"]) == list(quality["perplexity"])
    assert set(table["dense_perplexity"]) == {table.loc["dense", "perplexity"]}


def record(folder: Path, **values) -> Path:
    facts = {"what": "model", "batch": 4, "seq": 64, "dtype": "fp16", "roles": [], "feasible": True, "reason": ""}
    times = {"eager_us": 4000.0, "graph_us": 2000.0}
    rows = [
        {**facts, "phase": "prefill", "kernel": "dense", **times},
        {**facts, "phase": "decode", "kernel": "dense", **times},
        {**facts, "phase": "decode", "kernel": "cutlass24", "eager_us": 4000.0, "graph_us": 1000.0,
         "eager_speedup": 1.0, "graph_speedup": 2.0},
        {**facts, "phase": "prefill", "kernel": "cusparselt24", "feasible": False, "reason": "no library"},
    ]  # fmt: skip
    content = {
        "format": "prunesim-end-to-end", "version": 1, "model": "small", "rows": rows,
        "environment": {"gpu": "NVIDIA Test", "prunesim": "0.0"}, **values,
    }  # fmt: skip
    path = folder / "end-to-end.json"
    path.write_text(json.dumps(content))
    return path


def test_measured_whole_models_stand_in_the_same_table(study_file, tmp_path):
    record(tmp_path)
    changed(study_file, 'treat = ["2:4", "int4"]\n[[methods]]\n', "")
    study_file.write_text(study_file.read_text() + '[[measured]]\nrecord = "end-to-end.json"\n')
    rows = ran(study_file, tmp_path / "out").rows
    measured = rows[rows["source"] == "measured"]
    assert len(measured) == 8
    sparse = measured[(measured["method"] == "2:4 (cutlass24)") & (measured["host"] == "graph")].iloc[0]
    assert (sparse["decode_ms_per_token"], sparse["tokens_per_s"], sparse["speedup"]) == (1.0, 4000.0, 2.0)
    assert set(measured.loc[~measured["feasible"], "reason"]) == {"no library"}
    assert set(measured["target"]) == {"NVIDIA Test"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"format": "other"}, "is no record of `measure`"),
        ({"rows": [{"what": "block"}]}, "single blocks alone"),
        ({"rows": [{"what": "model"}]}, "it lacks 'kernel'"),
    ],
)
def test_what_is_no_record_of_models_is_refused(tmp_path, values, said):
    with pytest.raises(UserError, match=said):
        whole_rows(record(tmp_path, **values))


def test_the_example_in_short(tmp_path):
    """examples/llama-3-8b-serving.toml with the ends of its lists, on one of its targets."""
    text = (ROOT / "examples" / "llama-3-8b-serving.toml").read_text()
    read_study(ROOT / "examples" / "llama-3-8b-serving.toml")
    short = text.replace("[1, 2, 4, 8, 16, 32, 64]", "[32]").replace("[1, 4, 16, 64]", "[64]")
    short = short.replace("[1024, 4096, 16384, 65536]", "[16384]").replace("generate = 256", "generate = 2")
    head, *targets = short.split("[[accelerators]]")
    path = tmp_path / "short.toml"
    path.write_text("[[accelerators]]".join([head, *targets[:1]]))
    rows = ran(path, tmp_path / "out").rows
    methods = ["dense", "2:4", "int8", "int4", "int4+2:4", "structured-25"]
    assert list(rows["method"].drop_duplicates()) == methods
    assert rows["feasible"].all()
    assert (rows.loc[rows["method"] == "dense", "speedup"] == 1).all()
