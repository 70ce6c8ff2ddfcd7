"""The library in twenty lines and the notebook run as shipped, in any folder."""

import ast
import io
import json
import runpy
from contextlib import redirect_stdout
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_library_in_twenty_lines(tmp_path):
    said = io.StringIO()
    with redirect_stdout(said):
        runpy.run_path(str(EXAMPLES / "quickstart.py"))
    assert (tmp_path / "out/quickstart/report/report.html").is_file()
    assert "vitcod" in said.getvalue()
    assert len(ast.parse((EXAMPLES / "quickstart.py").read_text()).body) <= 20 + 1  # and the docstring


def test_the_notebook_runs_cell_by_cell(tmp_path):
    notebook = json.loads((EXAMPLES / "quickstart.ipynb").read_text())
    names: dict = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec("".join(cell["source"]), names)
    assert "report.html" in names["report"]._repr_html_()
    assert "<table" in names["rows"]._repr_html_()
    assert (tmp_path / "out/notebook/report/report.html").is_file()
