"""What commands import, which is most of what a short one waits for: counted by modules, never by time."""

import json
import subprocess
import sys

import numpy as np
import pytest

from simulator.accelerators import ACCELERATORS
from simulator.accelerators.vitcod.attention import ATTENTION_MODELS
from workloads import BundleHeader, BundleWriter, Layer, PackedMask
from workloads.lazily import Lazily

SCRIPT = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from studies.cli.main import main
with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()):
    try:
        main(sys.argv[1:])
    except SystemExit as stop:
        assert not stop.code, stop.code
print(json.dumps([out.getvalue(), sorted(sys.modules)]))
"""
HEAVY = {
    "torch", "transformers", "huggingface_hub", "matplotlib", "altair", "jinja2", "scipy.stats", "scipy.special",
    "scipy.linalg",
}  # fmt: skip
HELPED = [
    "simulate",
    "predict",
    "run",
    "report",
    "measure",
    "check",
    "compare",
    "prune",
    "eval",
    "finetune",
    "generate",
]
ARRAYS = {"numpy", "numba", "pandas", "pydantic", "scipy"}
PLACES = {name: entry.__module__ for name, entry in ACCELERATORS.items() if name == entry.name}
PLACES["attention"] = "simulator.accelerators.vitcod.attention.target"


def imported(*command: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    out, modules = json.loads(done.stdout)
    assert out.strip()
    return set(modules)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("startup") / "bundle"
    writer = BundleWriter(folder, BundleHeader("m", "hand-made"))
    mask = PackedMask.from_dense(np.random.default_rng(0).random((64, 128)) < 0.5)
    writer.add(Layer("model.layers.0.q", "q", 0, 64, 128), mask, "unstructured")
    writer.commit()
    writer.finish()
    return folder


@pytest.mark.parametrize("verb", HELPED)
def test_help_imports_none_of_the_libraries(verb):
    assert sorted(imported(verb, "--help") & (HEAVY | ARRAYS)) == []


@pytest.mark.parametrize("on", ["systolic", "vitcod"])
def test_a_simulation_on_kept_statistics_imports_one_design(bundle, on):
    command = ("simulate", str(bundle), "--on", on, "--format", "csv")
    imported(*command)  # gathers the statistics
    modules = imported(*command)
    assert sorted(modules & HEAVY) == []
    assert designs(modules) == {on}
    assert sorted(modules & {"simulator.inference.arrays", "simulator.gpu.layers"}) == []


def test_a_prediction_imports_no_accelerator():
    modules = imported("predict", "--shapes", "16,64,64", "--on", "h100-pcie", "--format", "csv")
    assert sorted(modules & HEAVY) == []
    assert designs(modules) == set()


def designs(modules: set[str]) -> set[str]:
    """The names of the table whose classes are there."""
    return {name for name, place in PLACES.items() if place in modules}


@pytest.mark.parametrize("table", [ACCELERATORS, ATTENTION_MODELS])
def test_every_name_of_a_table_has_its_entry(table):
    assert len(list(table.items())) == len(table) > 0


def test_a_table_imports_what_is_asked_for_and_takes_what_is_set():
    table: Lazily = Lazily({"prod": "math:prod", "absent": "no_such_module:x"})
    assert "absent" in table
    assert "other" not in table
    assert table["prod"]([2, 3]) == 6
    table["absent"] = 7
    table["new"] = 8
    assert (table["absent"], table["new"], list(table)) == (7, 8, ["prod", "absent", "new"])
    del table["new"]
    assert list(table) == ["prod", "absent"]
    with pytest.raises(KeyError):
        table["other"]
