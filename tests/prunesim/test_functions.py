"""The library and the command line are two doors to the same rows."""

import io
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import prunesim as ps
from studies.cli.main import main
from workloads.csv_text import csv_text


def command(capsys, *arguments: object) -> str:
    """What `prunesim arguments --format csv` prints."""
    capsys.readouterr()
    with suppress(SystemExit):
        main([*map(str, arguments), "--format", "csv"])
    return capsys.readouterr().out


@pytest.fixture
def bundle(tmp_path) -> ps.MaskBundle:
    writer = ps.BundleWriter(tmp_path / "bundle", ps.BundleHeader("m", "hand-made"))
    rng = np.random.default_rng(0)
    for block in range(2):
        for role in ("q", "down"):
            layer = ps.Layer(f"model.layers.{block}.{role}", role, block, 64, 128)
            writer.add(layer, ps.PackedMask.from_dense(rng.random((64, 128)) < 0.5), "unstructured")
        writer.commit()
    return writer.finish()


def test_simulate_gives_the_rows_of_the_command(bundle, capsys):
    rows = ps.simulate(bundle, on="vitcod", tokens=32, set={"array.height": 16, "dram": {"device": "HBM2"}})
    printed = command(
        capsys,
        "simulate",
        bundle.folder,
        "--on",
        "vitcod",
        "--tokens",
        32,
        "--set",
        "array.height=16",
        'dram.device="HBM2"',
    )
    assert csv_text(rows.frame) == printed


def test_a_sweep_is_a_mapping_of_values(bundle, capsys):
    rows = ps.simulate(bundle.folder, on="vitcod", sweep={"array.height": [16, 32]})
    assert csv_text(rows.frame) == command(
        capsys, "simulate", bundle.folder, "--on", "vitcod", "--sweep", "array.height=16,32"
    )
    assert len(rows.totals) == 2
    with pytest.raises(ps.UserError, match="2 configurations"):
        rows.speedup  # noqa: B018


def test_a_sweep_may_be_a_range(bundle):
    swept = ps.simulate(bundle, on="vitcod", sweep={"array": {"height": "16:64:x2"}, "clock.mhz": [400, 500]})
    assert swept.frame["settings"].unique().tolist() == [
        f"array.height={height} clock.mhz={mhz}" for height in (16, 32, 64) for mhz in (400, 500)
    ]


def test_numpy_values_and_paths_are_taken(bundle, tmp_path):
    (tmp_path / "small.toml").write_text('base = "vitcod"\n')
    on = tmp_path / "small.toml"
    numpy = ps.simulate(
        bundle,
        on=on,
        tokens=np.int64(8),
        set={"clock.mhz": np.float64(400)},
        sweep={"array.height": np.array([16, 32])},
    )
    plain = ps.simulate(bundle, on=str(on), tokens=8, set={"clock.mhz": 400.0}, sweep={"array.height": [16, 32]})
    assert csv_text(numpy.frame) == csv_text(plain.frame)


@pytest.mark.parametrize("damage", [lambda text: text[:-40], lambda text: text + b"x", lambda text: b"x" * len(text)])
def test_a_damaged_shard_is_refused_where_statistics_are_kept(bundle, damage):
    ps.simulate(bundle.folder, on="vitcod")  # which needs no mask again
    shard = next(bundle.folder.glob("masks-*.safetensors"))
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(ps.UserError, match=f"{shard.name} cannot be read .*; make the bundle again"):
        ps.simulate(bundle.folder, on="vitcod")


def test_several_machines_in_one_go(bundle, capsys):
    on = ["vitcod", "h100-sxm", "sparten"]
    rows = ps.simulate(bundle, on=on, tokens=64, dtype="int8")
    asked = [word for name in on for word in ("--on", name)]
    assert csv_text(rows.frame) == command(capsys, "simulate", bundle.folder, *asked, "--tokens", 64, "--dtype", "int8")
    alone = [ps.simulate(bundle, on=name, tokens=64, dtype="int8" if name == "h100-sxm" else "").frame for name in on]
    for name, frame in zip(on, alone, strict=True):
        own = rows.frame[rows.frame["target"] == frame["target"][0]]
        assert own["speedup"].tolist() == frame["speedup"].tolist(), name
    with pytest.raises(ps.UserError, match="`dtype` is for GPUs"):
        ps.simulate(bundle, on=["vitcod", "sparten"], dtype="int8")
    with pytest.raises(ps.UserError, match="say what to run `on`"):
        ps.simulate(bundle, on=[])


def test_a_design_is_put_together_in_python(bundle, tmp_path):
    from prunesim.machines import Array, Ddr4, Vitcod

    made = ps.simulate(bundle, on=Vitcod(array=Array(16, 16), dram=Ddr4(channels=2)), tokens=64, set={"clock.mhz": 400})
    (tmp_path / "mine.toml").write_text(
        'base = "vitcod"\n[array]\nwidth = 16\nheight = 16\n[dram]\ndevice = "DDR4-3200"\nchannels = 2\n'
        "[clock]\nmhz = 400\n"
    )
    read = ps.simulate(bundle, on=f"{tmp_path}/mine.toml", tokens=64)
    assert made.frame["cycles"].tolist() == read.frame["cycles"].tolist()
    assert set(made.frame["target"]) == {"vitcod"}
    assert set(read.frame["target"]) == {"mine"}


def test_gpus_take_a_dtype(bundle, capsys):
    rows = ps.simulate(str(bundle.folder), on="h100-sxm", tokens=64, dtype="int8")
    printed = command(capsys, "simulate", bundle.folder, "--on", "h100-sxm", "--tokens", 64, "--dtype", "int8")
    assert csv_text(rows.frame) == printed


