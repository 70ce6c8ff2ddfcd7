"""Parts that machine descriptions share, with the ranges their values may have."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from collections.abc import Mapping as Values
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import Field

from simulator.energy import EnergySpec, UnitEnergies, unit_energies
from simulator.machine.whole import MACS_PER_LANE, Link, Memory, Vector
from workloads.errors import UserError

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(ge=1e-6, le=1e9, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Side = Annotated[int, Field(gt=0, le=65536)]
Bits = Annotated[int, Field(gt=0, le=64)]
Whole = Annotated[int, Field(ge=0)]
NotNegative = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Mhz = Annotated[float, Field(ge=1, le=1e5)]
Gbps = Annotated[float, Field(ge=1e-3, le=1e9)]

DramDevice = Literal["generic", "DDR4-3200", "LPDDR5-6400", "GDDR6", "HBM2", "HBM3"]
OF_MODELS = {"of_models": True}  # of a section that no layer depends on
Objective = Literal["latency", "energy", "edp"]  # what the best mapping has least of, as tiling/search.py says


@dataclass(frozen=True)
class Array:
    """width columns (lanes) of height processing elements, one MAC a cycle each."""

    width: Side
    height: Side


@dataclass(frozen=True)
class Clock:
    mhz: Mhz


@dataclass(frozen=True)
class Buffers:
    """On-chip buffers: capacities, and what each delivers a cycle (0: as much as the array asks for).

    double: each is two halves, one fills while the other is used. ports = 1: filling a buffer takes its cycles away
    from reading it.
    banks: of each buffer; one access goes to one bank, which is what its energy follows.
    """

    weight_kib: PositiveFloat
    index_kib: PositiveFloat
    activation_kib: PositiveFloat
    output_kib: PositiveFloat
    weight_bytes_per_cycle: NotNegative = 0.0
    index_bytes_per_cycle: NotNegative = 0.0
    activation_bytes_per_cycle: NotNegative = 0.0
    output_bytes_per_cycle: NotNegative = 0.0
    ports: Literal[1, 2] = 2
    double: bool = True
    banks: PositiveInt = 1

    def share(self, part: float) -> "Buffers":
        """What one of several parts of a machine has: of capacities, and of what they deliver."""
        sizes = {
            f"{name}{unit}": getattr(self, f"{name}{unit}") * part
            for name in ("weight", "index", "activation", "output")
            for unit in ("_kib", "_bytes_per_cycle")
        }
        return replace(self, **sizes)

    @property
    def capacities(self) -> tuple[float, float, float, float]:
        """Bytes, in the order weight, index, activation, output."""
        return (self.weight_kib * 1024, self.index_kib * 1024, self.activation_kib * 1024, self.output_kib * 1024)

    @property
    def bank_bytes(self) -> tuple[float, float, float, float]:
        weight, index, activation, output = (capacity / self.banks for capacity in self.capacities)
        return weight, index, activation, output

    @property
    def widths(self) -> tuple[float, float, float, float]:
        """Bytes a cycle, same order; 0 = no limit."""
        return (
            self.weight_bytes_per_cycle,
            self.index_bytes_per_cycle,
            self.activation_bytes_per_cycle,
            self.output_bytes_per_cycle,
        )


@dataclass(frozen=True)
class Dram:
    """device "generic": bandwidth_gbps x efficiency, and the energy of energy.dram; a named device: `channels` of it,
    by the bank model, with its own energy (in Python: machine/devices.py). GB = 1e9 bytes."""

    bandwidth_gbps: Gbps
    efficiency: Fraction = 1.0
    device: DramDevice = "generic"
    channels: PositiveInt = 1


GENERIC_ALONE = ("dram.bandwidth_gbps", "dram.efficiency", "energy.dram")
NAMED_ALONE = ("dram.channels",)


def unheard(spec_type: Any, values: Values[str, Any]) -> tuple[str, ...]:
    """The keys that have no effect beside the DRAM device that `values` of a `spec_type` name; none where its DRAM is
    of a class of its own."""
    device = _device(values)
    if get_type_hints(spec_type).get("dram") is not Dram or device not in get_args(DramDevice):
        return ()
    return NAMED_ALONE if device == "generic" else GENERIC_ALONE


def check_heard(name: object, spec_type: Any, values: Values[str, Any], keys: Iterable[str]) -> None:
    """Raises UserError for the first of `keys`, the ones that were just set in `values`, that has no effect beside the
    DRAM device there now. What an earlier setting or the preset said is not among them: a device may be put in its
    place."""
    asked = [key for key in keys if key in (*GENERIC_ALONE, *NAMED_ALONE)]
    key = next((key for key in asked if key in unheard(spec_type, values)), None)
    if key is None:
        return
    device = _device(values)
    if device == "generic":
        named = ", ".join(each for each in get_args(DramDevice) if each != "generic")
        raise UserError(
            f"{name}: {key} has no effect beside dram.device = generic, which delivers dram.bandwidth_gbps x "
            f"dram.efficiency, so leave it out, or name a device ({named})"
        )
    raise UserError(
        f"{name}: {key} has no effect beside dram.device = {device}, which brings its own bandwidth and energy; leave "
        "it out (dram.channels says how many), or set dram.device = generic"
    )


def _device(values: Values[str, Any]) -> str:
    return str(values.get("dram", {}).get("device", "generic"))


@dataclass(frozen=True)
class Number:
    """Bits of stored values, of partial sums, and of a scale shared by a group of quantized weights."""

    weight_bits: Bits = 8
    activation_bits: Bits = 8
    accumulator_bits: Bits = 32
    scale_bits: Bits = 16


@dataclass(frozen=True)
class Mapping:
    """The mapper's choices, fixed where not 0 or "best"; tile sizes are multiples of the design's granule. objective:
    see `search`."""

    tile_rows: Whole = 0
    tile_cols: Whole = 0
    tile_tokens: Whole = 0
    order: Literal["best", "tokens-outer", "rows-outer"] = "best"
    objective: Objective = "latency"


@dataclass(frozen=True)
class Machine(ABC):
    """What every cycle model has; a design adds its array. A preset may leave out `number` and `mapping`: 8 bits, the
    mapper's choice; and `vector`, `memory` and `link`, which whole models alone ask for."""

    clock: Clock
    buffers: Buffers
    dram: Dram
    number: Number = field(default=Number(), kw_only=True)
    mapping: Mapping = field(default=Mapping(), kw_only=True)
    vector: Vector = field(default=Vector(), kw_only=True, metadata=OF_MODELS)
    memory: Memory = field(default=Memory(), kw_only=True, metadata=OF_MODELS)
    link: Link = field(default=Link(), kw_only=True, metadata=OF_MODELS)
    energy: EnergySpec

    @property
    @abstractmethod
    def macs(self) -> int:
        """MAC units: products a cycle at most."""

    @property
    def rows_in_step(self) -> int:
        """Outputs, each so many in turn, that run side by side and wait for the one with most kept weights; 1 where
        none waits, or for other reasons."""
        return 1

    @property
    def vector_per_us(self) -> float:
        """Operations of the vector unit."""
        return (self.vector.lanes or max(self.macs // MACS_PER_LANE, 1)) * (self.vector.mhz or self.clock.mhz)

    @property
    def energy_spec(self) -> EnergySpec:
        """`energy`, but that a named DRAM device costs its own: energy.dram is that of a generic one."""
        return self.energy if self.dram.device == "generic" else replace(self.energy, dram=self.dram.device)

    def bits(self, weight_bits: int) -> tuple[int, int, int]:
        """Of weights, activations and sums, as the multipliers see them."""
        return weight_bits, self.number.activation_bits, self.number.accumulator_bits

    def unit_energies(self, weight_bits: int) -> UnitEnergies:
        """Of one action of each kind, with weights of `weight_bits`."""
        return unit_energies(self.energy_spec, self.bits(weight_bits), self.buffers.bank_bytes)
