"""What a stranger's accelerator returns is held to what is asked of it, in one line that names it and the layer."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from simulator.accelerators import ACCELERATORS, Accelerator
from simulator.accelerators.granular import GranularAccelerator
from simulator.cycles import LayerCycles, Outcome
from simulator.machine.parts import Clock, Number
from simulator.simulate import simulate_layers
from simulator.tiling.granules import Granules
from studies.masks import in_memory
from workloads.bundle import BundleHeader
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.mask import PackedMask
from workloads.operations import linears_in_memory

HEADER = BundleHeader("m", "generated-unstructured")
ROWS, COLS = 8, 12
RIGHT = LayerCycles(5, 1, 2, 3.0, 4, 5, 6, 7, "a mapping")


@dataclass(frozen=True)
class Spec:
    clock: Clock
    number: Number


class Chip(Accelerator):
    """Right as it is; tests replace one answer."""

    name = "chip"
    spec_type = Spec
    preset: ClassVar = {"clock": {"mhz": 500.0}, "number": {}}
    gathered = staticmethod(lambda: {"kept": np.array([3])})
    answer = staticmethod(lambda: RIGHT)

    def gather(self, mask, values):
        return self.gathered()

    def dense(self, rows, cols):
        return {"kept": np.array([rows * cols])}

    def layer(self, work, statistics):
        assert statistics["kept"].shape == (1,)
        return self.answer()


def rows_of(design):
    mask = PackedMask.from_dense(np.random.default_rng(0).random((ROWS, COLS)) < 0.5)
    layers = list(linears_in_memory(in_memory(HEADER, [(Layer("l", "q", 0, ROWS, COLS), mask)])))
    return list(simulate_layers([design], HEADER, layers, Conditions(3)))


def refusal(design):
    with pytest.raises(UserError) as error:
        rows_of(design)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_right_one_runs():
    (row,) = rows_of(Chip())
    assert (row["cycles"], row["transfer_cycles"], row["weight_bytes"]) == (6, 2, 4)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "`gather` returned None (NoneType); it should be a dict of numpy arrays by their names"),
        ([1, 2], "`gather` returned [1, 2] (list); it should be a dict of numpy arrays by their names"),
        ({"kept": [3]}, "`gather` returned kept = [3] (list); it should be a numpy array of numbers"),
        ({5: np.array([3])}, "`gather` returned an array of the name 5 (int); it should be a text"),
        ({"kept": np.array(["a"])}, "it should be a numpy array of numbers"),
        (
            {"k": np.array([3])},
            "`layer` asks for the array 'kept', which `gather` and `dense` return; there are: k",
        ),
        ({}, "there are: none"),
    ],
)
def test_gather(returned, said):
    class Gathering(Chip):
        gathered = staticmethod(lambda: returned)

    assert refusal(Gathering()).startswith("l: chip: ")
    assert said in refusal(Gathering())


def test_dense():
    class Dense(Chip):
        dense = lambda self, rows, cols: None  # noqa: E731

    assert "l: chip: `dense` returned None (NoneType); it should be a dict" in refusal(Dense())


@pytest.mark.parametrize("field", ["compute_cycles", "stall_cycles", "transfer_cycles", "weight_bytes", "output_bytes"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -5, 5.5, "5", None, np.array([1, 2])])
def test_numbers_that_cannot_be_are_refused_with_the_number(field, value):
    class Counting(Chip):
        answer = staticmethod(lambda: dataclasses.replace(RIGHT, **{field: value}))

    said = refusal(Counting())
    assert said.startswith(f"l: chip: `layer` returned {field} = {value!r} (")
    assert said.endswith("; it should be a whole number, 0 or more")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ideal_cycles": float("nan")}, "ideal_cycles = nan (float); it should be a number, 0 or more"),
        ({"ideal_cycles": -1.0}, "ideal_cycles = -1.0 (float); it should be a number, 0 or more"),
        ({"mapping": None}, "mapping = None (NoneType); it should be a text"),
        ({"extra": None}, "extra = None (NoneType); it should be a dict"),
        ({"actions": 5}, "actions = 5 (int); it should be Actions or None"),
        ({"stream": 5}, "stream = 5 (int); it should be a Stream or None"),
    ],
)
def test_other_fields(changes, said):
    class Stating(Chip):
        answer = staticmethod(lambda: dataclasses.replace(RIGHT, **changes))

    assert refusal(Stating()) == f"l: chip: `layer` returned {said}"


def test_more_cycles_than_there_is_room_for():
    class Slow(Chip):
        answer = staticmethod(lambda: dataclasses.replace(RIGHT, compute_cycles=10**30))

    assert refusal(Slow()).startswith("l: chip takes 1e+30 cycles, and there is room for 1e+18")


@pytest.mark.parametrize("returned", [None, 5, (1, 2)])
def test_what_is_no_answer_at_all(returned):
    class Answering(Chip):
        answer = staticmethod(lambda: returned)

    class Evaluating(Chip):
        evaluate = lambda self, work, statistics: returned  # noqa: E731

    assert "chip: `layer` returned" in refusal(Answering())
    assert refusal(Answering()).endswith("it should be a LayerCycles")
    assert "chip: `evaluate` returned" in refusal(Evaluating())
    assert refusal(Evaluating()).endswith("it should be an Outcome")


def test_an_outcome_of_its_own_is_looked_into():
    class Evaluating(Chip):
        def evaluate(self, work, statistics):
            return Outcome(RIGHT, dataclasses.replace(RIGHT, stall_cycles=-1))

    assert "chip: `evaluate` returned stall_cycles = -1" in refusal(Evaluating())


@pytest.mark.parametrize("returned", [object(), float("nan"), {"a": {1, 2}}])
def test_a_geometry_that_is_no_key(returned):
    class Keyed(Chip):
        def geometry(self):
            return returned

    assert "chip: `geometry` returned" in refusal(Keyed())


@pytest.mark.parametrize(
    ("attribute", "value", "said"),
    [
        ("notes", "one sentence", "takes list[str], not 'one sentence' (str)"),
        ("columns", ("folds",), "takes list[Column], not ('folds',) (tuple)"),
        ("only_tokens", "1", "takes int, not '1' (str)"),
        ("level", 5, "takes str, not 5 (int)"),
    ],
)
def test_what_a_class_states(attribute, value, said):
    with pytest.raises(UserError) as error:
        type("Stating", (Chip,), {attribute: value})
    assert str(error.value) == f"`Stating.{attribute}` {said}"


def test_specs_without_what_is_needed():
    @dataclass(frozen=True)
    class Bare:
        mhz: float

    with pytest.raises(UserError, match="chip: Bare has no `clock`"):
        type("NoClock", (Chip,), {"spec_type": Bare, "preset": {"mhz": 1.0}})()
    with pytest.raises(UserError, match="chip: its `spec_type` is the class object; it should be a frozen dataclass"):
        type("NoSpec", (Chip,), {"spec_type": object})()


@pytest.mark.parametrize("name", ["a/b", "../x", "a\\b", "a\nb", "\x1b[31m", "x" * 101, "a\udc80"])
def test_names_that_no_file_and_no_table_could_show(name, tmp_path):
    with pytest.raises(UserError, match="a name has up to 100 printable characters, and no slashes"):
        type("Named", (Chip,), {"name": name})()
    with pytest.raises(UserError, match="no slashes"):
        Chip(name=name)


GRANULES = Granules(np.array([4, 4]), np.array([12]), *(np.ones((2, 1), dtype=np.int64) for _ in range(4)))  # of 8 x 12


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": np.array([4])}, r"have step_cycles of shape \(2, 1\); it is an array of shape \(1, 1\)"),
        ({"step_cycles": np.ones(2, dtype=np.int64)}, r"have step_cycles of shape \(2,\)"),
        ({"values": [[1], [1]]}, "have values list; it is an array"),
        ({"step_cycles": np.full((2, 1), np.nan)}, "hold step_cycles of nan"),
        ({"step_cycles": np.full((2, 1), 0.5)}, "hold step_cycles of type float64; they are counts, whole"),
        ({"metadata_bits": np.full((2, 1), -3)}, "hold metadata_bits of -3"),
        ({"token_step": 0}, "token_step = 0"),
        ({"step_unit": 0}, "step_unit = 0"),
        ({"act_reads": float("nan")}, "act_reads = nan"),
        ({"stationary": "wieght"}, "did you mean 'weight'"),
    ],
)
def test_granules(changes, said):
    with pytest.raises(UserError, match=said):
        dataclasses.replace(GRANULES, **changes)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "l: granular: `granules` returned None (NoneType); it should be Granules"),
        (
            dataclasses.replace(GRANULES, cols=np.array([11])),
            "l: granular: the granules have 8 outputs and 11 inputs, the layer 8 and 12; "
            "`rows` and `cols` are the sides of each",
        ),
    ],
)
def test_granules_of_a_design(returned, said):
    class Granular(GranularAccelerator):
        name = "granular"
        spec_type = ACCELERATORS["stc"].spec_type
        preset = Path(__file__).parents[2] / "simulator/presets/stc.toml"
        gather = lambda self, mask, values: {}  # noqa: E731
        granules = lambda self, statistics: returned  # noqa: E731

    assert refusal(Granular()) == said
