"""Cost tables: every unit of a decoder under every choice, on anything that runs decoders, or by a measured record.

Masks of the table are made: random ones of the very shape and share, the same for all matrices that are alike, so a
model of many equal blocks costs as much as one block; with as many zeros in every row where the method prunes by rows,
which some arrays run much faster. What comes out of a method has yet another spread of its zeros; the final masks are
therefore run again (studies/speed/meet.py)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from simulator.accelerators import Accelerator
from simulator.gpu.operators.stack import Stack
from simulator.inference.arrays import ArrayRunner
from simulator.inference.linears import Linears, random_linear
from simulator.inference.runner import Numbers, Runner
from simulator.inference.steps import times_of
from simulator.runners import find_runner
from simulator.simulate import rows_on
from simulator.targets import find_target
from studies.speed.recorded import RecordRunner, means_record
from workloads import __version__
from workloads.bundle import BundleHeader
from workloads.choices import Choice
from workloads.conditions import Conditions
from workloads.cost_curve import ROWS_IN_STEP
from workloads.cost_table import CostTable, Unit
from workloads.costs import cost_of
from workloads.decoder.bundled import content_of, role_in_block
from workloads.decoder.dimensions import Decoder
from workloads.decoder.layout import layout
from workloads.errors import UserError, unknown
from workloads.even_rows import even_rows
from workloads.files import sha256_of
from workloads.layers import Layer
from workloads.mask import PackedMask
from workloads.operations.gemm import BITMAP, Gemm, Matrix
from workloads.operations.linear import Linear, Weights
from workloads.patterns import DENSE, UNSTRUCTURED
from workloads.phases import Phase
from workloads.targets import Target

MEASURES = ("us", "energy_pj", "bytes", "flop", "parameters")
WITHOUT_MASKS = ("flop", "parameters")
Done = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Machine:
    """What a table is made on: how it was named, what runs decoders there, with which numbers and host. `even`: masks
    made for it, by what tells them apart; where a machine looks at masks it looks them up here."""

    on: str | Accelerator
    sets: tuple[str, ...]
    runner: Runner
    numbers: Numbers
    host: str
    stack: Stack
    even: dict[str, Linear]

    @classmethod
    def open(cls, on: str | Accelerator, sets: Sequence[str] = (), dtype: str = "", host: str = "") -> "Machine":
        """Raises UserError."""
        runner, even = _runner_of(on, sets), dict[str, Linear]()
        if isinstance(runner, ArrayRunner):
            runner = ArrayRunner(runner.accelerator, Linears(runner.accelerator, even))
        said, stack = runner.host(host)
        return cls(on, tuple(sets), runner, runner.numbers(dtype), said, stack, even)

    @property
    def target(self) -> Target:
        """What counts energy and bytes of linears there. Raises UserError for a record."""
        if isinstance(self.runner, RecordRunner):
            raise UserError(f"a record of {self.runner.name} holds times alone; choose us, flop or parameters")
        return find_target(self.on, self.sets)

    @property
    def sees_masks(self) -> bool:
        return isinstance(self.runner, ArrayRunner)

    @property
    def rows_in_step(self) -> int:
        """As the design's spec has it."""
        return self.runner.spec.rows_in_step if isinstance(self.runner, ArrayRunner) else 1

    def evenly(self, matrix: Matrix) -> Matrix:
        """Under a mask that keeps as many of every row, in the place of one of which only the count is known."""
        if matrix.stored != BITMAP or not self.sees_masks:
            return matrix
        kept, sides = round(matrix.nnz or 0), (matrix.out_features, matrix.in_features)
        weights = Weights(
            UNSTRUCTURED, kept, "even rows {} x {} {}".format(*sides, kept), partial(even_rows, 0, *sides, kept),
            matrix.weight_bits, matrix.group_size,
        )  # fmt: skip
        content = content_of(weights)
        self.even.setdefault(content, Linear(matrix.role, matrix.role, -1, *sides, weights))
        return replace(matrix, stored=DENSE, nnz=None, mask=content)

    def facts(self, phase: Phase) -> dict[str, Any]:
        return {
            "target": self.runner.name, "settings": self.runner.settings, "spec_sha256": self.runner.sha256,
            "source": self.runner.source, "dtype": self.numbers.name, "host": self.host,
            "phase": {"name": phase.name, "batch": phase.batch, "new": phase.new, "context": phase.context},
        }  # fmt: skip


def _runner_of(on: str | Accelerator, sets: Sequence[str]) -> Runner:
    return RecordRunner.open(on) if isinstance(on, str) and means_record(on) else find_runner(on, sets)


def units_of(decoder: Decoder, layers: Sequence[Layer], machine: Machine) -> list[tuple[Unit, Gemm]]:
    """The matrices `layers` as the machine runs them together. Raises UserError where none of them is one that a
    decoder is known to run by itself; routed experts are left as they are."""
    names = {(layer.block, role_in_block(layer)): layer for layer in layers}
    found = []
    for operation in layout(decoder, machine.runner.fusion):
        if not isinstance(operation, Gemm) or operation.over != "new":
            continue
        own = [names.get((operation.block, matrix.role)) for matrix in operation.matrices]
        members = [layer for layer in own if layer is not None]
        if members and len(members) == len(own):
            weights = sum(layer.n_weights for layer in members)
            found.append((Unit(operation.name, tuple(layer.name for layer in members), weights), operation))
    if not found:
        raise UserError(f"none of the {len(layers)} chosen matrices is one that {machine.runner.name} runs by itself")
    return found


