"""Whose statistics a file holds: name, version, geometry, and the source of a model from elsewhere."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from simulator.accelerators import ACCELERATORS, Accelerator
from simulator.accelerators.named import open_accelerator
from simulator.accelerators.nm.stc import Stc
from simulator.accelerators.systolic.cycle import Systolic
from simulator.accelerators.vitcod.paper import VitcodPaper
from simulator.identity import source_sha256
from simulator.simulate import simulate_layers
from simulator.statistics import StatisticsStore
from tests.simulator.test_simulate import HEADER, layer_of, random_mask
from workloads.conditions import Conditions
from workloads.errors import UserError

# Two models in one module, which differ in what they gather alone; their cycles are `factor` x kept weights.
SOURCE = """
import numpy as np
from simulator.accelerators.nm.stc import Stc
from simulator.cycles import LayerCycles, Outcome
from {helper} import factor

class Plain(Stc):
    name, preset = "plain", "stc"

    def geometry(self):
        return []

    def gather(self, mask, values):
        return {{"cycles": np.array([mask.nnz * factor()])}}

    def evaluate(self, work, statistics):
        cycles = LayerCycles(int(statistics["cycles"][0]), 0, 0, 0.0, 0, 0, 0, 0, "")
        return Outcome(cycles, cycles)

class Double(Plain):
    name = "double"

    def gather(self, mask, values):
        return {{"cycles": np.array([2 * mask.nnz * factor()])}}
"""


class Outside:
    """A module and its helper beside it, as somebody else would write them, and edit them."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name, self.helper = folder, name, f"{name}_helper"
        self.write(1)

    def write(self, factor: int) -> None:
        (self.folder / f"{self.helper}.py").write_text(f"def factor():\n    return {factor}\n")
        (self.folder / f"{self.name}.py").write_text(SOURCE.format(helper=self.helper))

    def target(self, model: str) -> Accelerator:
        for name in (self.helper, self.name):
            spec = importlib.util.spec_from_file_location(name, self.folder / f"{name}.py")
            assert spec is not None
            assert spec.loader is not None
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
        return getattr(sys.modules[self.name], model)()


@pytest.fixture
def outside(tmp_path, monkeypatch):
    name = f"outside_{tmp_path.name.replace('-', '_')}"
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # an edit within a second must be seen
    yield Outside(tmp_path, name)
    for module in (name, f"{name}_helper"):
        sys.modules.pop(module, None)


LAYER = layer_of(random_mask(40, 70, 0.5))
KEPT = LAYER.weights.nnz


def cycles_of(target: Accelerator, folder: Path, fresh: bool = False) -> int:
    store = StatisticsStore(folder, fresh=fresh)
    (row,) = simulate_layers([target], HEADER, [LAYER], Conditions(1), store)
    return row["cycles"]


def test_two_models_of_one_module_do_not_share(outside, tmp_path):
    folder = tmp_path / "statistics"
    assert [cycles_of(outside.target(name), folder) for name in ("Plain", "Double")] == [KEPT, 2 * KEPT]
    together = simulate_layers([outside.target(n) for n in ("Plain", "Double")], HEADER, [LAYER], Conditions(1))
    assert [row["cycles"] for row in together] == [KEPT, 2 * KEPT]


def test_an_edited_model_is_another_also_where_the_edit_is_beside_it(outside, tmp_path):
    folder = tmp_path / "statistics"
    assert cycles_of(outside.target("Plain"), folder) == KEPT
    outside.write(3)
    assert cycles_of(outside.target("Plain"), folder) == 3 * KEPT
    outside.write(1)
    assert cycles_of(outside.target("Plain"), folder) == KEPT
    assert len(list(folder.iterdir())) == 2


def test_a_declared_version_and_name(tmp_path):
    class Newer(Stc):
        statistics_version = 2

    class Mine(Stc):
        name, preset = "mine", "stc"

    folder, counts = tmp_path / "statistics", []
    for target in (Stc(), Newer(), Mine(), Mine(preset="stc", name="again")):
        cycles_of(target, folder)
        counts.append(len(list(folder.iterdir())))
    assert counts == [1, 2, 3, 3]


def test_without_a_source_nothing_is_kept(tmp_path):
    space: dict = {"np": np, "__name__": "nowhere"}
    exec("def gather(self, mask, values):\n    return {'steps': np.array([mask.nnz])}", space)
    assert source_sha256([space["gather"]]) is None
    assert source_sha256([ACCELERATORS["stc"], ACCELERATORS["stc"].gather, ACCELERATORS["vitcod"].layer]) == ""

    class Foreign(VitcodPaper):
        only_tokens = None
        gather = space["gather"]

    assert Foreign().source_sha256 is None
    with pytest.raises(UserError, match="asks for the array 'cycles'"):
        cycles_of(Foreign(), tmp_path / "statistics")
    assert not (tmp_path / "statistics").exists()


def test_fresh_gathers_what_is_there_and_keeps_it(tmp_path):
    folder, gathered = tmp_path / "statistics", []

    class Counted(Systolic):
        def gather(self, mask, values):
            gathered.append(1)
            return super().gather(mask, values)

    target = Counted()
    counts = []
    for fresh in (False, False, True, False):
        cycles_of(target, folder, fresh)
        counts.append(len(gathered))
    assert counts == [1, 1, 2, 2]
    assert len(list(folder.iterdir())) == 1


def test_designs_that_gather_alike_share():
    keys = {name: open_accelerator(name).statistics_key for name in ACCELERATORS}
    assert keys["tpu-v4"] == keys["tpu-v5e"] == keys["systolic"]
    assert len({str(key) for key in keys.values()}) == len(ACCELERATORS) - 2
