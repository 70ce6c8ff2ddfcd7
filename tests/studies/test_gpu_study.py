"""GPUs in study files: what they may say, rows without masks, published and measured figures beside predictions."""

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest

from measurement.records import write_record
from simulator.gpu import GPUS, load_gpu, predict, spmm_published
from simulator.gpu.layers import open_gpu
from simulator.gpu.published import GEMMS
from simulator.simulate import rows_on
from studies.cli.ls_verb import ls
from studies.cli.report_verb import report
from studies.cli.show_verb import show
from studies.masks import generated, in_memory
from studies.published import published_rows, short_name, spmm_table
from studies.report import notes_for, read_rows
from studies.running.study_run import StudyRun, run_study
from studies.shapes import shapes_source
from studies.study import read_study
from tests.measurement.test_records import example
from workloads.conditions import Conditions
from workloads.errors import NotForThisModel, UserError
from workloads.operations import linears_in_memory
from workloads.rows import to_frame

STUDY = """
title = "Tiny"
[[models]]
name = "tiny"
shapes = "{config}"
[[methods]]
method = "generated"
pattern = "2:4"
[[accelerators]]
name = "a100-pcie"
tokens = [1, 16, 64]
"""


def config(folder: Path, ffn: int = 96) -> Path:
    path = folder / "config.json"
    values = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": ffn,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 32,
    }  # fmt: skip
    path.write_text(json.dumps(values))
    return path


