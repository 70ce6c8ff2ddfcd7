"""prunesim measure where there is no GPU, --replay, and the record as it grows."""

import io
import json

import numpy as np
import pandas as pd
import pytest
import torch

from measurement.kernels import CuSparseLt24, Int8
from measurement.measure import Procedure, measure
from measurement.records import read_record, write_record
from measurement.rows import RecordTarget
from studies import measure as glue
from studies.cli.main import main
from tests.measurement.stand_ins import FakeClock, FakeCuSparseLt, machine
from tests.measurement.test_records import example
from workloads import BundleHeader, BundleWriter, Layer, PackedMask
from workloads.errors import UserError
from workloads.rows import to_frame as result_frame

ENVIRONMENT = {"gpu": "Pretend GPU", "torch": "2.13.0", "cuda": "13.0", "cusparselt": 702}


def run(*arguments) -> int:
    try:
        main(["measure", *map(str, arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def refused(capsys, *arguments) -> str:
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("prunesim: ")
    return captured.err


@pytest.fixture
def record_file(tmp_path):
    path = tmp_path / "record.csv"
    write_record(path, example())
    return path


@pytest.mark.parametrize(
    "arguments",
    [("--model", "llama-2-7b"), ("--shapes", "16,64,64"), ("--model", "llama-2-7b", "--end-to-end", "block")],
)
def test_without_a_gpu_one_line_says_so(capsys, tmp_path, arguments):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    line = refused(capsys, *arguments, "--out", tmp_path / "out")
    assert "no CUDA GPU" in line
    assert "prunesim predict" in line
    assert "--replay" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--model", "llama-2-7b"), "--out"),
        (("--model", "llama-2-7b", "--out", "o", "--kernels", "int9"), "did you mean 'int8'"),
        (("--model", "llama-2-7b", "--out", "o", "--dtype", "fp64"), "fp16 or bf16"),
        (("--model", "llama-2-7b", "--out", "o", "--runs", "10"), "at least 50"),
        (("--model", "llama-2-7b", "--out", "o", "--l2", "hot"), "cold, warm"),
        (("--out", "o", "--end-to-end", "block"), "--model"),
        (("--model", "llama-2-7b", "--out", "o", "--end-to-end", "head"), "block, model"),
        (("--replay", "no.csv"), "no such record"),
        (("--replay", "operator"), "did you mean 'operators'"),
        (("--replay", "whole-model"), "did you mean 'whole-models'"),
        (("--replay", "h100"), "did you mean 'aiconfigurator-h100-sxm' or 'slidesparse-h100-pcie'"),
        (("--replay", "xyz"), "slidesparse-rtx-4090, operators, whole-models"),
        (("--replay", "no.csv", "--out", "o"), "--replay RECORD"),
        (("--model", "llama-2-7b", "--out", "o", "--format", "xml"), "json"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, word):
    assert word in refused(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((None, None, [], "2:4", "1"), "exactly one"),
        ((None, "llama-2-7b", ["1,2,3"], "2:4", "1"), "exactly one"),
        ((None, None, ["16,64"], "2:4", "1"), "three numbers"),
        ((None, None, ["16,64,0"], "2:4", "1"), "whole numbers"),
        ((None, None, ["16,64,x"], "2:4", "1"), "whole numbers"),
        ((None, "llama-2-7b", [], "4:8", "1"), "`pattern` '4:8'"),
        ((None, "llama-2-7b", [], "2:4", "1,,2"), "`tokens`"),
        ((None, "llama-2-7b", [], "2:4", "-1"), "`tokens`"),
        ((None, "lama-2-7b", [], "2:4", "1"), "llama-2-7b"),
    ],
)
def test_work_that_makes_no_sense(arguments, word):
    with pytest.raises(UserError, match=word):
        glue.open_job(*arguments)


def test_a_model_is_measured_once_for_every_distinct_shape():
    work = glue.open_job(None, "llama-2-7b", [], "2:4", "1,16")
    assert len(work.layers) == 32 * 7
    assert {(shape.out_features, shape.in_features) for shape, _ in work.shapes} == {
        (4096, 4096),
        (11008, 4096),
        (4096, 11008),
    }
    assert all(tokens == [1, 16] for _, tokens in work.shapes)


def test_shapes_bring_their_tokens():
    work = glue.open_job(None, None, ["8,64,32", "16,64,32", "8,32,32"], "2:4", "1")
    assert [(s.out_features, s.in_features, t) for s, t in work.shapes] == [(64, 32, [8, 16]), (32, 32, [8])]


def test_a_bundle_keeps_its_patterns(tmp_path):
    writer = BundleWriter(tmp_path / "b", BundleHeader("m", "wanda", pattern="2:4"))
    mask = np.tile([True, True, False, False], (64, 16))
    writer.add(Layer("a", "q", 0, 64, 64), PackedMask.from_dense(mask), "2:4")
    writer.add(
        Layer("b", "k", 0, 64, 64),
        PackedMask.from_dense(np.random.default_rng(0).random((64, 64)) < 0.5),
        "unstructured",
    )
    writer.finish()
    work = glue.open_job(tmp_path / "b", None, [], "2:4", "4")
    assert [(s.pattern, t) for s, t in work.shapes] == [("2:4", [4]), ("unstructured", [4])]
    record = extend(tmp_path, work, [CuSparseLt24(FakeCuSparseLt())])
    rows = result_frame(RecordTarget(record, "cold").every_row())
    assert rows.set_index(["layer", "kernel"])["feasible"].to_dict() == {
        ("a", "dense"): True, ("a", "cusparselt24"): True, ("b", "dense"): True, ("b", "cusparselt24"): False,
    }  # fmt: skip
    assert "no kernel faster" in rows["reason"].iloc[-1]
    assert (rows["mask_sha256"] != "").all()


def test_layers_left_dense_run_the_dense_kernel_in_a_configuration_of_their_run(tmp_path):
    writer = BundleWriter(tmp_path / "b", BundleHeader("m", "wanda", pattern="2:4"))
    mask = np.tile([True, True, False, False], (64, 16))
    writer.add(Layer("a", "q", 0, 64, 64), PackedMask.from_dense(mask), "2:4")
    writer.add(Layer("b", "k", 0, 64, 64), PackedMask.dense(64, 64), "dense")
    writer.finish()
    work = glue.open_job(tmp_path / "b", None, [], "2:4", "4")
    rows = result_frame(
        RecordTarget(extend(tmp_path, work, [CuSparseLt24(FakeCuSparseLt())]), "cold").every_row()
    ).set_index(["layer", "kernel"])
    assert set(rows["pattern"]) == {"2:4"}
    assert rows["layer_pattern"].to_dict() == {
        ("a", "dense"): "", ("a", "cusparselt24"): "", ("b", "dense"): "dense", ("b", "cusparselt24"): "dense",
    }  # fmt: skip
    left = rows.loc[("b", "cusparselt24")]
    assert left["feasible"]
    assert left["latency_us"] == rows.loc[("b", "dense"), "latency_us"] == left["dense_latency_us"]
    assert left["mapping"] == "left dense, the dense kernel"


def extend(folder, work, kernels, clock=None, environment=ENVIRONMENT):
    return glue.extend_record(
        folder / "record.csv", work, {}, environment,
        lambda done: measure(machine(clock), work.shapes, kernels, Procedure("fp16"), done),
    )  # fmt: skip


def test_an_interrupted_record_goes_on(tmp_path, capsys):
    work = glue.open_job(None, None, ["8,64,32", "16,64,32"], "2:4", "1")

    class Killed(FakeClock):
        def warm(self, call, runs):
            if self.timed["warm"] == 3:
                raise KeyboardInterrupt
            return super().warm(call, runs)

    with pytest.raises(KeyboardInterrupt):
        extend(tmp_path, work, [Int8()], Killed())
    assert len(read_record(tmp_path / "record.csv").frame) == 2
    clock = FakeClock()
    record = extend(tmp_path, work, [Int8()], clock)
    assert clock.timed["warm"] == 2
    assert len(record.frame) == 4
    nothing = FakeClock()
    assert len(extend(tmp_path, work, [Int8()], nothing).frame) == 4
    assert nothing.timed == {"cold": 0, "warm": 0}
    more = extend(tmp_path, glue.open_job(None, None, ["8,32,32"], "2:4", "1"), [Int8()])
    assert [layer["name"] for layer in more.header["layers"]] == ["64x32", "32x32"]
    assert len(read_record(tmp_path / "record.csv").frame) == 6


def test_another_gpu_does_not_write_into_a_record(tmp_path):
    work = glue.open_job(None, None, ["8,64,32"], "2:4", "1")
    extend(tmp_path, work, [Int8()])
    for key, value in (("gpu", "Other GPU"), ("torch", "2.14.0")):
        with pytest.raises(UserError, match=f"{key}.*another `out`"):
            extend(tmp_path, work, [Int8()], environment={**ENVIRONMENT, key: value})


def test_replay_gives_result_rows(record_file, capsys):
    assert run("--replay", record_file, "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    # 64x64 stands for four layers, at two token counts and three kernels; 40x64 for none: a row of its own a kernel
    assert len(rows) == 4 * 2 * 3 + 3
    assert {row["source"] for row in rows} == {"measured"}
    assert {row["target"] for row in rows} == {"Pretend GPU"}
    for row in rows:
        assert row["level"] == "kernel"
        assert row["cycles"] is None
        assert row["dense_latency_us"] == 10
        if row["feasible"]:
            assert row["speedup"] == row["dense_latency_us"] / row["latency_us"] == 1
        else:
            assert row["latency_us"] is None
            assert row["reason"]
    assert {row["layer"] for row in rows} == {*(f"model.layers.{b}.{r}" for b in (0, 1) for r in "qk"), "40x64"}
    assert {row["kernel"]: row["weight_bits"] for row in rows} == {"dense": 16, "int8": 8, "int8-24": 8}


def test_warm_and_cold_are_told_apart(record_file, capsys):
    assert run("--replay", record_file, "--format", "csv", "--l2", "warm") == 0
    frame = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert set(frame["latency_us"].dropna()) == {5.0}
    assert set(frame["settings"]) == {f"kernel={name} dtype=fp16 l2=warm" for name in ("dense", "int8", "int8-24")}


def test_a_damaged_record_is_one_line(record_file, capsys):
    record_file.write_text(record_file.read_text()[:-40])
    refused(capsys, "--replay", record_file)


def test_the_library_without_a_gpu_needs_no_gpu():
    import subprocess
    import sys

    code = (
        "import measurement.kernels, measurement.measure, measurement.blocks, measurement.environment, torch; "
        "print(torch.cuda.is_initialized())"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )
