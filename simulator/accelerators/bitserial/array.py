"""What bit-serial designs share: two arrangements of the lanes, and the layer under the better one by `search`'s rule.

A lane multiplies one bit of a weight with a whole input in a cycle. `group` lanes side by side add into one sum, so a
step takes `group` inputs of some outputs and some tokens. Weights come from their buffer at every step, sums stay in
the array. In the arrangement for many tokens, `outputs` outputs meet `tokens` tokens; in the one for few,
`single_outputs` outputs meet one.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from simulator.cycles import LayerCycles, ceil_div
from simulator.machine.parts import Machine, Side
from simulator.statistics import Statistics
from simulator.tiling.granules import Granules
from simulator.tiling.mapper import Cut, best_layer
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

    def __str__(self) -> str:
        return f"{self.outputs} outputs x {self.tokens} token{'s' if self.tokens > 1 else ''} a step"


def arrangements(
    array: BitSerialArray, statistics: Statistics, key: object, build: Callable[[int], dict[str, np.ndarray]]
) -> list[Arrangement]:
    """Both, for many tokens first. build(outputs) makes the arrays of Arrangement; kept with `statistics`, by `array`
    and `key`: whatever else build depends on."""
    memo = statistics.memo
    if (key, array) not in memo:
        memo[key, array] = [
            Arrangement(outputs, tokens, Statistics(build(outputs)))
            for outputs, tokens in ((array.outputs, array.tokens), (array.single_outputs, 1))
        ]
    return memo[key, array]


def arranged_layer(
    machine: Machine, choices: list[Arrangement], work: Work, ideal_cycles: float, note: str, value_bits: int
) -> LayerCycles:
    """The layer under the better arrangement. value_bits: of a weight, for the energy of a MAC."""
    cuts = [Cut(granules_of(choice), choice.statistics, f"{note}, {choice}") for choice in choices]
    return replace(best_layer(machine, cuts, work, value_bits), ideal_cycles=ideal_cycles)


def granules_of(choice: Arrangement) -> Granules:
    arrays = choice.statistics
    return Granules(
        rows=arrays["rows"],
        cols=arrays["cols"],
        values=arrays["values"],
        metadata_bits=arrays["metadata_bits"],
        step_cycles=arrays["step_cycles"],
        visit_cycles=np.zeros_like(arrays["step_cycles"]),
        token_step=choice.tokens,
        stationary="output",
    )
