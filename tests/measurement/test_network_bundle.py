"""The bundle of a network on a clock of our own: layers run at what samples make of them, as on accelerators."""

import numpy as np
import pytest

from measurement.cpu import kernels as k
from measurement.layer_uses import MOST_TOKENS
from measurement.rows import RecordTarget
from simulator.targets import find_target
from studies import measure as glue
from studies.cli.main import main
from studies.progress import ProgressLine
from studies.simulate import bundle_source, simulate_frame
from tests.measurement.test_cpu import Turns, extended
from workloads import BundleHeader, BundleWriter, Layer, MaskBundle, PackedMask
from workloads.conditions import Conditions
from workloads.csv_text import csv_text
from workloads.errors import UserError
from workloads.uses import USES, Use

USED = {"window": Use(6, 1, "convolution 3 stride 1 by im2col, 6 positions"), "steps": Use(1, 5), "head": Use()}


@pytest.fixture
def folder(tmp_path):
    """Three matrices of one shape, one mask: a convolution, a recurrent layer, and a linear that sees a sample once."""
    uses = {name: use.plain() for name, use in USED.items()}
    writer = BundleWriter(tmp_path / "b", BundleHeader("net", "wanda", model_config={USES: uses}))
    mask = PackedMask.from_dense(np.random.default_rng(0).random((64, 64)) < 0.5)
    for block, name in enumerate(USED):
        writer.add(Layer(name, "other", block, 64, 64), mask, "unstructured")
    writer.finish()
    return tmp_path / "b"


def measured(folder, tokens, clock=None):
    job = glue.open_job(folder, None, [], "any", tokens, [])
    return extended(folder.parent / "r.csv", job, k.find_kernels(["csr"]), clock or Turns(lambda place: 10.0))


def test_layers_have_the_tokens_and_runs_that_they_have_when_simulated(folder):
    rows = glue.rows_of(measured(folder, "2,6"), "cold").query("kernel == 'csr'")
    for samples in (2, 6):
        simulated = simulate_frame(
            bundle_source(MaskBundle.open(folder)), [find_target("vitcod")], Conditions(samples), ProgressLine()
        )
        own = rows[rows["tokens"] == samples]
        for column in ("layer", "layer_tokens", "executions", "nnz"):
            assert own[column].tolist() == simulated[column].tolist(), column
    assert len(rows) == 6  # 12 tokens are 2 samples of the convolution alone, not 12 of the others
    assert rows["mapping"].str.startswith("convolution 3 stride 1 by im2col").sum() == 2


def test_times_are_of_all_runs_and_each_matrix_is_timed_once(folder):
    job = glue.open_job(folder, None, [], "any", "2", [])
    assert [tokens for _, tokens in job.shapes] == [[12, 2]]
    rows = glue.rows_of(measured(folder, "2"), "cold").set_index(["layer", "kernel"])
    for kernel in ("dense", "csr"):
        assert rows.loc[("head", kernel), "latency_us"] == 10.0
        assert rows.loc[("steps", kernel), "latency_us"] == rows.loc[("steps", kernel), "dense_latency_us"] == 50.0
    assert set(rows["speedup"]) == {1.0}


def test_a_record_grows_by_samples(folder):
    measured(folder, "2")
    clock = Turns()
    record = measured(folder, "2,4", clock)
    assert clock.timed == 2 * 2  # cold and warm of 24 and of 4 tokens
    rows = glue.rows_of(record, "cold").query("kernel == 'csr'")
    assert sorted(rows["tokens"]) == [2, 2, 2, 4, 4, 4]
    clock = Turns()
    measured(folder, "4", clock)
    assert clock.timed == 0


def test_a_replay_for_the_bundle_takes_samples(folder):
    measured(folder, "2")
    job = glue.open_job(folder, None, [], "any", "3", [])
    asked, unasked = (
        glue.replay_for(folder.parent / "r.csv", "cold", layers)
        for layers in (job.layers_with_tokens(), [(layer, ()) for layer in job.layers])
    )
    assert set(unasked["tokens"]) == {2}
    assert unasked["feasible"].all()
    assert not asked["feasible"].any()
    assert asked["tokens"].tolist() == [3, 3, 3]
    assert asked["layer_tokens"].tolist() == [18, 3, 3]
    assert "64 x 64, unstructured, 18 tokens" in asked["reason"][0]


def test_a_record_is_a_target_of_samples(folder):
    target = RecordTarget(measured(folder, "2"), "warm")
    frame = simulate_frame(bundle_source(MaskBundle.open(folder)), [target], Conditions(2), ProgressLine())
    assert frame.query("kernel == 'csr'")["latency_us"].tolist() == [5.0, 25.0, 5.0]
    with pytest.raises(UserError, match="no 12 tokens; it has 2"):
        target.check(Conditions(12))


def test_too_many_samples_are_refused_before_anything_runs(folder):
    with pytest.raises(UserError, match=r"window makes 6 tokens of a sample.*give fewer `tokens`"):
        glue.open_job(folder, None, [], "any", str(MOST_TOKENS // 4), [])


def test_a_report_has_them_beside_simulated_rows(folder, tmp_path):
    rows = glue.rows_of(measured(folder, "2"), "cold")
    (tmp_path / "measured.csv").write_text(csv_text(rows))
    simulated = simulate_frame(
        bundle_source(MaskBundle.open(folder)), [find_target("vitcod")], Conditions(2), ProgressLine()
    )
    (tmp_path / "simulated.csv").write_text(csv_text(simulated))
    names = [str(tmp_path / name) for name in ("measured.csv", "simulated.csv", "page")]
    with pytest.raises(SystemExit, match="0"):
        main(["report", *names[:2], "--out", names[2]])
    page = (tmp_path / "page" / "report.md").read_text()
    assert "vitcod" in page
    assert "Pretend CPU" in page
