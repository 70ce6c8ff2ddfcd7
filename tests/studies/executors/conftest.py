"""A study whose sweep is cut into jobs, on a design that can kill the process it is counted in."""

import shutil
from pathlib import Path

import pytest

import simulator

STUDY = """
title = "S"
[[models]]
name = "s"
shapes = "s.json"
[[methods]]
method = "generated"
sparsity = 0.5
[[accelerators]]
name = "dying.py:Dying"
tokens = 8
sweep = { "array.rows" = [4, 8], "dram.bandwidth_gbps" = [10, 20, 40] }
[executor]
job_rows = 18
"""

CHIP = '''
import os
import signal
from pathlib import Path

from prunesim.machines import Systolic

DYING = Path(__file__).with_name("DYING")


class Dying(Systolic):
    """Kills its process, once: where the file DYING stands beside it, which it removes."""

    name = "dying"

    def layer(self, work, statistics):
        try:
            DYING.unlink()
        except FileNotFoundError:
            return super().layer(work, statistics)
        os.kill(os.getpid(), signal.SIGKILL)
'''


class Folder:
    def __init__(self, path: Path):
        self.path = path

    def study(self, executor: str = "") -> Path:
        """The study file, with more keys of [executor]."""
        file = self.path / "s.toml"
        file.write_text(STUDY + executor)
        return file

    def die(self) -> None:
        (self.path / "DYING").touch()

    @property
    def died(self) -> bool:
        return not (self.path / "DYING").exists()

    def files(self, name: str) -> dict[str, bytes]:
        """All that a run wrote but the report, which it was not asked for."""
        out = self.path / name
        return {str(f.relative_to(out)): f.read_bytes() for f in sorted(out.rglob("*")) if f.is_file()}


@pytest.fixture
def folder(tmp_path) -> Folder:
    (tmp_path / "s.json").write_text(
        '{"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, '
        '"num_attention_heads": 2}'
    )
    (tmp_path / "dying.py").write_text(CHIP)
    shutil.copy(Path(str(simulator.__file__)).parent / "presets" / "systolic.toml", tmp_path / "dying.toml")
    return Folder(tmp_path)
