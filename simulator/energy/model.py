"""Energy of a layer from its action counts, and area of a design.

Counted: MACs, their operand registers, reads and writes of the on-chip buffers, DRAM. Left out: leakage, clock tree,
interconnect between buffers and MACs, control, decoders and sorters of sparse formats, the DRAM's background and
refresh energy, its controller and PHY (in area too). So absolute values are mostly below a chip's (operand
registers are the exception, see `layer_energy`), and comparing a sparse machine with a dense one flatters the sparse
one by what its control costs.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from simulator.actions import BUFFERS, Actions
from simulator.energy import components, constants, scaling
from simulator.energy.components import NumberType
from simulator.energy.scaling import Node
from workloads.errors import UserError, meant

Device = Literal["DDR4-3200", "LPDDR5-6400", "GDDR6", "HBM2", "HBM3", "generic"]
Bits = tuple[int, int, int]  # weight, activation, accumulator
PerBuffer = tuple[float, float, float, float]  # in the order of actions.BUFFERS


@dataclass(frozen=True)
class EnergySpec:
    """What a machine is made of, as far as energy and area go.

    node_nm: process node; logic and SRAM are scaled to it at 0.8 V (`scaling`).
    number_type: whether the MACs are integer or floating point.
    gating: what a MAC slot without a kept weight costs. "none": a whole MAC with its registers, an upper bound, as a
        zero times anything toggles less; "idle": the share that Sparseloop's table has for gated MACs and latches.
    dram: device behind the chip's border, by its energy per bit; it has no node.
    """

    node_nm: Node
    number_type: NumberType = "int"
    gating: Literal["none", "idle"] = "none"
    dram: Device = "generic"


@dataclass(frozen=True)
class UnitEnergies:
    """pJ of one action of each kind: a MAC, its registers, an idle MAC slot; one bit of each buffer and of DRAM."""

    mac_pj: float
    register_pj: float
    idle_pj: float
    read_pj: PerBuffer
    write_pj: PerBuffer
    dram_pj: float


@dataclass(frozen=True)
class Energy:
    """Of one execution of one layer. `register_pj` is the operand registers' of `macs`, `idle_pj` all of idle slots."""

    mac_pj: float
    idle_pj: float
    register_pj: float
    buffer_pj: float
    dram_pj: float

    @property
    def total_pj(self) -> float:
        return self.mac_pj + self.idle_pj + self.register_pj + self.buffer_pj + self.dram_pj


@dataclass(frozen=True)
class Area:
    """`mac_mm2` holds the operand registers too."""

    mac_mm2: float
    buffer_mm2: float

    @property
    def total_mm2(self) -> float:
        return self.mac_mm2 + self.buffer_mm2


@functools.lru_cache(maxsize=4096)
def unit_energies(spec: EnergySpec, bits: Bits, buffer_bytes: PerBuffer) -> UnitEnergies:
    """Energy of each action of a design. bits: weight, activation, accumulator, as the multipliers see them.

    buffer_bytes: capacity of the SRAM that one access goes to (a bank, where a buffer has banks); 0 = no such buffer,
    its energy is 0. Raises UserError for an unknown node or DRAM device.
    """
    if spec.dram not in constants.DRAM_PJ_PER_BIT:
        known = f"{meant(spec.dram, constants.DRAM_PJ_PER_BIT)}known are {', '.join(constants.DRAM_PJ_PER_BIT)}"
        raise UserError(f"energy.dram = {spec.dram!r}: {known}")
    node_nm = spec.node_nm
    mac_pj = components.mac_energy_pj(spec.number_type, *bits, node_nm)
    register_pj = components.register_energy_pj(sum(bits), node_nm)
    idle_pj = mac_pj + register_pj
    if spec.gating == "idle":
        gated_mac = constants.GATED_MAC_PJ.value / constants.MAC_PJ.value
        gated_register = constants.GATED_LATCH_PJ.value / constants.LATCH_PJ.value
        idle_pj = gated_mac * mac_pj + gated_register * register_pj
    return UnitEnergies(
        mac_pj=mac_pj,
        register_pj=register_pj,
        idle_pj=idle_pj,
        read_pj=per_buffer(components.sram_read_pj, buffer_bytes, node_nm),
        write_pj=per_buffer(components.sram_write_pj, buffer_bytes, node_nm),
        dram_pj=constants.DRAM_PJ_PER_BIT[spec.dram].value,
    )


def per_buffer(bit_pj: Callable[[float, int], float], buffer_bytes: PerBuffer, node_nm: int) -> PerBuffer:
    weight, index, activation, output = (bit_pj(size, node_nm) if size else 0.0 for size in buffer_bytes)
    return weight, index, activation, output


def layer_energy(spec: EnergySpec, actions: Actions, bits: Bits, buffer_bytes: PerBuffer) -> Energy:
    """Energy of `actions`; the other arguments as `unit_energies` takes them.

    A multiply-accumulate writes and reads one weight, one activation and one accumulator register (no reuse between
    MACs: an output-stationary accumulator or a stationary weight is charged every time). Raises ValueError where
    `actions` has traffic of a buffer that `buffer_bytes` says is absent.
    """
    unit = unit_energies(spec, bits, buffer_bytes)
    buffer_pj = 0.0
    for i in range(len(BUFFERS)):
        read_bits, write_bits = actions.read_bits[i], actions.write_bits[i]
        if buffer_bytes[i] == 0 and (read_bits or write_bits):
            raise ValueError(f"{read_bits} bits read from and {write_bits} written to the absent {BUFFERS[i]} buffer")
        buffer_pj += read_bits * unit.read_pj[i] + write_bits * unit.write_pj[i]
    return Energy(
        mac_pj=actions.macs * unit.mac_pj,
        idle_pj=actions.idle_macs * unit.idle_pj,
        register_pj=actions.macs * unit.register_pj,
        buffer_pj=buffer_pj,
        dram_pj=actions.dram_bits * unit.dram_pj,
    )


def total_pj(unit: UnitEnergies, macs: float, idle_macs: float, reads: Sequence, writes: Sequence, dram_bytes):
    """layer_energy's total, from bytes, for one mapping or arrays of them: `reads` and `writes` are bytes that leave
    and enter each buffer, in the order of actions.BUFFERS, dram_bytes those that cross the chip's border; each a number
    or (mappings,)."""
    energy_pj = macs * (unit.mac_pj + unit.register_pj) + idle_macs * unit.idle_pj + 8 * unit.dram_pj * dram_bytes
    for buffer in range(len(BUFFERS)):
        energy_pj = energy_pj + 8 * (reads[buffer] * unit.read_pj[buffer] + writes[buffer] * unit.write_pj[buffer])
    return energy_pj


def area_mm2(spec: EnergySpec, macs: int, bits: Bits, buffer_bytes: PerBuffer) -> Area:
    """Area of `macs` MAC units with operand registers, and of SRAMs of the given capacities in all (every bank
    counted).

    Left out: what the module's first paragraph lists. Published chips are 0.97 (EIE), 2.7 (BitWave) and 7.7
    (Cambricon-S) times as large as this says: validation/sources/energy_tables.py.
    Raises UserError for an unknown node.
    """
    return Area(
        mac_mm2=macs * components.mac_area_um2(spec.number_type, *bits, spec.node_nm) * 1e-6,
        buffer_mm2=sum(components.sram_mm2(capacity, spec.node_nm) for capacity in buffer_bytes),
    )


def sources() -> list[dict[str, Any]]:
    """Every number that energies and areas rest on: name, value, unit, node_nm (None where it has none), source."""
    rows: list[dict[str, Any]] = [
        {"name": c.name, "value": c.value, "unit": c.unit, "node_nm": c.node_nm, "source": c.source}
        for c in constants.all_constants()
    ]
    for node_nm in get_args(Node):
        source = scaling.SOURCE
        if node_nm == 40:
            source += ", taken as 45 nm"
        elif node_nm not in scaling.AREA_FROM_45:
            source += ", between its neighbours"
        energy, area = scaling.energy_factor(node_nm), scaling.area_factor(node_nm)
        named = {"unit": "ratio", "node_nm": node_nm, "source": source}
        rows.append({"name": "energy / energy at 45 nm, 0.8 V", "value": energy, **named})
        rows.append({"name": "area / area at 45 nm", "value": area, **named})
    return rows
