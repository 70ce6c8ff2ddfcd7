"""A design to check: how to make its machines, its twin, and the layers to run on them."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from simulator.accelerators import ACCELERATORS, Accelerator
from simulator.accelerators.named import open_accelerator
from simulator.answers import arrays_of, outcome_of
from simulator.cycles import Infeasible, Outcome
from simulator.statistics import Statistics
from simulator.work import Work
from validation.conformance.laws import Skipped
from validation.runs import codes_of
from validation.twins.twin import Twin
from workloads.mask import PackedMask

ROOMY_KIB = 65536
VALUE = 77  # of every kept weight, where a design reads values: four one-bits of seven
DENSITIES = (0.0, 0.1, 0.5, 0.9, 1.0)
MOST = (40, 150, 9)  # outputs, inputs, tokens of a random layer


@dataclass(frozen=True)
class Layer:
    """A random layer that is the same everywhere. corner: the last weight alone is kept."""

    rows: int
    cols: int
    tokens: int = 1
    density: float = 1.0
    seed: int = 0
    weight_bits: int | None = None
    group_size: int | None = None
    corner: bool = False

    def kept(self) -> np.ndarray:
        """(rows, cols) bool"""
        kept = np.random.default_rng(self.seed).random((self.rows, self.cols)) < self.density
        if self.corner:
            kept[-1, -1] = True
        return kept

    def __str__(self) -> str:
        bits = f", {self.weight_bits} bits" if self.weight_bits else ""
        bits += f" in groups of {self.group_size}" if self.group_size else ""
        kept = "last weight alone kept" if self.corner else f"density {self.density:g}, seed {self.seed}"
        return f"{self.rows} x {self.cols}, {self.tokens} tokens, {kept}{bits}"


@dataclass(frozen=True)
class Case:
    """A layer on a machine, which is the preset but for `sets`."""

    sets: tuple[str, ...]
    layer: Layer

    def __str__(self) -> str:
        return f"{self.layer}" + (f"; {' '.join(self.sets)}" if self.sets else "")


@dataclass(frozen=True)
class Design:
    """`make(*overrides)` builds a machine."""

    name: str
    make: Callable[..., Accelerator]
    twin: Twin | None = None
    not_promised: Mapping[str, str] = field(default_factory=dict)

    @property
    def machines(self) -> tuple[tuple[str, ...], ...]:
        return self.twin.machines if self.twin else ((),)

    def machine(self, *overrides: str) -> Accelerator:
        return _made(self.make, overrides)

    def roomy(self, *overrides: str) -> Accelerator:
        """With buffers that hold every layer of these checks whole."""
        buffers = getattr(self.machine().spec, "buffers", None)
        names = [f.name for f in fields(buffers) if f.name.endswith("_kib")] if is_dataclass(buffers) else []
        return self.machine(*overrides, *(f"buffers.{name}={ROOMY_KIB}" for name in names))


@lru_cache(maxsize=1024)
def _made(make: Callable[..., Accelerator], overrides: tuple[str, ...]) -> Accelerator:
    return make(*overrides)


def design_of(accelerator: type[Accelerator] | Accelerator | str) -> Design:
    """Of a class, of a design, whose settings then stay as they are, or of a name as the command line takes it."""
    make: Callable[..., Accelerator]
    if isinstance(accelerator, str):
        make = partial(_opened, accelerator)
    else:
        make = accelerator.changed if isinstance(accelerator, Accelerator) else accelerator
    machine = make()
    twin = twin_of(type(machine))
    promised = {**(twin.not_promised if twin else {}), **getattr(machine, "not_promised", {})}
    return Design(machine.name, make, twin, promised)


def _opened(name: str, *overrides: str) -> Accelerator:
    return open_accelerator(name, overrides)


def twin_of(cls: type[Accelerator]) -> Twin | None:
    """What the class states as `twin`, a Twin or the function that runs a layer; of ours, what lies in
    validation/twins."""
    stated = getattr(cls, "twin", None)
    if isinstance(stated, Twin):
        return stated
    if callable(stated):
        return Twin(stated)
    if cls not in ACCELERATORS.values():
        return None
    module = importlib.import_module(f"validation.twins.{cls.name.replace('-', '_')}")
    return getattr(module, "TWIN", None)


def random_layers(design: Design, seed: int, each: int) -> Iterator[Case]:
    """`each` random layers on every machine."""
    for place, sets in enumerate(design.machines):
        rng = np.random.default_rng((seed, place))
        for _ in range(each):
            rows, cols, tokens = (int(rng.integers(1, most + 1)) for most in MOST)
            density, drawn = float(rng.choice(DENSITIES)), int(rng.integers(10**6))
            yield Case(sets, Layer(rows, cols, tokens, density, drawn))


def quantized_layers(design: Design, seed: int, each: int) -> Iterator[Case]:
    """Random layers of the weight bits and group sizes that the twin may be asked for."""
    widths = design.twin.weight_bits if design.twin else ((None, None),)
    for case in random_layers(design, seed, each):
        bits, group = widths[case.layer.seed % len(widths)]
        yield Case(case.sets, replace(case.layer, weight_bits=bits, group_size=group))


def run(
    machine: Accelerator, layer: Layer, kept: np.ndarray | None = None, weights: np.ndarray | None = None
) -> Outcome:
    """weights: integers, where the design reads values; VALUE everywhere otherwise. Raises Skipped for what does not
    fit."""
    try:
        return attempt(machine, layer, kept, weights)
    except Infeasible as error:
        raise Skipped(str(error)) from None


def attempt(
    machine: Accelerator, layer: Layer, kept: np.ndarray | None = None, weights: np.ndarray | None = None
) -> Outcome:
    """As `run`, raising Infeasible."""
    kept = layer.kept() if kept is None else kept
    return outcome_of(machine, work_of(machine, layer, kept), statistics_of(machine, kept, weights))


def work_of(machine: Accelerator, layer: Layer, kept: np.ndarray) -> Work:
    bits, group = (8, None) if machine.reads_values else (layer.weight_bits, layer.group_size)
    rows, cols = kept.shape
    return Work(rows, cols, int(kept.sum()), machine.only_tokens or layer.tokens, bits, group)


def statistics_of(machine: Accelerator, kept: np.ndarray, weights: np.ndarray | None = None) -> Statistics:
    values: dict[str, Any] = {}
    if machine.reads_values:
        values = codes_of(np.where(kept, VALUE, 0) if weights is None else weights)
    return Statistics(arrays_of(machine, machine.gather(PackedMask.from_dense(kept), lambda: values)))
