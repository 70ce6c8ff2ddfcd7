"""The pytest classes, as a stranger uses them: on an array and a method of one's own."""

from pathlib import Path

from prunesim.testing import AcceleratorSuite, MethodSuite
from pruning.methods import find_method
from simulator.accelerators.named import find_accelerator

EXAMPLES = Path(__file__).parents[2] / "examples"


class TestLaneSkip(AcceleratorSuite):
    accelerator = find_accelerator(f"{EXAMPLES / 'own_accelerator' / 'lane_skip.py'}:LaneSkip")


class TestRia(MethodSuite):
    method = find_method(f"{EXAMPLES / 'own_method' / 'ria.py'}:Ria")
