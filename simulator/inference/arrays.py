"""Accelerators as what runs decoders: any `Accelerator` whose spec is a `Machine`.

    linears, head, experts   its own cycle model, one matrix after the other (linears.py)
    attention                products on the arrays, K and V from DRAM, softmax on the vector unit (attending.py)
    everything else          a roofline of the vector unit (machine/whole.py) and DRAM
    between chips            a ring: 2 (n - 1) / n of the message over the link, 2 (n - 1) times its latency

Operations follow each other and nothing is kept on chip from one to the next: weights are loaded in every step, inputs
come from DRAM and outputs go there, as in the cycle models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from simulator.accelerators import Accelerator
from simulator.inference.attending import attention_of
from simulator.inference.known import random_statistics, shared
from simulator.inference.linears import Linears
from simulator.inference.runner import Numbers, Timed, WaitsOnly
from simulator.machine.parts import Machine
from simulator.machine.port import port_of
from simulator.machine.spec import spec_sha256
from simulator.statistics import StatisticsStore
from workloads.bundle import MaskBundle
from workloads.bundle_writer import STATISTICS
from workloads.counts import Counts, Elements
from workloads.decoder.bundled import MASKS, UNPRUNED, bundled, content_of
from workloads.decoder.dimensions import Decoder
from workloads.decoder.layout import Fusion
from workloads.decoder.stored import with_matrices
from workloads.errors import UserError
from workloads.files import sha256_of
from workloads.operations import DecoderOperation, linears_of
from workloads.operations.causal import CausalAttention, KvWrite, LatentAttention, Rotary
from workloads.operations.elementwise import Activation, Norm, ResidualAdd
from workloads.operations.ends import AllReduce, Embedding
from workloads.operations.expert_ffn import ExpertFfn, ExpertSum
from workloads.operations.gemm import Gemm, Matrix
from workloads.operations.moves import Gather, Scatter
from workloads.phases import Phase
from workloads.routing import Load

CYCLES = "cycle model"


@dataclass(frozen=True)
class ArrayRunner(WaitsOnly):
    """Raises UserError for a design that has no memory, or knows one token alone."""

    accelerator: Accelerator
    linears: Linears = field(default=None, repr=False)  # type: ignore[assignment]
    memo: dict[Any, Timed] = field(default=None, compare=False, repr=False)  # type: ignore[arg-type]

    source = "simulated"
    fusion = Fusion(gemms=False)
    samples = 5
    reserve_gib = 0.0
    has_errors = False

    def __post_init__(self) -> None:
        if not isinstance(self.accelerator.spec, Machine) or self.accelerator.only_tokens is not None:
            raise UserError(
                f"{self.name}: whole models need a cycle model of any number of tokens whose spec extends Machine; "
                f"{self.name} is of level {self.accelerator.level!r}"
            )
        known = self.sha256 if self.accelerator.source_sha256 is not None else ""
        if self.linears is None:
            found = Linears(self.accelerator, store=random_statistics(known), known=shared("costs", known))
            object.__setattr__(self, "linears", found)
        if self.memo is None:
            object.__setattr__(self, "memo", {} if self.linears.masked else shared("times", known))

    @property
    def name(self) -> str:
        return self.accelerator.name

    @property
    def settings(self) -> str:
        return self.accelerator.settings

    @property
    def spec(self) -> Machine:
        machine: Machine = self.accelerator.spec
        return machine

    @cached_property
    def sha256(self) -> str:
        described = spec_sha256(self.name, self.spec, of_models=True)
        source = self.accelerator.source_sha256
        return described if source == "" else sha256_of([described, source])

    @property
    def capacity_gib(self) -> float | None:
        return self.spec.memory.capacity_gib or None

    @property
    def no_capacity(self) -> str:
        return f"whether it fits is not known: memory.capacity_gib of {self.name} is not stated"

    @cached_property
    def bytes_per_us(self) -> float:
        return port_of(self.spec.dram, self.spec.clock.mhz).bytes_per_cycle * self.spec.clock.mhz

    def numbers(self, dtype: str = "", kv_bits: int | None = None, routing: str = "uniform") -> Numbers:
        """Of the machine's own widths; whatever is no bundle's has these, the head too."""
        own = self.spec.number
        if dtype:
            raise UserError(
                f"`dtype` {dtype}: {self.name} multiplies as its number.weight_bits and number.activation_bits say; "
                "leave it out, or set these"
            )
        kv = own.activation_bits if kv_bits is None else kv_bits
        elements = Elements(own.weight_bits, None, own.weight_bits, own.activation_bits, kv, routing)
        name = f"w{own.weight_bits}a{own.activation_bits}"
        return Numbers(name, name, elements)

    def holding(self, dense: Decoder, bundle: MaskBundle, tokens: frozenset[int]) -> tuple[Self, Decoder, Decoder]:
        """The unpruned one has the bundle's bits, as in a layer's speedup."""
        store = StatisticsStore(bundle.folder / STATISTICS)
        masked = {content_of(linear.weights): linear for linear in linears_of(bundle)}
        runner = type(self)(self.accelerator, Linears(self.accelerator, masked, store, tokens | {1}))
        return runner, bundled(dense, bundle, MASKS), bundled(dense, bundle, UNPRUNED)

    def time_of(self, operation: DecoderOperation, phases: Sequence[Phase], numbers: Numbers) -> Timed:
        run = RUNS.get(type(operation))
        if run is None:
            raise UserError(f"{operation.name}: {self.name} has nothing that runs it")
        return run(self, operation, phases, numbers.elements)

    def as_stored(self, decoder: Decoder, numbers: Numbers) -> Decoder:
        """Matrices of blocks as the machine stores them; where its model has them on chip from the start, as they
        are."""

        def stored(matrix: Matrix) -> Matrix:
            return replace(matrix, own_bytes=self.linears.stored_bytes(matrix) or None)

        return with_matrices(decoder, stored, stored)


def _timed(us: Sequence[float], bound: Sequence[str], kernel: str, assumed: str, counts: Sequence[Counts]) -> Timed:
    unknown, inside = np.full(len(us), np.nan), np.full(len(us), "", dtype=object)
    return Timed(
        np.array(us), np.array(bound, dtype=object), unknown, inside, kernel, assumed, counts=tuple(counts)
    )  # fmt: skip


def _gemm(runner: ArrayRunner, one: Gemm, phases: Sequence[Phase], elements: Elements) -> Timed:
    return _of_runs(
        [[(matrix, one.tokens(phase), 1.0) for matrix in one.matrices] for phase in phases],
        runner,
        [Counts()] * len(phases),
    )


def _experts(runner: ArrayRunner, one: ExpertFfn, phases: Sequence[Phase], elements: Elements) -> Timed:
    """Every expert that is hit, one after the other, as often as it is on average; activations between on the vector
    unit."""
    runs, activations = [], []
    for phase in phases:
        visited = one.visited(phase.tokens, elements.routing)
        runs.append(
            [
                (matrix, tokens, weight * each.number)
                for each in visited
                for matrix in (*each.ups, each.down)
                for tokens, weight in Load(each.tokens, each.hit).parts
            ]
        )
        width = Activation("", "", -1, 1, one.activation, one.is_gated).counts(replace(phase, batch=1, new=1), elements)
        sizes = sum(each.number * each.visits * each.down.in_features for each in visited)
        activations.append(width * sizes)
    return _of_runs(runs, runner, activations)


def _of_runs(
    runs: Sequence[Sequence[tuple[Matrix, int, float]]], runner: ArrayRunner, between: Sequence[Counts]
) -> Timed:
    """Of each phase the matrices with their tokens and how often they run, and what the vector unit does between."""
    us, bounds, counts = [], [], []
    for phase, other in zip(runs, between, strict=True):
        costs = [(runner.linears.cost(matrix, tokens), times) for matrix, tokens, times in phase]
        us.append(sum(cost.us * times for cost, times in costs) + _roofline(runner, other)[0])
        bounds.append(max(costs, key=lambda run: run[0].us * run[1])[0].bound)
        counts.append(sum((cost.counts * times for cost, times in costs), other))
    return _timed(us, bounds, CYCLES, "", counts)


def _roofline(runner: ArrayRunner, counts: Counts) -> tuple[float, str]:
    vector, memory = counts.flop / runner.spec.vector_per_us, counts.bytes_moved / runner.bytes_per_us
    return max(vector, memory), "vector" if vector > memory else "memory"


def _elementwise(runner: ArrayRunner, one: DecoderOperation, phases: Sequence[Phase], elements: Elements) -> Timed:
    counts = [one.counts(phase, elements) for phase in phases]
    us, bounds = zip(*(_roofline(runner, each) for each in counts), strict=True)
    return _timed(us, bounds, "vector unit", "roofline of vector.lanes and DRAM", counts)


def _copy(runner: ArrayRunner, one: DecoderOperation, phases: Sequence[Phase], elements: Elements) -> Timed:
    return replace(_elementwise(runner, one, phases, elements), kernel="DRAM", assumed="its bytes alone")


def _attention(
    runner: ArrayRunner, one: CausalAttention | LatentAttention, phases: Sequence[Phase], elements: Elements
) -> Timed:
    found = [attention_of(runner.accelerator, one, phase, elements) for phase in phases]
    us, bounds = [], []
    for each in found:
        softmax = each.softmax_operations / runner.spec.vector_per_us
        times = {"compute": each.array_us, "memory": each.memory_us, "vector": softmax}
        us.append(max(each.array_us, each.memory_us) + softmax)
        bounds.append(max(times, key=lambda name: times[name]))
    said = "scores stay on chip; softmax, a roofline, behind the products"
    return _timed(us, bounds, "array, DRAM, vector unit", said, [each.counts for each in found])


def _all_reduce(runner: ArrayRunner, one: AllReduce, phases: Sequence[Phase], elements: Elements) -> Timed:
    """A ring: n - 1 steps that sum and n - 1 that hand the sums on, of a part of 1 / n each."""
    counts = [one.counts(phase, elements) for phase in phases]
    link, steps = runner.spec.link, 2 * (one.ranks - 1)
    us = [steps * (each.bytes_link / one.ranks / (link.bandwidth_gbps * 1e3) + link.latency_us) for each in counts]
    return _timed(us, ["communication"] * len(us), "link", "ring of link.bandwidth_gbps and link.latency_us", counts)


Run = Callable[[ArrayRunner, Any, Sequence[Phase], Elements], Timed]
RUNS: dict[type[DecoderOperation], Run] = {
    Gemm: _gemm, ExpertFfn: _experts, CausalAttention: _attention, LatentAttention: _attention, Norm: _elementwise,
    Rotary: _elementwise, ResidualAdd: _elementwise, Activation: _elementwise, ExpertSum: _elementwise,
    Embedding: _copy, KvWrite: _copy, Gather: _copy, Scatter: _elementwise, AllReduce: _all_reduce,
}  # fmt: skip
