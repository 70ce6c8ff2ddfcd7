"""What `import prunesim` loads, and what it says where its packages are hidden."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prunesim.rooms import HOME, ROOMS

NOT_YET = ("torch", "pandas", "numpy", "numba", "cyclopts", "transformers", "matplotlib")


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A new interpreter in `cwd`, whose modules come before ours, as those of a user's own scripts would."""
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env=environment)


def test_the_import_loads_next_to_nothing(tmp_path):
    code = f"import prunesim, sys; print([name for name in {NOT_YET} if name in sys.modules])"
    assert python("-c", code, cwd=tmp_path).stdout == "[]\n"


def test_simulating_never_loads_torch(tmp_path):
    import numpy as np

    np.save(tmp_path / "mask.npy", np.arange(64 * 64).reshape(64, 64) % 2 == 0)
    code = "import prunesim as ps, sys; ps.simulate('mask.npy', on='vitcod', tokens=64); print('torch' in sys.modules)"
    assert python("-c", code, cwd=tmp_path).stdout == "False\n"


@pytest.mark.parametrize("room", ROOMS)
def test_a_module_that_hides_a_room_is_named_in_one_sentence(tmp_path, room):
    (tmp_path / f"{room}.py").write_text("")
    failed = python("-c", "import prunesim", cwd=tmp_path)
    last = failed.stderr.strip().splitlines()[-1]
    assert failed.returncode == 1
    assert last.startswith(f"ImportError: {(tmp_path / room).resolve()}.py hides prunesim's own package `{room}`")


@pytest.mark.parametrize("command", [("-m", "prunesim", "ls"), ("-c", "COMMAND")])
def test_the_command_says_it_without_a_traceback(tmp_path, command):
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    script = "import sys; sys.argv = ['/usr/bin/prunesim', 'ls']; from prunesim.__main__ import main; main()"
    failed = python(*(script if word == "COMMAND" else word for word in command), cwd=tmp_path)
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert failed.stderr.splitlines() == [
        f"prunesim: {(folder / '__init__.py').resolve()} hides prunesim's own package `reports`: rename it, or start "
        "Python where it is not on the path"
    ]


def test_a_folder_without_code_hides_nothing(tmp_path):
    (tmp_path / "reports").mkdir()
    assert python("-c", "import prunesim; prunesim.report", cwd=tmp_path).returncode == 0
