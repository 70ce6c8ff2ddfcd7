"""Energy and area of the parts of an accelerator, for any width, capacity and node.

Everything is computed at 45 nm from the published points of `constants` and then scaled by `scaling`.
"""

from typing import Literal

from simulator.energy import constants
from simulator.energy.constants import Curve
from simulator.energy.interpolate import power_law
from simulator.energy.scaling import area_factor, energy_factor

NumberType = Literal["int", "float"]


def mac_energy_pj(
    kind: NumberType, weight_bits: int, activation_bits: int, accumulator_bits: int, node_nm: int = 45
) -> float:
    """A multiplier of weight_bits x activation_bits and an adder of accumulator_bits; no registers.

    A multiplier's energy is a power law in the product of the widths, through the two published points of its kind:
    the power is 0.99 for int (quadratic in the width, nearly) and 0.87 for float. An adder's is one in its width,
    piecewise through its points. Between and beyond the points this is interpolation: below 8 bits (int) or 16 bits
    (float) no measurement backs it. A float is taken by its total width: bf16 counts as fp16 though its multiplier is
    smaller, and a pair of unlike widths as the square with the same area. The widths are those of the operands the
    multiplier sees, not of what is stored.
    """
    multiplier = at_width(constants.MULTIPLIER_PJ[kind], weight_bits * activation_bits, power=2)
    adder = at_width(constants.ADDER_PJ[kind], accumulator_bits)
    return (multiplier + adder) * energy_factor(node_nm)


def mac_area_um2(
    kind: NumberType, weight_bits: int, activation_bits: int, accumulator_bits: int, node_nm: int = 45
) -> float:
    """As `mac_energy_pj`, for area (um2), with one register for each of the three operands."""
    multiplier = at_width(constants.MULTIPLIER_UM2[kind], weight_bits * activation_bits, power=2)
    adder = at_width(constants.ADDER_UM2[kind], accumulator_bits)
    registers = (weight_bits + activation_bits + accumulator_bits) * constants.REGISTER_UM2.value
    return (multiplier + adder + registers) * area_factor(node_nm)


def at_width(curve: Curve, width: float, power: int = 1) -> float:
    """The curve's value at `width`, its published widths raised to `power` first."""
    return power_law({bits**power: constant.value for bits, constant in curve.items()}, width)


def register_energy_pj(bits: int, node_nm: int = 45) -> float:
    """One write and one read of `bits` bits of registers.

    Charged twice, as Sparseloop charges its latches; Accelergy's library charges the read alone, half of this.
    """
    return 2 * bits * constants.REGISTER_PJ.value * energy_factor(node_nm)


def sram_read_pj(capacity_bytes: float, node_nm: int = 45) -> float:
    """Energy of reading one bit of an SRAM of `capacity_bytes` (that of one bank, where it has several).

    Lines in log-log scale through Horowitz's 8 KB, 32 KB, 1 MB and Sparseloop's 256 KB; below them the first line goes
    on (square root of the capacity), above them the square root too. Never less than a register bit. The points have
    words of 64 and 512 bits; the width of a word, ports and the compiler of the SRAM are not modelled.
    """
    points = {size: constant.value for size, constant in constants.SRAM_READ_PJ_PER_BIT.items()}
    largest = max(points)
    if capacity_bytes > largest:
        energy_pj = points[largest] * (capacity_bytes / largest) ** constants.SRAM_SLOPE.value
    else:
        energy_pj = power_law(points, capacity_bytes)
    return max(energy_pj, constants.REGISTER_PJ.value) * energy_factor(node_nm)


def sram_write_pj(capacity_bytes: float, node_nm: int = 45) -> float:
    """Energy of writing one bit: a fixed multiple of reading it."""
    return sram_read_pj(capacity_bytes, node_nm) * constants.SRAM_WRITE_RATIO.value


def sram_mm2(capacity_bytes: float, node_nm: int = 45) -> float:
    """A 6T cell a bit, divided by the share of an SRAM that is cells, scaled as logic is.

    Published cells of other nodes (90 to 7 nm) are within 25 % of the 45 nm cell scaled so; the share is an assumption
    made for large arrays, so that small or many-ported buffers are larger than this says.
    """
    cells_um2 = 8 * capacity_bytes * constants.SRAM_CELL_UM2.value
    return cells_um2 / constants.SRAM_ARRAY_SHARE.value * area_factor(node_nm) * 1e-6