@pytest.fixture
def config(tmp_path) -> Path:
    """Of a LLaMA with 2 small blocks."""
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 128,
    }
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **sizes}))
    return tmp_path / "config.json"


def test_masks_are_generated_for_a_model(config, capsys):
    rows = ps.simulate(model=config, pattern="2:4", on="stc", seed=3)
    printed = command(capsys, "simulate", "--model", config, "--pattern", "2:4", "--on", "stc", "--seed", 3)
    assert csv_text(rows.frame) == printed
    assert len(rows) == 14


def test_the_speedup_is_of_all_layers_together(bundle):
    rows = ps.simulate(bundle, on="vitcod", tokens=64)
    frame = rows.frame
    assert rows.speedup == frame["dense_cycles"].sum() / frame["cycles"].sum()
    assert len(rows) == 4
    assert len(rows + ps.simulate(bundle, on="sparten", tokens=64)) == 8


def test_results_show_themselves(bundle):
    rows = ps.simulate(bundle, on="vitcod", tokens=2048)
    first, *table = repr(rows).splitlines()
    assert first == f"4 rows on vitcod, 2,048 tokens, speedup {rows.speedup:.3g} of all layers together"
    assert len(table) == 5
    assert "speedup" in table[0]
    assert "<table" in rows._repr_html_()
    assert "model.layers.0.q" in rows._repr_html_()


def test_what_a_frame_holds_cannot_run_script(bundle):
    rows = ps.simulate(bundle, on="vitcod")
    named = ps.Rows(rows.frame.assign(layer=[f"<script>{n}" for n in range(4)], target="<b>"), rows.shown)
    assert "<script>" not in named._repr_html_()
    assert "<b>" not in named._repr_html_()


def test_rows_that_do_not_add_up_show_themselves_too(bundle):
    rows = ps.simulate(bundle, on="vitcod")
    assert repr(rows + rows).startswith("8 rows\n")
    with pytest.raises(ps.UserError, match="more than one row"):
        (rows + rows).totals  # noqa: B018


def test_predict_takes_sizes_or_a_frame(tmp_path, capsys):
    sizes = [(2048, 4096, 4096), (16, 4096, 11008)]
    by_sizes = ps.predict(sizes, on="h100-sxm", dtype="fp16")
    frame = pd.DataFrame(sizes, columns=["m", "n", "k"])
    assert csv_text(ps.predict(frame, on="h100-sxm").frame) == csv_text(by_sizes.frame)
    shapes = [word for size in sizes for word in ("--shapes", ",".join(map(str, size)))]
    assert command(capsys, "predict", "--on", "h100-sxm", *shapes) == csv_text(by_sizes.frame)
    assert list(by_sizes.speedup) == list(by_sizes.frame["speedup"])
    with pytest.raises(ps.UserError, match="lacks the column 'k'"):
        ps.predict(frame[["m", "n"]], on="h100-sxm")


def test_rows_are_saved_loaded_and_reported(bundle, tmp_path):
    rows = ps.simulate(bundle, on="vitcod", tokens=64)
    saved = ps.load(rows.save(tmp_path / "rows.csv"))
    assert csv_text(saved.frame) == csv_text(rows.frame)
    report = ps.report(rows, out=tmp_path / "report", title="Mine")
    assert "Mine" in report.page.read_text()
    assert csv_text(report.rows.frame) == csv_text(rows.frame)
    assert pd.read_csv(io.StringIO(report.files["whole-model.csv"].read_text()))["speedup"][0] == pytest.approx(
        rows.speedup
    )


def test_load_opens_bundles(bundle):
    assert ps.load(bundle.folder).sha256 == bundle.sha256


def test_errors_name_settings_not_flags(bundle):
    with pytest.raises(ps.UserError, match="did you mean 'vitcod'"):
        ps.simulate(bundle, on="vitcodd")
    with pytest.raises(ps.UserError) as refused:
        ps.report(out="nowhere")
    assert "--" not in str(refused.value)


def test_pruning_and_a_study(tiny_model, config, tmp_path):
    masks = ps.prune(tiny_model, method="magnitude", sparsity=0.5, out=tmp_path / "masks", set={"normalised": True})
    assert masks.sparsity == pytest.approx(0.5, abs=0.01)
    assert masks.header.parameters["normalised"] is True
    quality = ps.evaluate(tiny_model, text=tiny_model / "evaluation.txt", masks=masks, seq_len=32, windows=2)
    assert quality.frame["perplexity"][0] > 1
    study = tmp_path / "study.toml"
    study.write_text(
        'title = "T"\n[[models]]\nname = "m"\nshapes = "config.json"\n'
        '[[methods]]\nmethod = "generated"\npattern = "2:4"\n'
        '[[accelerators]]\nname = "stc"\n'
    )
    report = ps.run(study, out=tmp_path / "out")
    assert report.rows.frame["model"].unique().tolist() == ["m"]
    with pytest.raises(ps.UserError, match="from 1 to 1024"):
        ps.run(study, out=tmp_path / "other", workers=0)


def test_generated_masks_are_those_of_the_seed(config, tmp_path):
    one = ps.generate(config, out=tmp_path / "one", density=0.25, seed=1)
    other = ps.generate(config, out=tmp_path / "other", density=0.25, seed=1)
    assert one.sha256 == other.sha256
    assert one.sparsity == pytest.approx(0.75, abs=0.01)


def test_two_targets_of_one_name_are_refused(tmp_path):
    with pytest.raises(ps.UserError, match="two of the targets are vitcod, and their rows could not be told apart"):
        ps.simulate("masks", on=["vitcod", "vitcod"])
