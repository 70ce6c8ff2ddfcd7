"""Tasks: their order, what is found again, what a refusal or an error takes with it, and the same results from other
processes."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from studies.executors.asked import StudyExecutor
from studies.executors.executor import Here
from studies.progress import ProgressLine
from studies.running import code
from studies.running.execute import execute
from studies.running.store import Store
from studies.running.study_run import StudyRun
from studies.running.task import FreeTask, Task, file_sha256
from studies.study import read_study
from workloads.errors import NotForThisModel, UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Sum(Task):
    """Writes the number `plus` and the sum of what it needs to a file."""

    name: str
    plus: int
    needs: tuple = ()
    refuses: str = ""
    fresh: bool = False

    @property
    def title(self) -> str:
        return self.name

    def key(self, inputs):
        if self.refuses == "key":
            raise NotForThisModel(f"{self.name} is not for this model")
        return f"{self.plus} {inputs}"

    def find(self, store, key, inputs):
        file = store.folder / self.name
        found = file.read_text().partition("|") if file.is_file() else ("", "", "")
        return int(found[2]) if found[0] == key else None

    def make(self, store, key, inputs, progress):
        if self.refuses == "make":
            raise UserError(f"{self.name} cannot be made")
        with (store.folder / "log").open("a") as log:
            log.write(self.name)
        (store.folder / self.name).write_text(f"{key}|{self.plus + sum(inputs)}")


class Free(FreeTask):
    counted = False
    title = "free"

    def result(self, inputs):
        return 100


def chain(**changed) -> dict[str, Task]:
    """a <- b <- d, a <- c <- d, and e alone; `changed` gives new fields to one of them."""
    tasks: dict[str, Task] = {"f": Free()}
    for name, plus, needs in (("a", 1, "f"), ("b", 2, "a"), ("c", 3, "a"), ("d", 4, "bc"), ("e", 5, "")):
        tasks[name] = Sum(name, plus, tuple(tasks[need] for need in needs), **changed.get(name, {}))
    return tasks


def run(tasks: dict[str, Task], folder: Path, executor=None):
    results = execute(list(tasks.values()), Store(folder), executor or Here(), ProgressLine())
    return {name: results.found.get(task) for name, task in tasks.items()}, results


def log(folder: Path) -> str:
    file = folder / "log"
    text = file.read_text() if file.exists() else ""
    file.unlink(missing_ok=True)
    return text


def test_tasks_are_made_in_order_and_found_again(tmp_path, capsys):
    first, _ = run(chain(), tmp_path)
    assert first == {"f": 100, "a": 101, "b": 103, "c": 104, "d": 211, "e": 5}
    assert log(tmp_path) == "abcde"
    assert "[4/5] d" in capsys.readouterr().err
    assert run(chain(), tmp_path)[0] == first
    assert log(tmp_path) == ""
    assert "5 of 5 steps were unchanged" in capsys.readouterr().err


def test_what_changed_is_made_again_with_all_that_needs_it_and_nothing_else(tmp_path):
    run(chain(), tmp_path)
    log(tmp_path)
    assert run(chain(c={"fresh": True}), tmp_path)[0]["d"] == 211
    assert log(tmp_path) == "c"
    tasks = chain()
    tasks["b"] = dataclasses.replace(tasks["b"], plus=20)
    tasks["d"] = dataclasses.replace(tasks["d"], needs=(tasks["b"], tasks["c"]))
    assert run(tasks, tmp_path)[0]["d"] == 4 + 121 + 104
    assert log(tmp_path) == "bd"


def test_a_refusal_takes_what_needs_it_along_and_the_others_are_made(tmp_path):
    found, results = run(chain(b={"refuses": "key"}), tmp_path)
    assert found == {"f": 100, "a": 101, "b": None, "c": 104, "d": None, "e": 5}
    assert len(results.refused) == 2


def test_an_error_ends_the_run_and_what_was_made_stays(tmp_path):
    with pytest.raises(UserError, match="c cannot be made"):
        run(chain(c={"refuses": "make"}), tmp_path)
    assert log(tmp_path) == "ab"
    run(chain(), tmp_path)
    assert log(tmp_path) == "cde"


def test_any_executor_gives_the_same_results(tmp_path):
    with ThreadPoolExecutor(3) as pool:
        found, _ = run(chain(), tmp_path, pool)
    assert found == {"f": 100, "a": 101, "b": 103, "c": 104, "d": 211, "e": 5}
    assert sorted(log(tmp_path)) == list("abcde")


@pytest.mark.parametrize("workers", [0, -1, 5000])
def test_a_number_of_workers_that_is_none_is_refused(workers):
    with pytest.raises(UserError, match="from 1 to 1024"):
        StudyExecutor(workers=workers).check()


STUDY = """
title = "S"
[[models]]
name = "s"
shapes = "s.json"
[[methods]]
method = "generated"
sparsity = 0.5
[[methods]]
method = "generated"
pattern = "2:4"
[[accelerators]]
name = "vitcod-paper"
"""


def study_of(folder: Path):
    (folder / "s.json").write_text(
        '{"model_type": "llama", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, '
        '"num_attention_heads": 2}'
    )
    (folder / "s.toml").write_text(STUDY)
    return read_study(folder / "s.toml")


def test_other_processes_write_the_same_files(tmp_path):
    study = study_of(tmp_path)
    for name, workers in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        StudyRun(study, tmp_path / name, workers=workers).run()
    one, two = (
        {str(f.relative_to(tmp_path / name)): f.read_bytes() for f in (tmp_path / name).rglob("*") if f.is_file()}
        for name in ("one", "two")
    )
    assert one == two
    assert len([name for name in one if name.startswith("steps") and name.endswith(".csv")]) == 2


def test_rows_are_made_again_by_other_code_and_masks_too(tmp_path, monkeypatch, capsys):
    study = study_of(tmp_path)
    StudyRun(study, tmp_path / "out").run()
    StudyRun(study, tmp_path / "out").run()
    assert "4 of 4 steps were unchanged" in capsys.readouterr().err
    for module in ("rows_tasks", "masks_tasks"):
        monkeypatch.setattr(f"studies.running.{module}.code_sha256", lambda rooms: "other")
    StudyRun(study, tmp_path / "out").run()
    assert "unchanged" not in capsys.readouterr().err


def test_the_hash_of_code_follows_every_source_file_and_preset(tmp_path, monkeypatch):
    room = tmp_path / "a_room_of_code"
    (room / "inner").mkdir(parents=True)
    hashes = set()
    monkeypatch.syspath_prepend(str(tmp_path))
    for file, text in (("__init__.py", ""), ("inner/m.py", "a = 1"), ("inner/m.py", "a = 2"), ("p.toml", "a = 1")):
        (room / file).write_text(text)
        code.code_sha256.cache_clear()
        hashes.add(code.code_sha256(("a_room_of_code",)))
    (room / "notes.txt").write_text("no code")
    code.code_sha256.cache_clear()
    assert code.code_sha256(("a_room_of_code",)) in hashes
    code.code_sha256.cache_clear()
    assert len(hashes) == 4


def test_the_hash_of_a_file_follows_its_content(tmp_path):
    file = tmp_path / "f"
    file.write_text("a")
    first = file_sha256(file)
    assert file_sha256(file) == first
    file.write_text("bc")
    assert file_sha256(file) != first