@pytest.fixture
def study_file(tmp_path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(STUDY.format(config=config(tmp_path)))
    return path


def run(study_file: Path, out: Path) -> pd.DataFrame:
    rows, _ = StudyRun(read_study(study_file), out).run()
    assert rows is not None
    return rows


def test_a_gpu_alone_needs_no_masks_and_writes_none(study_file, tmp_path):
    rows = run(study_file, tmp_path / "out")
    assert len(rows) == 2 * 7 * 3
    assert not (tmp_path / "out" / "masks").exists()
    assert set(rows["mask_sha256"]) == {""}
    assert set(rows["kernel"]) == {"sparse24"}
    assert rows["cycles"].isna().all()
    assert set(rows["sparsity"]) == {0.5}
    found = predict(load_gpu("a100-pcie"), 16, 96, 64, "fp16")
    gate = rows[(rows["role"] == "gate") & (rows["tokens"] == 16)]
    assert set(gate["latency_us"]) == {found.sparse24.time_us[0]}
    assert set(gate["dense_latency_us"]) == {found.dense.time_us[0]}


def test_rows_without_masks_are_those_with_generated_ones(tmp_path):
    path = str(config(tmp_path))
    target = open_gpu("h200", [], "fp16")
    made = generated(path, "2:4", 0.5, 0, {})
    header, masks = made.header, made.masks
    with_masks = to_frame(rows_on([target], header, linears_in_memory(in_memory(header, masks)), Conditions(64)))
    source = shapes_source(path, 0)
    without = to_frame(rows_on([target], source.header, source.operations, Conditions(64)))
    assert (with_masks["mask_sha256"] != "").all()
    pd.testing.assert_frame_equal(without, with_masks.assign(mask_sha256=""))


def test_a_model_that_24_does_not_fit_is_left_out(tmp_path):
    with pytest.raises(NotForThisModel, match="divisible by 4"):
        shapes_source(str(config(tmp_path, ffn=98)), 0)


def test_masks_are_made_where_an_accelerator_reads_them_or_the_pattern_is_another(study_file, tmp_path):
    text = study_file.read_text()
    study_file.write_text(text + '[[accelerators]]\nname = "vitcod"\ntokens = [16]\n')
    rows = run(study_file, tmp_path / "both")
    assert (rows["mask_sha256"] != "").all()
    assert set(rows["target"]) == {"a100-pcie", "vitcod"}
    study_file.write_text(text.replace('pattern = "2:4"', 'pattern = "1:4"'))
    other = run(study_file, tmp_path / "other")
    assert (other["mask_sha256"] != "").all()
    assert set(other["kernel"]) == {"sparse24"}  # 1:4 is 2:4 too
    study_file.write_text(text.replace('pattern = "2:4"', 'pattern = "unstructured"\nsparsity = 0.5'))
    dense = run(study_file, tmp_path / "dense")
    assert set(dense["kernel"]) == {"dense"}
    assert set(dense["speedup"]) == {1.0}


def test_one_bundle_on_an_accelerator_and_a_gpu_is_one_table(study_file, tmp_path):
    study_file.write_text(study_file.read_text() + '[[accelerators]]\nname = "vitcod"\ntokens = [16]\n')
    files = run_study(read_study(study_file), tmp_path / "out")
    page = files["report.html"].read_text()
    headline = page[page.index('id="whole-model"') : page.index('id="how-these-numbers-were-got"')]
    assert ">vitcod<" in headline
    assert ">a100-pcie<" in headline
    assert "Latency (" in headline
    assert "Dense latency (" in headline
    assert "Each target is held against its own dense run" in page


def test_types_are_steps_of_their_own(study_file, tmp_path):
    out = tmp_path / "out"
    study_file.write_text(
        study_file.read_text() + '[[accelerators]]\nname = "a100-pcie"\ntokens = [16]\ndtype = "int8"\n'
    )
    rows = run(study_file, out)
    assert set(rows["settings"]) == {"dtype=fp16", "dtype=int8"}
    assert len(list((out / "steps").glob("*.csv"))) == 4
    before = {f: f.stat().st_mtime_ns for f in (out / "steps").iterdir()}
    pd.testing.assert_frame_equal(run(study_file, out), rows)
    assert {f: f.stat().st_mtime_ns for f in (out / "steps").iterdir()} == before
    study_file.write_text(study_file.read_text().replace('"int8"', '"bf16"'))
    assert set(run(study_file, out)["settings"]) == {"dtype=fp16", "dtype=bf16"}


def test_an_accelerator_may_be_for_some_models_alone(study_file, tmp_path):
    (tmp_path / "other").mkdir()
    other = config(tmp_path / "other")
    text = study_file.read_text().replace(
        "[[methods]]", f'[[models]]\nname = "second"\nshapes = "{other}"\n[[methods]]'
    )
    study_file.write_text(text + 'models = ["second"]\n[[accelerators]]\nname = "h200"\n')
    rows = run(study_file, tmp_path / "out")
    assert set(zip(rows["model"], rows["target"], strict=True)) == {
        ("second", "a100-pcie"), ("second", "h200"), ("tiny", "h200"),
    }  # fmt: skip
    study_file.write_text(text + 'models = ["secnd"]\n')
    with pytest.raises(UserError, match="did you mean 'second'"):
        read_study(study_file)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('trace = "q"', "`trace`"), ('sweep = { "power.limitw" = [250, 300] }', "power.limitw"),
        ("activation_density = 0.5", "`activation_density`"), ('dtype = "fp8"', "no fp8"), ('dtype = "fp17"', "fp17"),
        ("set = { chip = { smz = 1 } }", "chip.smz"), ('tokens = [0]', "not 0"), ("tokens = [99999999]", "99999999"),
        ('published = "yes"', "published"),
        ("[[accelerators]]\nname = 'vitcod'\ndtype = 'fp16'", "`dtype` is for GPUs"),
        ("[[accelerators]]\nname = 'vitcod'\npublished = true", "`published` is for GPUs"),
        ("[[accelerators]]\nname = 'a100-pcix'", "did you mean 'a100-pcie'"),
        ("[[measured]]\nrecord = 'none.csv'", "no such record"),
        ("[[measured]]\nrecord = 'whole-model'", "unknown record 'whole-model'; did you mean 'whole-models'"),
        ("[[measured]]\nrecord = 'a100-pcie'", "did you mean 'slidesparse-a100-pcie'"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_nothing_runs(study_file, tmp_path, more, said):
    text = study_file.read_text()
    study_file.write_text(
        (text.replace("tokens = [1, 16, 64]\n", "") if more.startswith("tokens") else text) + more + "\n"
    )
    with pytest.raises(UserError) as error:
        run_study(read_study(study_file), tmp_path / "out")
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def predicted(gpu: str, tokens: int, shape: tuple[int, int], dtype: str = "fp16", **others) -> dict:
    return {
        "model": "m", "method": "generated", "pattern": "2:4", "target_sparsity": 0.5, "layer": "l", "block": 0,
        "role": "q",
        "out_features": shape[0], "in_features": shape[1], "nnz": shape[0] * shape[1] // 2, "sparsity": 0.5,
        "target": gpu,
        "settings": f"dtype={dtype}", "level": "kernel", "source": "predicted", "kernel": "sparse24", "tokens": tokens,
        "activation_density": 1.0, "latency_us": 50.0, "dense_latency_us": 100.0, "speedup": 2.0, "seed": 3, **others,
    }  # fmt: skip


def test_published_rows_are_of_the_same_gemm_with_the_publications_own_figures():
    # Table 7 of SparseGPT: Q/K/V/Out 2.84 ms dense, 1.59 ms 2:4. Wanda: 1.63x for attention's matrices, no times.
    rows = published_rows(to_frame([predicted("a100-sxm", 2048, (12288, 12288), role="v"),
                                    predicted("a100-sxm", 2048, (8192, 8192), layer="w")]))  # fmt: skip
    assert rows["latency_us"].tolist()[0] == 1590
    assert rows["dense_latency_us"].tolist()[0] == 2840
    assert rows["speedup"].tolist() == [pytest.approx(2840 / 1590), 1.63]
    assert rows["latency_us"].isna().tolist() == [False, True]
    assert set(rows["source"]) == {"published"}
    assert rows["settings"].tolist() == ["dtype=fp16 published=SparseGPT", "dtype=fp16 published=Wanda"]
    assert (rows["role"][0], rows["model"][0], rows["seed"][0]) == ("v", "m", 3)
    assert rows["mapping"][1].endswith("card and tokens not given")
    assert "2301.00774" in rows["mapping"][0]
    assert rows["latency_error_p90"].isna().all()


@pytest.mark.parametrize(
    "other",
    [
        {"gpu": "a100-pcie"}, {"tokens": 1024}, {"shape": (12288, 8192)}, {"dtype": "bf16"}, {"kernel": "dense"},
        {"source": "measured"},
    ],
)  # fmt: skip
def test_nothing_is_published_of_another_gemm(other):
    facts = {"gpu": "a100-sxm", "tokens": 2048, "shape": (12288, 12288), **other}
    assert published_rows(to_frame([predicted(**facts)])).empty


def test_every_publication_has_a_name_of_its_own_and_every_gemm_a_row():
    names = {short_name(gemm.source) for gemm in GEMMS}
    assert len(names) == len({gemm.source for gemm in GEMMS})
    assert all(names)
    for gemm in GEMMS:
        rows = published_rows(to_frame([predicted(gemm.gpu, gemm.m, (gemm.n, gemm.k), gemm.dtype)]))
        assert len(rows) >= 1


def test_published_figures_stand_beside_predictions_in_the_report(tmp_path):
    path = tmp_path / "opt.toml"
    text = STUDY.format(config="opt-175b").replace("[1, 16, 64]", "[2048]").replace("a100-pcie", "a100-sxm")
    path.write_text(text + "published = true\n")
    files = run_study(read_study(path), tmp_path / "out")
    rows = read_rows(files["rows.csv"])
    assert rows["source"].value_counts().to_dict() == {"predicted": 576, "published": 576}
    table = pd.read_csv(files["sources.csv"])
    assert table["given@dense_us"].tolist() == [2840, 10260, 10230]
    ours = predict(load_gpu("a100-sxm"), 2048, 49152, 12288, "fp16")
    assert table["predicted@dense_us"][1] == pytest.approx(ours.dense.time_us[0])
    assert table["error (%)@dense_error"][1] == pytest.approx(ours.dense.time_us[0] / 10260 - 1)
    page = files["report.html"].read_text()
    assert "Masks: none needed" in page
    assert "form of the A100 is not given" in page
    # Whole model, published: 96 x (4 x 2.84 + 10.26 + 10.23) ms dense against 96 x (4 x 1.59 + 6.15 + 6.64) ms.
    assert "1.66x" in page


def test_a_study_says_where_nothing_is_published(study_file, tmp_path):
    study_file.write_text(study_file.read_text() + "published = true\n")
    files = run_study(read_study(study_file), tmp_path / "out")
    assert "Published: nothing of this study" in files["report.html"].read_text()
    assert "sources.csv" not in files


def test_records_are_rows_of_a_study(study_file, tmp_path):
    record = example()
    header = {**record.header, "environment": {**record.header["environment"], "gpu": "NVIDIA A100 80GB PCIe"}}
    write_record(tmp_path / "record.csv", dataclasses.replace(record, header=header))
    study_file.write_text(study_file.read_text() + '[[measured]]\nrecord = "record.csv"\nl2 = "warm"\n')
    rows = run(study_file, tmp_path / "out")
    measured = rows[rows["source"] == "measured"]
    assert len(measured) == 4 * 2 * 3 + 3
    assert set(measured["latency_us"].dropna()) == {5.0}
    files = run_study(read_study(study_file), tmp_path / "out")
    assert "measured on NVIDIA A100 80GB PCIe l2=warm" in files["report.html"].read_text()
    assert any(note.startswith("Measured: ") for note in notes_for(rows))
    study_file.write_text(study_file.read_text().replace('"warm"', '"hot"'))
    with pytest.raises(UserError, match="unknown `l2` 'hot'"):
        run_study(read_study(study_file), tmp_path / "other")


def test_unstructured_masks_get_the_published_range_and_never_a_speedup():
    loose = {"pattern": "unstructured", "kernel": "dense", "latency_us": 100.0, "speedup": 1.0, "target_sparsity": 0.7}
    rows = [predicted("a100-pcie", t, (10, 10), nnz=30, **loose) for t in (8, 32, 33)]
    rows += [predicted("a100-pcie", 8, (10, 10)), predicted("a100-pcie", 8, (10, 10), dtype="int8", nnz=30, **loose)]
    table = spmm_table(to_frame(rows))
    assert table is not None
    assert table["tokens"].tolist() == [8, 32]
    assert table["speedup"].tolist() == [1.0, 1.0]
    cost = spmm_published(8, 0.7)
    assert (table["published_low"][0], table["published_high"][0]) == (1 / cost.high, 1 / cost.low)
    # Flash-LLM's plot at 8 tokens, 70 % zeros: 18 against 12.5 and 21 against 13.7 TFLOPS.
    assert (table["published_low"][0], table["published_high"][0]) == (
        pytest.approx(18 / 12.5),
        pytest.approx(21 / 13.7),
    )
    assert spmm_table(to_frame(rows[2:4])) is None


def test_the_report_says_plainly_that_unstructured_masks_gain_nothing(study_file, tmp_path):
    study_file.write_text(study_file.read_text().replace('pattern = "2:4"', 'pattern = "unstructured"\nsparsity = 0.7'))
    files = run_study(read_study(study_file), tmp_path / "out")
    for name in ("report.html", "report.md"):
        text = files[name].read_text()
        assert "Unstructured masks on GPUs" in text
        assert "PyTorch has no kernel for unstructured masks that is faster" in text
        assert "Flash-LLM" in text


def test_notes_name_the_basis_of_every_stated_error():
    notes = notes_for(
        to_frame([predicted("h200", 1, (64, 64)), predicted("h200", 1, (64, 64), dtype="fp8", layer="b")])
    )
    assert sum(note.startswith("h200, fp16: ") for note in notes) == 1
    assert any(note.startswith("h200, fp8: ") and "no data of this card" in note for note in notes)
    assert any("Only masks that are 2:4 run faster" in note for note in notes)
    assert any(note.startswith("Masks: none needed") for note in notes)
    assert not any(
        "none needed" in note for note in notes_for(to_frame([predicted("h200", 1, (64, 64), mask_sha256="m")]))
    )


def test_report_reads_rows_of_simulate_on_a_gpu(study_file, tmp_path):
    rows = run(study_file, tmp_path / "out")
    rows.to_csv(tmp_path / "rows.csv", index=False)
    report(tmp_path / "rows.csv", out=tmp_path / "report")
    assert "a100-pcie, fp16: of ten predictions" in (tmp_path / "report" / "report.html").read_text()


def test_gpus_are_listed_and_described(capsys):
    ls("gpus")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(GPUS)
    assert "108 SMs at 1410 MHz" in lines[0]
    assert lines[0].endswith("fp16 bf16 int8")
    for name in GPUS:
        show(name)
        text = capsys.readouterr().out
        assert "What it leaves out" in text
        assert "bandwidth_gbps" in text
        assert "Only masks that are 2:4 run faster" in text
        assert f"prunesim simulate --on {name}" in text
