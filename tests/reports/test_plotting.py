"""A matplotlibrc that lies where the command runs changes no figure."""

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import os; here = os.getcwd()
import reports.figures.drawing as d, matplotlib
assert os.getcwd() == here
print(matplotlib.rcParams["lines.linewidth"], matplotlib.rcParams["backend_fallback"])
"""


def test_a_matplotlibrc_of_the_current_folder_is_not_read(tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(b"lines.linewidth: 99\nnonsense: \xff\xfe\n")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == "1.5"  # matplotlib's own default
    assert done.stderr == ""
