"""Work of minutes is said before it begins, shorter work and what is there already is not."""

import pytest

from pruning.run import work
from studies import ahead
from studies.cli.main import main
from studies.progress import tell_long
from studies.running.study_run import StudyRun
from studies.study import read_study

STUDY = """
title = "S"
[[models]]
name = "m"
path = "{model}"
calibration = "{model}/calibration.txt"
text = "{model}/evaluation.txt"
samples = 4
seq_len = 16
eval_seq_len = 16
eval_windows = 2
[[methods]]
method = "wanda"
sparsity = 0.5
[[accelerators]]
name = "systolic"
"""


@pytest.fixture
def rate(monkeypatch):
    """Operations a second, which no test measures."""
    now = [1e12]
    monkeypatch.setattr(ahead, "rate_flop_s", lambda *_: now[0])
    return now


def prune(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code


def said(capsys) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("this will take")]


def test_what_takes_two_minutes_at_most_is_said(capsys):
    tell_long(1.0, 119.0, "why")
    assert said(capsys) == []
    tell_long(100.0, 600.0, "why")
    assert said(capsys) == ["this will take 2 min to 10 min: why; stopped and repeated, it goes on"]


def test_prune_says_how_long_and_nothing_of_a_bundle_that_is_there(tiny_model, tmp_path, capsys, rate):
    command = ["prune", str(tiny_model), "--method", "wanda", "--sparsity", "0.5", "--samples", "4", "--seq-len", "16",
               "--calibration", str(tiny_model / "calibration.txt"), "--out"]  # fmt: skip
    prune([*command, str(tmp_path / "quick")])
    assert said(capsys) == []
    rate[0] = 1e4
    prune([*command, str(tmp_path / "slow")])
    passes = 2 * 2 * 4 * 16 * 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48)  # twice, 2 blocks, 2 T n k
    line = said(capsys)[0]
    least, most = passes / 1e4, work.MOST * passes / 1e4 + work.START_S
    assert line.startswith(f"this will take {least / 60:.0f} min to {most / 60:.0f} min: 0.0 T operations")
    prune([*command, str(tmp_path / "slow")])
    assert said(capsys) == []
    prune([*command, str(tmp_path / "dry"), "--dry-run"])
    assert f"time: {least / 60:.0f} min to" in capsys.readouterr().out


def test_a_study_says_what_all_that_is_not_there_takes(tiny_model, tmp_path, capsys, rate):
    file = tmp_path / "s.toml"
    file.write_text(STUDY.format(model=tiny_model))
    rate[0] = 1e4
    StudyRun(read_study(file), tmp_path / "out").run()
    lines = said(capsys)
    assert len(lines) == 1
    assert lines[0].endswith("14 rows of machines; stopped and repeated, it goes on")
    StudyRun(read_study(file), tmp_path / "out").run()
    assert said(capsys) == []
