"""The same bytes from every executor, whatever dies on the way; and what is wrong with a table in one line."""

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from studies.executors.asked import StudyExecutor
from studies.executors.dask_workers import _Told
from studies.executors.executor import Here, WorkerLost
from studies.executors.named import check_executor, opened
from studies.executors.processes import Processes
from studies.progress import ProgressLine
from studies.running.execute import execute
from studies.running.remote import make_there, origin
from studies.running.store import Store
from studies.running.study_run import StudyRun
from studies.study import read_study
from workloads.errors import UserError

KINDS = {
    "here": "",
    "processes": "workers = 2",
    "dask": 'name = "dask"\nworkers = 2',
    "submitit": 'name = "submitit"\ncluster = "local"\nworkers = 2',
    "own": 'name = "own.py:threads"\nset = { most = 3 }',
}


def run(folder, name: str, executor: str = ""):
    read = read_study(folder.study(executor))
    out = folder.path / name
    out.mkdir(exist_ok=True)
    study = StudyRun(read, out)
    study.check()
    return study.run()[0]


@pytest.fixture
def plain(folder) -> dict[str, bytes]:
    """What one process writes."""
    run(folder, "here")
    files = folder.files("here")
    assert sum(name.endswith(".parquet") for name in files) == 3  # 7 layers x 6 designs, at most 18 rows a job
    return files


def test_a_cut_sweep_has_the_rows_of_one_that_is_not(folder):
    cut = run(folder, "cut")
    file = folder.path / "s.toml"
    file.write_text(file.read_text().replace("job_rows = 18", "job_rows = 42"))
    whole = StudyRun(read_study(file), folder.path / "whole").run()[0]
    pd.testing.assert_frame_equal(cut, whole)
    assert len(list((folder.path / "whole" / "steps").glob("cycles*.csv"))) == 1


@pytest.mark.parametrize("kind", ["processes", "dask", "submitit", "own"])
def test_the_same_bytes_from_every_executor_and_a_lost_worker_loses_a_job(folder, plain, kind, capfd):
    if kind in ("dask", "submitit"):
        pytest.importorskip(kind if kind == "submitit" else "distributed")
    (folder.path / "own.py").write_text(
        "from concurrent.futures import ThreadPoolExecutor\ndef threads(most):\n    return ThreadPoolExecutor(most)\n"
    )
    if kind != "own":  # its threads are of this process
        folder.die()
    run(folder, kind, KINDS[kind])
    assert folder.died
    lost = "a worker was lost" in capfd.readouterr().err
    assert lost == (kind in ("processes", "submitit"))  # Dask runs such a job again by itself
    files = folder.files(kind)
    if kind == "submitit":  # the log of the job that died stays
        assert any(name.startswith("jobs/") for name in files)
        files = {name: content for name, content in files.items() if not name.startswith("jobs/")}
    assert files == plain


def test_a_killed_run_goes_on_where_it_was(folder, plain, capsys):
    for part in ("00000", "00002"):
        for file in (folder.path / "here" / "steps").rglob(f"{part}.*"):
            file.unlink()
    kept = {file: file.stat().st_mtime_ns for file in (folder.path / "here" / "steps").rglob("*.parquet")}
    assert len(kept) == 1
    run(folder, "here")
    assert folder.files("here") == plain
    assert kept == {file: file.stat().st_mtime_ns for file in kept}
    run(folder, "here")
    assert "2 of 2 steps were unchanged" in capsys.readouterr().err


def test_a_part_that_was_edited_is_made_again_and_one_too_many_removed(folder, plain, capsys):
    part = next((folder.path / "here" / "steps").rglob("00001.parquet"))
    part.write_bytes(b"")
    part.with_name("00003.parquet").write_bytes(b"of an earlier sweep")
    run(folder, "here")
    assert "was changed after it was written" in capsys.readouterr().err
    assert folder.files("here") == plain


class Losing(Here):
    """Loses every job."""

    def __init__(self):
        self.jobs = 0

    def submit(self, function, /, *args, **kwargs):
        self.jobs += 1
        return super().submit(self.lose)

    def lose(self):
        raise WorkerLost("no memory")


def test_a_job_that_loses_every_worker_ends_the_run_in_one_line(folder, tmp_path):
    tasks, losing = StudyRun(read_study(folder.study()), tmp_path).plan.tasks(), Losing()
    with pytest.raises(UserError, match=r"lost 2 times \(no memory\).*to go on") as error:
        execute(tasks, Store(tmp_path), losing, ProgressLine(), tries=2)
    assert "\n" not in str(error.value)
    assert losing.jobs == 2


