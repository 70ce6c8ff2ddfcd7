"""A search gives what simulating each design gives, the same trials however it is cut off, and reasons where designs
cannot be."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from simulator.targets import find_target
from studies.progress import Silent
from studies.running import study_run
from studies.running.study_run import StudyRun, run_study
from studies.search.log import DesignLog
from studies.search.search_run import check_any_met
from studies.simulate import bundle_source, simulate_frame
from studies.study import read_study
from tests.thinned import thinned
from workloads.bundle import MaskBundle
from workloads.conditions import Conditions
from workloads.errors import NothingRan

TPE = 'sampler = "tpe"\ntrials = 16\nseed = 3'


def found(file, out="out", workers=1):
    run = StudyRun(read_study(file), file.parent / out, workers=workers)
    run.check()
    run.run()
    return run.searched


def simulated(file, settings, target_sparsity, tokens):
    """A design's rows, by the verb's own code."""
    [folder] = [path for path in (file.parent / "out" / "masks").iterdir()
                if path.is_dir() and ("0.5" in path.name) == (not np.isnan(target_sparsity))]  # fmt: skip
    targets = [find_target("vitcod", settings)]
    return simulate_frame(bundle_source(MaskBundle.open(folder)), targets, Conditions(tokens, 1.0), Silent())


@pytest.fixture
def searched(written):
    return found(written())


def test_every_design_is_what_simulate_gives_and_the_front_is_exact(written):
    file = written()
    trials = found(file).trials
    assert len(trials) == 2 * 3 * 2 * 2
    assert trials["repeats"].isna().all()
    assert set(trials.loc[~trials["feasible"], "buffers.weight_kib"]) == {0.001}
    assert trials.loc[~trials["feasible"], "reason"].str.contains("weight_kib").all()
    ran = trials[trials["feasible"]]
    assert len(ran) == 12
    for line in ran.iloc[[0, 5, 11]].to_dict("records"):
        rows = simulated(file, line["settings"].split(), line["target_sparsity"], 16)
        assert line["latency_us"] == pytest.approx(rows["latency_us"].sum())
        assert line["energy_pj"] == pytest.approx(rows["energy_pj"].sum())
        assert line["area_mm2"] == rows["area_mm2"].iloc[0]
        assert line["macs"] == line["array.width"] * line["array.height"]
        assert line["buffer_kib"] == 53 + 20 + 53 + 108
    for line in ran.to_dict("records"):
        better = ran[(ran["latency_us"] <= line["latency_us"]) & (ran["area_mm2"] <= line["area_mm2"])]
        better = better[(better["latency_us"] < line["latency_us"]) | (better["area_mm2"] < line["area_mm2"])]
        assert line["front"] == better.empty
    front = trials[trials["front"]].sort_values("design")
    assert front["design"].tolist() == list(range(1, len(front) + 1))
    assert front["latency_us"].is_monotonic_increasing


def test_passes_add_up(written):
    one, two, both = (
        found(written(change=("tokens = 16", f"tokens = {tokens}")), tokens[:3].strip("{ ")).trials
        for tokens in ("16", "1", "{ 16 = 1, 1 = 3 }")
    )
    for name in ("latency_us", "energy_pj", "cycles", "dram_bytes"):
        assert np.allclose(both[name], one[name] + 3 * two[name], equal_nan=True)
    known = both["feasible"]
    assert np.allclose(both["edp_pj_us"][known], (both["energy_pj"] * both["latency_us"])[known])


def test_constraints_take_designs_off_the_front(written):
    found_ = found(written('constraints = ["area_mm2 <= 0.6", "macs >= 512"]'))
    trials = found_.trials
    holds = trials["feasible"] & (trials["area_mm2"] <= 0.6) & (trials["macs"] >= 512)
    assert 0 < holds.sum() < trials["feasible"].sum()
    assert (trials["meets"] == holds).all()
    assert (trials["front"] <= trials["meets"]).all()
    check_any_met(found_)


def test_what_nothing_meets_is_reported_and_ends_with_3(written):
    file = written('constraints = ["area_mm2 <= 0.01"]')
    with pytest.raises(NothingRan, match=r"none of 12 designs that run meets .* \(least found: 0\.\d+\)") as caught:
        run_study(read_study(file), file.parent / "out")
    assert caught.value.exit_code == 3
    assert len(pd.read_csv(file.parent / "out" / "trials.csv")) == 24
    assert "break a constraint" in (file.parent / "out" / "report.md").read_text()


def test_when_no_design_runs_the_reason_is_told(written):
    file = written(change=("[0.001, 53.0]", "[0.001]"))
    with pytest.raises(NothingRan, match=r"none of 12 designs of the search can run; the first: .*weight_kib"):
        run_study(read_study(file), file.parent / "out")


def test_a_report_has_figures_and_machine_files_that_give_the_same(written):
    file = written()
    run_study(read_study(file), file.parent / "out")
    out = file.parent / "out"
    trials = pd.read_csv(out / "trials.csv")
    first = trials[trials["design"] == 1].iloc[0]
    target = find_target(str(out / "machines" / "design-1.toml"))
    for folder in (out / "masks").iterdir():
        if folder.is_dir() and MaskBundle.open(folder).sha256 == first["mask_sha256"]:
            rows = simulate_frame(bundle_source(MaskBundle.open(folder)), [target], Conditions(16, 1.0), Silent())
    assert rows["latency_us"].sum() == pytest.approx(first["latency_us"])
    assert rows["area_mm2"].iloc[0] == pytest.approx(first["area_mm2"])
    page = (out / "report.html").read_text()
    assert 'data-chart="search-front"' in page
    assert 'data-chart="search-importance"' in page
    assert "search-hypervolume" not in page
    assert "base = &#34;vitcod&#34;" in page
    assert "Pareto front" in (out / "report.md").read_text()


def test_importances_of_all_designs_are_shares_of_variance(written):
    """Of the area only sides of the array matter; alone and together they explain all of it."""
    searched = found(written(change=("[0.001, 53.0]", "[20.0, 53.0]")))
    area = searched.importance[searched.importance["objective"] == "area_mm2"].set_index("parameter")["importance"]
    trials = searched.trials
    values = trials.groupby("array.width")["area_mm2"].mean()
    assert area["array.width"] == pytest.approx(values.var(ddof=0) / trials["area_mm2"].var(ddof=0))
    assert area["pruning.target"] == pytest.approx(0)
    assert area.sum() <= 1 + 1e-9


@pytest.mark.parametrize("sampler", thinned(["tpe", "qmc", "nsga2", "random"], every=2))
def test_a_sampler_gives_the_same_trials_when_it_is_cut_off(written, sampler, monkeypatch):
    """Whole; cut off in a batch; from the first half on; by other workers: byte by byte the same."""
    pytest.importorskip("optuna")
    more = TPE.replace("tpe", sampler) + ("\npopulation = 4" if sampler == "nsga2" else "") + "\nbatch = 4"
    machine = "dram.bandwidth_gbps = { from = 6.4, to = 102.4, log = true }"
    file = written(more, machine)
    whole = found(file).trials
    assert len(whole) == 16
    [journal] = (file.parent / "out" / "search").glob("*.journal")
    lines = journal.read_bytes().splitlines(keepends=True)
    for cut in (len(lines) // 2, len(lines) // 3 + 1):
        journal.write_bytes(b"".join(lines[:cut]) + lines[cut][:7])
        pd.testing.assert_frame_equal(found(file).trials, whole)
    half = written(more.replace("trials = 16", "trials = 8"), machine)
    shutil.rmtree(file.parent / "out" / "search")
    pd.testing.assert_frame_equal(found(half).trials[["settings"]], whole[["settings"]].head(8))
    monkeypatch.setattr(study_run, "opened", lambda *_: ThreadPoolExecutor(2))
    pd.testing.assert_frame_equal(found(written(more, machine)).trials, whole)
    other = found(written(more.replace("seed = 3", "seed = 4"), machine), "other").trials
    assert not other["settings"].equals(whole["settings"])


def test_a_journal_that_does_not_agree_with_the_designs_is_written_anew(written):
    pytest.importorskip("optuna")
    file = written(TPE)
    whole = found(file).trials
    [journal] = (file.parent / "out" / "search").glob("*.journal")
    text = journal.read_text()
    entry = next(json.loads(line) for line in text.splitlines() if '"values":[' in line)
    journal.write_text(text.replace(json.dumps(entry["values"], separators=(",", ":")), "[1.0,2.0]"))
    pd.testing.assert_frame_equal(found(file).trials, whole)
    assert "[1.0,2.0]" not in journal.read_text()


def test_a_sampler_meets_its_constraints_and_shows_what_it_covers(written):
    pytest.importorskip("optuna")
    file = written(
        TPE.replace("16", "24") + '\nconstraints = ["area_mm2 <= 0.9"]', change=("[0.001, 53.0]", "[20.0, 53.0]")
    )
    run_study(read_study(file), file.parent / "out")
    trials = pd.read_csv(file.parent / "out" / "trials.csv")
    assert (trials["meets"] == (trials["area_mm2"] <= 0.9)).all()
    assert trials["repeats"].notna().any()  # 24 draws of 24 designs
    assert not trials.loc[trials["repeats"].notna(), "front"].any()
    assert 'data-chart="search-hypervolume"' in (file.parent / "out" / "report.html").read_text()


def test_designs_are_run_once(written, monkeypatch):
    from studies.search import evaluation

    file = written()
    found(file)
    monkeypatch.setattr(evaluation, "figures_on", lambda *_: pytest.fail("run again"))
    assert len(found(file).trials) == 24


def test_a_line_that_was_cut_off_is_neither_read_nor_joined(tmp_path):
    log = DesignLog(tmp_path / "log")
    log.add({"a": {"figures": {"x": 1.0}, "reason": None}})
    with log.path.open("a") as file:
        file.write('{"key": "b", "fig')
    log = DesignLog(log.path)
    log.add({"c": {"figures": None, "reason": "too large"}})
    again = DesignLog(log.path)
    assert again.get("a") == {"figures": {"x": 1.0}, "reason": None}
    assert again.get("b") is None
    assert again.get("c") == {"figures": None, "reason": "too large"}
