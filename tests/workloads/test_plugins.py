"""Classes of users' files and of installed packages: found by name, refused in one line."""

import sys

import pytest

from workloads import plugins
from workloads.errors import UserError
from workloads.plugins import Wanted, culprit, find, installed, is_file_name, located, parted, shown


class Base:
    name = ""

    def work(self) -> int:
        raise NotImplementedError


WANTED = Wanted("methods", Base, ("ours", "also-ours"), ("work",))
HEAD = "from tests.workloads.test_plugins import Base\n"
GOOD = HEAD + "class Mine(Base):\n    name = 'mine'\n    def work(self):\n        return 1 // 0\n"


@pytest.mark.parametrize(
    ("text", "parts", "named"),
    [
        ("chip.py:Chip", ("chip.py", "Chip"), "Chip"),
        ("a:b/chip.py:Chip", ("a:b/chip.py", "Chip"), "Chip"),
        ("folder/chip.py", ("folder/chip.py", ""), "chip"),
        ("vitcod", ("vitcod", ""), "vitcod"),
    ],
)
def test_names_of_files(text, parts, named):
    assert parted(text) == parts
    assert shown(text) == named
    assert is_file_name(text) is (".py" in text)


def test_paths_are_relative_to_the_file_that_names_them(tmp_path):
    assert located("chip.py:Chip", tmp_path) == f"{tmp_path}/chip.py:Chip"
    assert located("chip.toml", tmp_path) == f"{tmp_path}/chip.toml"
    assert located("/elsewhere/chip.toml", tmp_path) == "/elsewhere/chip.toml"
    assert located("vitcod", tmp_path) == "vitcod"


def test_a_class_of_a_file_is_found_and_its_file_run_once(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(GOOD)
    first = find(WANTED, f"{file}:Mine")
    assert first.name == "mine"
    assert find(WANTED, f"{file}:Mine") is first
    file.write_text(GOOD + "# edited\n")
    assert find(WANTED, f"{file}:Mine") is not first


def test_the_module_is_called_the_same_wherever_the_file_lies(tmp_path):
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other"):
        (folder / "mine.py").write_text(GOOD + "# here\n")
    assert (
        find(WANTED, f"{tmp_path}/mine.py:Mine").__module__ == find(WANTED, f"{tmp_path}/other/mine.py:Mine").__module__
    )


def test_what_lies_beside_a_file_can_be_imported(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "helper_of_mine.py").write_text("NAME = 'helped'\n")
    file = tmp_path / "mine.py"
    file.write_text("import helper_of_mine\n" + GOOD.replace("'mine'", "helper_of_mine.NAME"))
    assert find(WANTED, f"{file}:Mine").name == "helped"


@pytest.mark.parametrize(
    ("source", "name", "said"),
    [
        (GOOD, "Mime", "unknown name 'Mime'; did you mean 'Mine'? known: Mine"),
        ("x = 1\n", "Mine", "has no 'Mine'"),
        (GOOD, "", "say what of that file is meant, such as FILE:Mine"),
        ("class Mine:\n    pass\n", "Mine", "FILE:Mine is no Base: derive it from prunesim.Base"),
        ("Mine = 3\n", "Mine", "FILE:Mine is no Base"),
        (HEAD + "class Mine(Base):\n    name = 'mine'\n", "Mine", "has no work"),
        (GOOD.replace("'mine'", "'ours'"), "Mine", "is called 'ours', as one of ours is: give it a `name` of its own"),
        (GOOD.replace("'mine'", "''"), "Mine", "has no name: give it a `name`"),
        ("x = 1\n\nraise ValueError('too\\nbad')\n", "Mine", "FILE cannot be run: ValueError in line 3: too bad"),
        ("def f(:\n", "Mine", "FILE cannot be run: SyntaxError in line 1: "),
        ("import sys\nsys.exit(3)\n", "Mine", "FILE cannot be run: SystemExit in line 2: 3"),
        (
            "import nowhere_to_be_found\n",
            "Mine",
            "ModuleNotFoundError in line 1: No module named 'nowhere_to_be_found'",
        ),
    ],
)
def test_each_mistake_is_one_line(tmp_path, source, name, said):
    file = tmp_path / "mine.py"
    file.write_text(source)
    with pytest.raises(UserError) as refused:
        find(WANTED, f"{file}:{name}" if name else str(file))
    assert said.replace("FILE", str(file)) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.py: No such file"):
        find(WANTED, f"{tmp_path}/nowhere.py:Mine")


def test_an_error_within_a_plugin_is_told_from_ours(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(GOOD)
    with pytest.raises(ZeroDivisionError) as failed:
        find(WANTED, f"{file}:Mine")().work()
    assert culprit(failed.value) == f"{file}, line 5"
    assert culprit(ValueError("ours")) == ""


class Point:
    """An entry point, as importlib.metadata gives them."""

    def __init__(self, found):
        self.found = found
        self.dist = type("Package", (), {"name": "my-package"})

    def load(self):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


class Installed(Base):
    name = "installed"

    def work(self) -> int:
        return 1


def test_what_a_file_prints_is_no_part_of_the_output(tmp_path, capsys):
    (tmp_path / "loud.py").write_text("print('hello')\n" + GOOD)
    find(WANTED, f"{tmp_path / 'loud.py'}:Mine")
    assert capsys.readouterr() == ("", "hello\n")


def test_entry_points_are_loaded_when_named(monkeypatch):
    points = {"there": Point(Installed), "broken": Point(ImportError("no torch")), "wrong": Point(int)}
    monkeypatch.setattr(plugins, "installed", lambda kind: points if kind == "methods" else {})
    assert find(WANTED, "there") is Installed
    with pytest.raises(UserError, match=r"broken, of the package my-package, cannot be loaded: ImportError: no torch"):
        find(WANTED, "broken")
    with pytest.raises(UserError, match="wrong, of the package my-package, is no Base"):
        find(WANTED, "wrong")
    with pytest.raises(UserError, match=r"unknown method 'their'; .* known: ours, also-ours, there, broken, wrong"):
        find(WANTED, "their")


def test_nothing_is_installed_in_a_group_that_nobody_fills():
    assert installed("no-such-kind") == {}
