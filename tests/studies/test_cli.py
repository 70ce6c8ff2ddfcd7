"""The command line as a user meets it: what works, and what each mistake is answered with."""

import inspect
import io
import json
import re
import subprocess
import sys
import threading
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from studies.cli.main import VERBS, main, spread_sets
from studies.cli.verbs import function_of
from workloads import BundleHeader, BundleWriter, Layer, MaskBundle, PackedMask
from workloads.locking import writing


def run(*arguments: object) -> int:
    """Exit code of `prunesim arguments`."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def refused(capsys, *arguments: object) -> str:
    """The one line that a refused command leaves on stderr."""
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if line.startswith("prunesim: ")]
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    return lines[0]


@pytest.fixture
def small_bundle(tmp_path):
    folder = tmp_path / "bundle"
    writer = BundleWriter(folder, BundleHeader("m", "hand-made"))
    rng = np.random.default_rng(0)
    for block in range(2):
        for role in ("q", "down"):
            name = f"model.layers.{block}.{role}"
            writer.add(
                Layer(name, role, block, 64, 128), PackedMask.from_dense(rng.random((64, 128)) < 0.5), "unstructured"
            )
        writer.commit()
    writer.finish()
    return folder


def test_help_lists_every_verb_without_importing_them():
    code = (
        "import sys; from studies.cli.main import main; main(['--help']); print([m for m in ('numpy',"
        "'torch','cyclopts') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("[]")
    for verb in VERBS:
        assert f"  {verb}" in out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, capsys):
    assert run(verb, "--help") == 0
    assert f"prunesim {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_every_argument_and_option_is_explained(verb):
    module, name = function_of(verb)
    function = getattr(import_module(module), name)
    told = re.findall(r"^    (\w+)$", function.__doc__.partition("----------")[2], re.MULTILINE)
    parameters = inspect.signature(function).parameters.values()
    kinds = {each.name: get_args(each.annotation) for each in parameters}
    own = [name for name, marks in kinds.items() if not (marks and is_dataclass(marks[0]))]
    assert sorted(told) == sorted(own)
    for settings in (marks[0] for name, marks in kinds.items() if name not in own):
        assert all(each.metadata["help"] for each in fields(settings))


def test_importing_workloads_and_simulator_never_loads_torch():
    code = "import workloads, simulator, simulator.simulate, sys; workloads.MaskBundle; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_simulate_prints_rows_as_json(small_bundle, capsys):
    assert (
        run(
            "simulate",
            small_bundle,
            "--on",
            "vitcod-paper",
            "--set",
            "array.height=16",
            "array.width=8",
            "--format",
            "json",
        )
        == 0
    )
    rows = json.loads(capsys.readouterr().out)
    assert [row["layer"] for row in rows] == [entry.name for entry in MaskBundle.open(small_bundle).layers]
    assert {row["dense_cycles"] for row in rows} == {64 * 128 // (16 * 8)}
    for row in rows:
        assert row["speedup"] == row["dense_cycles"] / row["cycles"]
        assert row["cycles"] == row["compute_cycles"] + row["stall_cycles"]


def test_simulate_takes_a_mask_file_and_writes_csv(tmp_path, capsys):
    np.save(tmp_path / "mask.npy", np.eye(64, dtype=np.uint8))
    assert (
        run(
            "simulate",
            "--mask",
            tmp_path / "mask.npy",
            "--on",
            "vitcod",
            "--tokens",
            3,
            "--format",
            "csv",
            "--out",
            tmp_path / "rows.csv",
        )
        == 0
    )
    frame = pd.read_csv(tmp_path / "rows.csv")
    assert frame.loc[0, "nnz"] == 64
    assert frame.loc[0, "tokens"] == 3
    assert capsys.readouterr().out == ""


def test_generate_then_check_then_report(tmp_path, capsys, tiny_model):
    assert run("generate", "--model", tiny_model, "--pattern", "2:4", "--seed", 3, "--out", tmp_path / "b") == 0
    assert run("check", tmp_path / "b") == 0
    assert "14 layers, sparsity 0.5000" in capsys.readouterr().out
    assert run("simulate", tmp_path / "b", "--on", "vitcod", "--format", "csv", "--out", tmp_path / "rows.csv") == 0
    assert run("report", tmp_path / "rows.csv", "--out", tmp_path / "report") == 0
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000


def test_generate_with_a_density_per_role(tmp_path, tiny_model):
    assert (
        run("generate", "--model", tiny_model, "--density", 0.5, "--role-density", "q=0.25", "--out", tmp_path / "b")
        == 0
    )
    bundle = MaskBundle.open(tmp_path / "b")
    assert {entry.role: entry.sparsity for entry in bundle.layers}["q"] == 0.75
    assert {entry.role: entry.sparsity for entry in bundle.layers}["k"] == 0.5


def test_prune_eval_and_saved_model_agree(tmp_path, capsys, tiny_model):
    common = ["--method", "wanda", "--sparsity", 0.5, "--calibration", tiny_model / "ids.npy", "--out", tmp_path / "b"]
    assert run("prune", tiny_model, *common, "--save-model", tmp_path / "saved") == 0
    capsys.readouterr()
    asked = ["--text", tiny_model / "evaluation.txt", "--seq-len", 64, "--format", "json"]
    values = []
    for model, masks in ((tiny_model, tmp_path / "b"), (tmp_path / "saved", None)):
        assert run("eval", model, *asked, *(["--masks", masks] if masks else [])) == 0
        values.append(json.loads(capsys.readouterr().out)[0]["perplexity"])
    assert values[0] == values[1]
    assert (
        MaskBundle.open(tmp_path / "b")["model.layers.0.self_attn.q_proj"].to_dense().sum(axis=1).tolist() == [16] * 32
    )


def test_import_of_a_saved_checkpoint_gives_the_same_masks(tmp_path, tiny_model):
    run(
        "prune",
        tiny_model,
        "--method",
        "magnitude",
        "--pattern",
        "2:4",
        "--out",
        tmp_path / "b",
        "--save-model",
        tmp_path / "s",
    )
    assert run("import", tmp_path / "s", "--out", tmp_path / "again") == 0
    first, second = MaskBundle.open(tmp_path / "b"), MaskBundle.open(tmp_path / "again")
    assert [e.sha256 for e in first.layers] == [e.sha256 for e in second.layers]


def test_import_of_changed_arrays_into_the_same_folder_is_refused(tmp_path, capsys):
    np.savez(tmp_path / "masks.npz", **{"model.layers.0.q_proj": np.eye(8)})
    assert run("import", tmp_path / "masks.npz", "--out", tmp_path / "b") == 0
    assert run("import", tmp_path / "masks.npz", "--out", tmp_path / "b") == 0
    np.savez(tmp_path / "masks.npz", **{"model.layers.0.q_proj": 1 - np.eye(8)})
    capsys.readouterr()
    assert "another bundle" in refused(capsys, "import", tmp_path / "masks.npz", "--out", tmp_path / "b")
    assert "no such" in refused(capsys, "import", tmp_path / "nothing", "--out", tmp_path / "c")


def test_dry_run_writes_nothing(tmp_path, capsys, tiny_model):
    assert (
        run(
            "prune",
            tiny_model,
            "--method",
            "wanda",
            "--sparsity",
            0.5,
            "--calibration",
            tiny_model / "ids.npy",
            "--out",
            tmp_path / "b",
            "--dry-run",
        )
        == 0
    )
    assert "estimated peak" in capsys.readouterr().out
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("kind", ["accelerators", "methods", "quantizers", "allocations", "models"])
def test_ls_and_show_cover_the_same_names(kind, capsys):
    assert run("ls", kind) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names
    for name in names:
        assert run("show", name) == 0


@pytest.mark.parametrize(
    ("array", "said"),
    [(np.zeros(4), "2-D"), (np.full((2, 2), 2), "0/1"), (np.full((2, 2), np.nan), "0/1"),
     (np.zeros((0, 4)), "empty"), (np.array([["a", "b"]]), "0/1")],
)  # fmt: skip
def test_bad_masks(tmp_path, capsys, array, said):
    np.save(tmp_path / "mask.npy", array)
    line = refused(capsys, "simulate", "--mask", tmp_path / "mask.npy", "--on", "vitcod-paper")
    assert said in line
    assert "mask.npy" in line


def test_masks_of_attention_want_a_machine_of_attention(tmp_path, capsys):
    np.save(tmp_path / "mask.npy", np.zeros((2, 2, 2)))
    line = refused(capsys, "simulate", "--mask", tmp_path / "mask.npy", "--on", "vitcod-paper")
    assert "needs a target of attention" in line


def test_bad_words(tmp_path, capsys, small_bundle, tiny_model):
    out = tmp_path / "out"
    base = ["prune", tiny_model, "--out", out]
    ids = ["--calibration", tiny_model / "ids.npy"]
    cases = [
        (["simulate", small_bundle, "--on", "vitcot"], "did you mean 'vitcod'"),
        (["simulate", small_bundle, "--on", "vitcod", "--set", "array.heigth=3"], "array.heigth"),
        (["simulate", small_bundle, "--on", "vitcod", "--tokens", 0], "tokens"),
        (["simulate", small_bundle, "--on", "vitcod-paper", "--tokens", 2], "--tokens 1"),
        (["simulate", small_bundle, "--on", "vitcod", "--format", "xml"], "xml"),
        (["simulate", "--on", "vitcod"], "exactly one"),
        (["simulate", tmp_path, "--on", "vitcod"], "not a mask bundle"),
        (["simulate", "--mask", tmp_path / "none.npy", "--on", "vitcod"], "none.npy"),
        (["simulate", small_bundle], "--on"),
        (["check", tmp_path / "nothing"], "no such folder"),
        ([*base, "--method", "wonda", "--sparsity", 0.5], "did you mean 'wanda'"),
        ([*base, "--method", "wanda", "--sparsity", 1, *ids], "[0, 1)"),
        ([*base, "--method", "wanda", "--sparsity", -0.1, *ids], "[0, 1)"),
        ([*base, "--method", "magnitude", "--sparsity", "nan"], "[0, 1)"),
        ([*base, "--method", "wanda", "--sparsity", "half", *ids], "half"),
        ([*base, "--method", "wanda", "--sparsity", 0.5], "--calibration"),
        ([*base, "--method", "wanda", "--sparsity", 0.5, *ids, "--samples", 7], "7"),
        ([*base, "--method", "wanda", "--sparsity", 0.5, *ids, "--rule", "global"], "global"),
        ([*base, "--method", "wanda", "--sparsity", 0.5, *ids, "--set", "alpha=1"], "alpha"),
        ([*base, "--method", "magnitude", "--sparsity", 0.5, "--set", "normalised=7"], "normalised"),
        ([*base, "--method", "magnitude", "--pattern", "3:7"], "q_proj"),
        ([*base, "--method", "magnitude", "--pattern", "4:2"], "4:2"),
        ([*base, "--method", "magnitude", "--pattern", "2:4", "--sparsity", 0.6], "0.5"),
        ([*base, "--method", "magnitude"], "--sparsity"),
        (["prune", tmp_path, "--out", out, "--method", "magnitude", "--sparsity", 0.5], "config.json"),
        (["prune", tmp_path / "nowhere", "--out", out, "--method", "magnitude", "--sparsity", 0.5], "nowhere"),
        (["generate", "--model", "lama-7b", "--out", out], "llama-7b"),
        (["generate", "--model", tiny_model, "--role-density", "w=0.5", "--out", out], "unknown role"),
        (["generate", "--model", tiny_model, "--density", 1.5, "--out", out], "1.5"),
        (["generate", "--model", tiny_model, "--pattern", "3:7", "--out", out], "divisible"),
        (["generate", "--model", tiny_model, "--pattern", "blocky", "--out", out], "blocky"),
        (["eval", tiny_model, "--text", tmp_path / "no.txt", "--seq-len", 64], "no.txt"),
        (["eval", tiny_model, "--text", tiny_model / "evaluation.txt", "--seq-len", 65], "64"),
        (["ls", "planets"], "planets"),
        (["show", "nothing"], "nothing"),
        (["run", tmp_path / "no.toml"], "no.toml"),
        (["report", "--out", out], "at least one"),
        (["fly"], "fly"),
    ]
    for arguments, said in cases:
        assert said in refused(capsys, *arguments), arguments
        assert not out.exists(), arguments


def test_output_that_cannot_be_written(tmp_path, capsys, small_bundle, tiny_model):
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    assert "file" in refused(
        capsys, "simulate", small_bundle, "--on", "vitcod", "--format", "csv", "--out", blocker / "rows.csv"
    )
    assert "file" in refused(
        capsys, "prune", tiny_model, "--method", "magnitude", "--sparsity", 0.5, "--out", blocker / "b"
    )
    assert "file" in refused(capsys, "generate", "--model", tiny_model, "--out", blocker)
    assert blocker.read_text() == "in the way"


def test_a_finished_bundle_of_other_settings_is_not_overwritten(tmp_path, capsys, tiny_model):
    assert run("prune", tiny_model, "--method", "magnitude", "--sparsity", 0.5, "--out", tmp_path / "b") == 0
    before = {file.name: file.read_bytes() for file in (tmp_path / "b").iterdir()}
    capsys.readouterr()
    assert "another bundle" in refused(
        capsys, "prune", tiny_model, "--method", "magnitude", "--sparsity", 0.6, "--out", tmp_path / "b"
    )
    assert before == {file.name: file.read_bytes() for file in (tmp_path / "b").iterdir()}
    assert run("prune", tiny_model, "--method", "magnitude", "--sparsity", 0.5, "--out", tmp_path / "b") == 0


def test_csv_on_stdout_reads_back(small_bundle, capsys):
    run("simulate", small_bundle, "--on", "vitcod", "--format", "csv")
    assert len(pd.read_csv(io.StringIO(capsys.readouterr().out))) == 4


def test_numbers_that_are_not_whole_or_too_large_are_refused(small_bundle, capsys):
    for value in ("1.5", "1e3", "two", 10**20, -3):
        assert "token" in refused(capsys, "simulate", small_bundle, "--on", "vitcod", "--tokens", value)
    assert "65536" in refused(capsys, "simulate", small_bundle, "--on", "vitcod", "--set", "array.width=100000000")


def test_a_billion_tokens_end(small_bundle, capsys):
    assert run("simulate", small_bundle, "--on", "vitcod", "--tokens", 10**9, "--format", "json") == 0
    assert all(row["cycles"] > 10**9 for row in json.loads(capsys.readouterr().out))


def test_devices_and_links_are_written_through_not_replaced(tmp_path, capsys, small_bundle):
    (tmp_path / "target.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "target.csv")
    assert run("simulate", small_bundle, "--on", "vitcod", "--format", "csv", "--out", tmp_path / "link.csv") == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert len(pd.read_csv(tmp_path / "target.csv")) == 4
    capsys.readouterr()
    assert "No space" in refused(
        capsys, "simulate", small_bundle, "--on", "vitcod", "--format", "csv", "--out", "/dev/full"
    )


def test_masks_are_not_scattered_into_other_folders(tmp_path, capsys, tiny_model):
    common = ["prune", tiny_model, "--method", "magnitude", "--sparsity", 0.5]
    assert "other files" in refused(capsys, *common, "--out", tiny_model)
    assert "folders of their own" in refused(capsys, *common, "--out", tmp_path / "x", "--save-model", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_rows_without_the_needed_columns_are_refused(tmp_path, capsys):
    (tmp_path / "rows.csv").write_text("model,layer,cycles\nm,a,3\n")
    assert "'method'" in refused(capsys, "report", tmp_path / "rows.csv", "--out", tmp_path / "r")


def test_set_takes_several_values():
    assert spread_sets(["--set", "a=1", "b=2", "x"]) == ["--set", "a=1", "--set", "b=2", "x"]
    assert spread_sets(["x", "--set", "a=1", "--on", "y=2"]) == ["x", "--set", "a=1", "--on", "y=2"]


def test_two_writers_do_not_share_a_folder(tmp_path, capsys, tiny_model):
    """A thread of its own holds the folders: to them it is another writer."""
    held, done = threading.Event(), threading.Event()

    def hold():
        with writing(tmp_path / "b"), writing(tmp_path / "m"), writing(tmp_path / "r"):
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    prune = ["prune", tiny_model, "--method", "magnitude", "--sparsity", 0.5]
    try:
        for arguments, folder in [
            ([*prune, "--out", tmp_path / "b"], "b"),
            ([*prune, "--out", tmp_path / "new", "--save-model", tmp_path / "m"], "m"),
            (["generate", "--model", tiny_model, "--out", tmp_path / "b"], "b"),
            (["import", tiny_model, "--allow-dense", "--out", tmp_path / "b"], "b"),
        ]:
            assert f"{tmp_path / folder} is being written by another" in refused(capsys, *arguments)
        assert not (tmp_path / "new").exists()
        assert [file.name for file in (tmp_path / "b").iterdir()] == [".prunesim-lock"]
    finally:
        done.set()
        thread.join()


def test_leftovers_of_killed_runs_do_not_stop_the_same_command(tmp_path, tiny_model):
    for folder in ("b", "m"):
        (tmp_path / folder).mkdir()
        for name in (".prunesim-probe", ".prunesim-lock", ".pruned-from.json.part", ".bundle.json.0123456789ab.part"):
            (tmp_path / folder / name).write_text("")
    arguments = ["prune", tiny_model, "--method", "magnitude", "--sparsity", 0.5, "--out", tmp_path / "b"]
    assert run(*arguments, "--save-model", tmp_path / "m") == 0
    assert run(*arguments, "--save-model", tmp_path / "m") == 0
