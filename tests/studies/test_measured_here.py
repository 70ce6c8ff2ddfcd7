"""What a study measures as it runs, with a clock of our own."""

import pandas as pd
import pytest

from measurement.cpu import host
from studies.running.study_run import StudyRun, run_study
from studies.study import read_study
from tests.measurement.test_cpu import Turns
from tests.studies.test_gpu_study import STUDY, config
from workloads.errors import UserError

MEASURED = """
[[measured]]
on = "cpu"
models = "tiny"
tokens = 2
kernels = "csr,smaller,sparse24"
density = "0.5"
"""


@pytest.fixture
def study(tmp_path):
    def made(text: str = MEASURED):
        path = tmp_path / "tiny.toml"
        path.write_text(STUDY.format(config=config(tmp_path)) + text)
        return read_study(path)

    return made


@pytest.fixture
def clock(monkeypatch):
    used = Turns()
    monkeypatch.setattr("measurement.cpu.clock.HostClock", lambda cache_bytes: used)
    monkeypatch.setattr(host, "yardsticks", lambda clock: {})
    return used


def test_measured_rows_stand_beside_predicted_ones(study, clock, tmp_path):
    files = run_study(study(), tmp_path / "out")
    rows = pd.read_csv(files["rows.csv"])
    measured = rows[rows["source"] == "measured"]
    assert len(measured) == 2 * 7 * 4
    assert set(measured["model"]) == {"tiny"}
    assert measured.loc[measured["kernel"] == "sparse24", "feasible"].eq(False).all()
    assert "predicted" in set(rows["source"])
    page = files["report.html"].read_text()
    assert "the least time of all rounds" in page
    timed = clock.timed
    StudyRun(study(), tmp_path / "out").run()
    assert clock.timed == timed  # nothing is measured twice


def test_noise_fails_nothing_and_is_told(study, clock, tmp_path, capsys):
    clock.noisy = (0,)
    rows, _ = StudyRun(study(), tmp_path / "out").run()
    assert "noisy: 42 of 56 measured rows" in capsys.readouterr().err
    noisy = rows[rows["reason"].fillna("").str.startswith("noisy: ")]
    assert len(noisy) == 42
    assert not noisy["feasible"].any()
    timed, clock.noisy = clock.timed, ()
    again, _ = StudyRun(study(), tmp_path / "out").run()
    assert clock.timed > timed
    assert not again["reason"].str.startswith("noisy").any()


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('on = "cpu"', "", "either a `record` or `on`"),
        ('on = "cpu"', 'on = "gpu"', "on"),
        ('models = "tiny"\ntokens = 2', "", "give `models`"),
        ('models = "tiny"', "", "on = 'cpu': give `models`"),
        ('models = "tiny"', 'models = "other"', "model 'other'"),
        ("csr,", "csrr,", "kernel of the CPU 'csrr'"),
        ('"0.5"', '"5"', "0.01 to 1"),
        ('on = "cpu"', 'record = "macko-rtx-4090"', "of what is measured"),
    ],
)
def test_mistakes_name_the_study(study, clock, tmp_path, old, new, word):
    with pytest.raises(UserError, match=word) as caught:
        run_study(study(MEASURED.replace(old, new)), tmp_path / "out")
    assert "tiny.toml" in str(caught.value)
    assert clock.timed == 0