def cost_table(
    decoder: Decoder,
    layers: Sequence[Layer],
    machine: Machine,
    phase: Phase,
    choices: Sequence[Choice],
    measure: str = "us",
    group_size: int = 0,
    done: Done = lambda what, number, of: None,
    unpruned: float = 0.0,
    even: bool = False,
) -> CostTable:
    """Of the matrices `layers` of a dense decoder. `measure`: us of the whole phase; energy_pj and bytes of the linears
    alone; flop (two a kept weight and token) and parameters, which need no machine. `unpruned` as CostTable has it.
    `even`: masks that keep as many of every row. Raises UserError."""
    if measure not in MEASURES:
        raise unknown("measure of cost", measure, MEASURES)
    units = units_of(decoder, layers, machine)
    known: dict[tuple[Any, Choice], float] = {}
    costs = np.full((len(units), len(choices)), np.nan)
    cost = _costing(machine, phase, measure)
    made = machine.evenly if even and measure not in WITHOUT_MASKS else _as_it_is
    for n, (_, gemm) in enumerate(units):
        done(f"costs on {machine.runner.name}", n, len(units))
        alike = tuple(replace(matrix, role="") for matrix in gemm.matrices)
        for j, choice in enumerate(choices):
            if (alike, choice) not in known:
                known[alike, choice] = _of_choice(gemm, choice, group_size, cost, made)
            costs[n, j] = known[alike, choice]
    if np.isnan(costs[:, 0]).any():
        unit = units[int(np.isnan(costs[:, 0]).argmax())][0].name
        raise UserError(f"{unit} cannot run on {machine.runner.name} as it is, so nothing can be made faster there")
    whole = times_of(machine.runner, decoder, phase, machine.numbers, machine.stack).us() if measure == "us" else None
    fixed = max(0.0, whole - float(costs[:, 0].sum())) if whole is not None else 0.0
    facts = {
        **machine.facts(phase), "masks": "even rows" if even else "anywhere", "group_size": group_size,
        "tool_version": __version__, **({ROWS_IN_STEP: machine.rows_in_step} if machine.rows_in_step > 1 else {}),
    }  # fmt: skip
    return CostTable(measure, tuple(unit for unit, _ in units), tuple(choices), costs, fixed, facts, unpruned)


def cached_table(path: Path, make: Callable[[], CostTable], key: dict[str, Any]) -> CostTable:
    """Read from `path` where it was made of the same `key`, else made and written there."""
    wanted = sha256_of(key)
    if path.is_file():
        try:
            kept = CostTable.read(path)
            if kept.facts.get("key") == wanted:
                return kept
        except UserError:
            pass  # damaged: made again
    made = make()
    made = replace(made, facts={**made.facts, "key": wanted})
    made.write(path)
    return made


def under(matrix: Matrix, choice: Choice, group_size: int = 0) -> Matrix | None:
    """None where the pattern or the groups do not divide its inputs."""
    if choice.pattern is not None and matrix.in_features % choice.pattern.m:
        return None
    if choice.bits is not None:
        if group_size and matrix.in_features % group_size:
            return None
        matrix = replace(matrix, weight_bits=choice.bits, group_size=group_size or matrix.in_features)
    if choice.pattern is not None:
        return replace(matrix, stored=str(choice.pattern))
    return replace(matrix, stored=BITMAP, nnz=round(matrix.n_weights * (1 - choice.zeros))) if choice.zeros else matrix


def _as_it_is(matrix: Matrix) -> Matrix:
    return matrix


def _of_choice(
    gemm: Gemm, choice: Choice, group_size: int, cost: Callable[[Gemm], float], made: Callable[[Matrix], Matrix]
) -> float:
    matrices = [under(matrix, choice, group_size) for matrix in gemm.matrices]
    if any(matrix is None for matrix in matrices):
        return float("nan")
    try:
        return cost(replace(gemm, name="", block=-1, matrices=tuple(made(m) for m in matrices if m is not None)))
    except UserError:
        if not choice.is_masked and choice.bits is None:
            raise
        return float("nan")  # the machine cannot run it: no choice there


def _costing(machine: Machine, phase: Phase, measure: str) -> Callable[[Gemm], float]:
    if measure == "us":
        return lambda gemm: float(machine.runner.time_of(gemm, [phase], machine.numbers).us[0])
    if measure == "parameters":
        return lambda gemm: float(sum(_kept(matrix) for matrix in gemm.matrices))
    if measure == "flop":
        return lambda gemm: 2.0 * gemm.tokens(phase) * sum(_kept(matrix) for matrix in gemm.matrices)
    target, header = machine.target, BundleHeader("", "generated")

    def of_rows(gemm: Gemm) -> float:
        rows = rows_on([target], header, _linears(gemm, machine), Conditions(gemm.tokens(phase)))
        costs = [cost_of(row) for row in rows]
        found = [each.energy_pj if measure == "energy_pj" else each.moved_bytes for each in costs]
        if any(value is None for value in found):
            raise UserError(f"{target.name} counts no {measure}; choose another measure of cost")
        return float(sum(value for value in found if value is not None))

    return of_rows


def _linears(gemm: Gemm, machine: Machine) -> Iterator[Linear]:
    for matrix in gemm.matrices:
        if matrix.mask:
            yield machine.even[matrix.mask]
            continue
        if matrix.stored != DENSE:
            yield random_linear(matrix)
            continue
        sides = matrix.out_features, matrix.in_features
        weights = Weights(
            DENSE, matrix.n_weights, "dense {} x {}".format(*sides), partial(PackedMask.dense, *sides),
            matrix.weight_bits, matrix.group_size,
        )  # fmt: skip
        yield Linear(matrix.role, matrix.role, -1, *sides, weights)


def _kept(matrix: Matrix) -> float:
    if matrix.stored == DENSE:
        return float(matrix.n_weights)
    return float(random_linear(matrix).weights.nnz)
