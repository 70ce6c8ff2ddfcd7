"""What masks have to meet: a factor by which a phase, its energy, bytes, FLOP or the parameters fall, each with its
cost table and what the very masks then cost."""

from collections.abc import Callable
from dataclasses import dataclass

from simulator.inference.steps import times_of
from simulator.simulate import rows_on
from studies.speed.costs import MEASURES, WITHOUT_MASKS, Machine
from workloads.bundle import MaskBundle
from workloads.conditions import Conditions
from workloads.cost_table import CostTable
from workloads.costs import Cost, cost_of
from workloads.decoder.dimensions import Decoder
from workloads.errors import UserError
from workloads.operations import linears_of
from workloads.phases import Phase
from workloads.targets import Target

PHASES = ("prefill", "decode")
NAMES = (*PHASES, *MEASURES[1:])


@dataclass(frozen=True)
class Demand:
    """`costs(bundle)`: of the whole with its masks, in the table's measure; `factor`: the table's reference over that,
    at least."""

    name: str
    factor: float
    table: CostTable
    costs: Callable[[MaskBundle], float]
    asked: str = ""

    @property
    def budget(self) -> float:
        """Of the units together. Raises UserError where it cannot be met."""
        return self.table.budget(self.factor, self.asked)


def parse_also(text: str | None) -> dict[str, float]:
    """ "prefill:1.25,energy_pj:1.4" -> factors by name. Raises UserError."""
    found: dict[str, float] = {}
    for part in (text or "").split(",") if text else ():
        name, _, number = part.strip().rpartition(":")
        try:
            factor = float(number)
        except ValueError:
            factor = 0.0
        if name not in NAMES or not 1 <= factor < float("inf"):
            raise UserError(
                f"`also` {part.strip()!r}: a name of {', '.join(NAMES)} and a factor of 1 or more, as in prefill:1.25"
            )
        if name in found:
            raise UserError(f"`also` names {name} twice; leave one out")
        found[name] = factor
    return found


def whole_us(machine: Machine, phase: Phase, decoder: Decoder, bundle: MaskBundle) -> float:
    """Of the phase with the bundle's own masks."""
    runner, left, _ = machine.runner.holding(decoder, bundle, frozenset({phase.tokens}))
    return times_of(runner, left, phase, machine.numbers, machine.stack).us()


def of_matrices(machine: Machine, phase: Phase, measure: str, names: frozenset[str], bundle: MaskBundle) -> float:
    """energy_pj, bytes, flop or parameters of the matrices `names` with the bundle's own masks. Raises UserError where
    the machine does not count it."""
    if measure in WITHOUT_MASKS:
        kept = sum(entry.nnz for entry in bundle.layers if entry.name in names)
        return float(kept if measure == "parameters" else 2 * phase.tokens * kept)
    target = machine.target
    linears = (linear for linear in linears_of(bundle) if linear.name in names)
    rows = rows_on([target], bundle.header, linears, Conditions(phase.tokens))
    return sum(measured(cost_of(row), measure, target) for row in rows)


def measured(cost: Cost, measure: str, target: Target) -> float:
    """us, energy_pj or bytes of a cost. Raises UserError where the target does not count it."""
    found = {"us": cost.latency_us, "energy_pj": cost.energy_pj, "bytes": cost.moved_bytes}[measure]
    if found is None:
        raise UserError(f"{target.name} counts no {measure}; choose another measure of cost")
    return float(found)
