"""What bit-serial designs share: two arrangements of the lanes, and the layer under the one that takes fewer cycles.

A lane multiplies one bit of a weight with a whole input in a cycle. `group` lanes side by side add into one sum, so a step takes
`group` inputs of some outputs and some tokens. Weights come from their buffer at every step, sums stay in the array. In the
arrangement for many tokens, `outputs` outputs meet `tokens` tokens; in the one for few, `single_outputs` outputs meet one.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from simulator.cycles import LayerCycles, ceil_div
from simulator.grid import Grid
from simulator.machine import Machine, Side
from simulator.mapper import best_layer
from simulator.statistics import Statistics
from simulator.work import Work


@dataclass(frozen=True)
class BitSerialArray:
    """group x outputs x tokens lanes; `depth` inputs, rounded up to whole groups, make a granule."""

    group: Side
    outputs: Side
    tokens: Side
    single_outputs: Side
    depth: Side

    @property
    def lanes(self) -> int:
        return self.group * self.outputs * self.tokens

    @property
    def runs(self) -> int:
        """Groups along the inputs of a granule."""
        return ceil_div(self.depth, self.group)

    @property
    def inputs(self) -> int:
        """Inputs of a granule."""
        return self.runs * self.group


@dataclass(frozen=True)
class Arrangement:
    """`outputs` x `tokens` at a step. statistics: rows, cols, values, metadata_bits and step_cycles of its granules."""

    outputs: int
    tokens: int
    statistics: Statistics

    def compute_cycles(self, tokens: int) -> int:
        return int(self.statistics["step_cycles"].sum()) * ceil_div(tokens, self.tokens)


def arrangements(
    array: BitSerialArray, statistics: Statistics, key: object, build: Callable[[int], dict[str, np.ndarray]]
) -> list[Arrangement]:
    """Both, for many tokens first. build(outputs) makes the arrays of Arrangement; kept with `statistics`, by `array` and `key`: whatever else build depends on."""
    memo = statistics.memo
    if (key, array) not in memo:
        memo[key, array] = [
            Arrangement(outputs, tokens, Statistics(build(outputs)))
            for outputs, tokens in ((array.outputs, array.tokens), (array.single_outputs, 1))
        ]
    return memo[key, array]


def arranged_layer(
    machine: Machine, macs: int, choices: list[Arrangement], work: Work, ideal_cycles: float, note: str
) -> LayerCycles:
    """The layer under the arrangement of fewer compute cycles, the first of equals."""
    chosen = min(choices, key=lambda choice: choice.compute_cycles(work.tokens))
    arrays = chosen.statistics
    grid = Grid(
        rows=arrays["rows"],
        cols=arrays["cols"],
        values=arrays["values"],
        metadata_bits=arrays["metadata_bits"],
        step_cycles=arrays["step_cycles"],
        visit_cycles=np.zeros_like(arrays["step_cycles"]),
        token_step=chosen.tokens,
        stationary="output",
    )
    step = f"{chosen.outputs} outputs x {chosen.tokens} token{'s' if chosen.tokens > 1 else ''} a step"
    layer = best_layer(machine, macs, grid, arrays, work, f"{note}, {step}")
    return replace(layer, ideal_cycles=ideal_cycles)
