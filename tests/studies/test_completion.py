"""The version, and scripts that complete verbs and options in a shell."""

import os
import subprocess
import sys

import pytest

from studies.cli.main import VERBS, main
from workloads import __version__


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_the_version_is_told(flag, capsys):
    with pytest.raises(SystemExit) as stop:
        main([flag])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_know_verbs_and_options(shell, tmp_path):
    script = tmp_path / "script"
    environment = {**os.environ, "HOME": str(tmp_path), "TERM": "dumb"}
    arguments = ["-m", "studies.cli", "--install-completion", "--shell", shell, "--output", str(script)]
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = script.read_text()
    assert all(verb in text for verb in VERBS)
    assert "activation-density" in text
    if shell == "bash":
        subprocess.run(["bash", "-n", str(script)], check=True)
    assert all(path.is_relative_to(tmp_path) for path in tmp_path.rglob("*"))


def test_bash_completes_a_verb(tmp_path):
    script = tmp_path / "script"
    environment = {**os.environ, "HOME": str(tmp_path)}
    arguments = ["-m", "studies.cli", "--install-completion", "--shell", "bash", "--output", str(script)]
    subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=True)
    asked = (
        f"source {script}; COMP_WORDS=(prunesim simu); COMP_CWORD=1; "
        "$(complete -p prunesim | sed 's/.*-F \\([^ ]*\\).*/\\1/') prunesim simu prunesim; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["simulate"]