def test_what_dask_gives_up_is_told_in_our_words():
    scheduler = pytest.importorskip("distributed.scheduler")
    where = SimpleNamespace(address="tcp://node7:1")
    for given, told in (
        (scheduler.KilledWorker("job", where, 3), "4 workers of Dask ended .* tcp://node7:1"),
        (UserError("no such layer"), "no such layer"),
    ):
        inner = Here()
        inner.submit = lambda *_, given=given: Here().submit(_raise, given)
        with pytest.raises(UserError, match=told):
            _Told(inner).submit(divmod, 7, 2).result()
    assert _Told(Here()).submit(divmod, 7, 2).result() == (3, 1)


def _raise(error: Exception):
    raise error


def test_a_worker_with_other_code_or_another_disk_refuses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = (None, Store(tmp_path), "", [], ProgressLine())
    with pytest.raises(UserError, match="another version of prunesim"):
        make_there(dataclasses.replace(origin(), code_sha256="other"), *job)
    with pytest.raises(UserError, match=r"no folder .*/elsewhere"):
        make_there(dataclasses.replace(origin(), folder=str(tmp_path / "elsewhere")), *job)


def test_processes_run_side_by_side_and_only_the_one_that_died_is_lost():
    pool = Processes(2)
    futures = [pool.submit(divmod, 7, 2), pool.submit(sys.exit, 3), pool.submit(divmod, 9, 2)]
    assert [futures[0].result(), futures[2].result()] == [(3, 1), (4, 1)]
    assert isinstance(futures[1].exception(), SystemExit)
    pool.shutdown()


REFUSED = {
    'name = "proceses"': "unknown executor 'proceses'; did you mean 'processes'",
    "workers = 0": "executor.workers = 0: from 1 to 1024",
    'name = "submitit"\nworkers = -2': "executor.workers = -2",
    'name = "dask"\naddress = "nowhere.json"': "no such scheduler file",
    'name = "dask"\naddress = "tcp://127.0.0.1:9"\nworkers = 2': "leave one of the two out",
    'address = "tcp://127.0.0.1:9"': "executor.address is for name = 'dask'",
    'name = "dask"\nset = { a = 1 }': "executor.set is for submitit",
    'name = "own.py:absent"': "own.py: No such file",
    'name = "submitit"\ncluster = "local"\nset = { speed = 3 }': "submitit does not take it",
    'name = "submitit"\ncluster = "lsf"': "executor.cluster",
    "job_row = 3": "unknown key 'job_row'",
    "tries = 0": "executor.tries = 0",
    'name = "dying.py:DYING"': "no function that returns",
    'name = "dying.py:Dying"': "dying.py:Dying",
    'name = "dying.py:Path"\nworkers = 3': "has workers of its own",
    'name = "dying.py:Path"': "not a concurrent.futures.Executor",
}


@pytest.mark.parametrize("executor", REFUSED)
def test_a_wrong_table_is_told_in_one_line(folder, executor):
    with pytest.raises(UserError) as error:
        run(folder, "out", executor)
    assert REFUSED[executor] in str(error.value)
    assert str(error.value).startswith(f"{folder.path}/")
    assert "\n" not in str(error.value)
    assert list((folder.path / "out").rglob("*.parquet")) == [] if (folder.path / "out").exists() else True


def test_submitit_without_slurm_says_so(monkeypatch, tmp_path):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no `sbatch`"), opened(StudyExecutor(name="submitit"), tmp_path, tmp_path):
        pass


def test_no_scheduler_at_the_address_is_said(monkeypatch, tmp_path):
    pytest.importorskip("distributed")
    monkeypatch.setattr("studies.executors.dask_workers.ANSWERS_S", 0.2)
    asked = StudyExecutor(name="dask", address="tcp://127.0.0.1:9")
    check_executor(asked)
    with pytest.raises(UserError, match="no Dask scheduler answers there") as error, opened(asked, tmp_path, tmp_path):
        pass
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["distributed", "submitit"])
def test_an_extra_that_is_not_installed_is_named(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    asked = StudyExecutor(name={"distributed": "dask"}.get(name, name))
    with pytest.raises(UserError, match=r"pip install 'prunesim\["), opened(asked, Path(), Path()):
        pass


def test_workers_of_the_command_line_are_called_as_there(folder):
    with pytest.raises(UserError, match=r"^`workers` = 0: from 1 to 1024"):
        StudyRun(read_study(folder.study("workers = 2")), folder.path, workers=0)


def test_workers_of_the_command_line_stand_for_those_of_the_study(folder):
    read = read_study(folder.study("workers = 2"))
    assert StudyRun(read, folder.path).executor.workers == 2
    assert StudyRun(read, folder.path, workers=3).executor == dataclasses.replace(read.file.executor, workers=3)
