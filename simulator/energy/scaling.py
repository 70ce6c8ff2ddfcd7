"""From one process node to another: Stillmaker & Baas, Scaling equations for the accurate prediction of CMOS device
performance from 180 nm to 7 nm, Integration 58 (2017).

Energy is their polynomial of the supply voltage, taken at 0.8 V for both nodes, whatever voltage a constant was
published at: at 45 nm every constant is used as published. Area is their table's row from 45 nm, two digits. These
factors are of logic; SRAM energy is scaled alike, though it shrinks less, and so is SRAM area (see
`components.sram_mm2`).

Deviations: 40 nm is taken as 45 nm (as the publisher of the 40 nm constants does). 28, 22, 15 and 12 nm are no nodes of
the paper; they lie on straight lines in log-log scale between their neighbours, where energy falls to a third between
32 and 20 nm, so 28 and 22 nm are the least certain. Below 7 nm the paper has nothing, and nothing is extrapolated:
chips made at 5 nm have to be described as 7 nm ones, which overstates their energy and area.
"""

import functools
from typing import Literal, get_args

from simulator.energy.interpolate import power_law
from workloads.errors import UserError

Node = Literal[130, 90, 65, 45, 40, 32, 28, 22, 20, 16, 15, 14, 12, 10, 7]
BASE_NODE = 45
VOLTS = 0.8
SOURCE = "Stillmaker & Baas, Integration 58 (2017)"

# Energy of an operation at V volts, up to a common unit: a V^2 + b V + c.
ENERGY_POLYNOMIALS: dict[int, tuple[float, float, float]] = {
    130: (7.171, -6.709, 2.904),
    90: (4.762, -4.781, 2.092),
    65: (3.755, -4.398, 1.975),
    45: (1.103, -0.362, 0.2767),
    32: (0.9559, -0.7823, 0.471),
    20: (0.373, -0.1582, 0.04104),
    16: (0.2958, -0.1241, 0.03024),
    14: (0.2363, -0.09675, 0.02239),
    10: (0.2068, -0.09311, 0.02375),
    7: (0.1776, -0.09097, 0.02447),
}
AREA_FROM_45: dict[int, float] = {
    130: 6.4,
    90: 2.8,
    65: 1.5,
    45: 1.0,
    32: 0.46,
    20: 0.21,
    16: 0.19,
    14: 0.17,
    10: 0.10,
    7: 0.059,
}


@functools.cache
def energy_factor(node_nm: int, volts: float = VOLTS) -> float:
    """Energy at `node_nm` / energy at 45 nm, both at `volts`. Raises UserError for a node that is not known."""
    energies = {node: a * volts**2 + b * volts + c for node, (a, b, c) in ENERGY_POLYNOMIALS.items()}
    return at_node(energies, node_nm) / energies[BASE_NODE]


@functools.cache
def area_factor(node_nm: int) -> float:
    """Area at `node_nm` / area at 45 nm. Raises UserError for a node that is not known."""
    return at_node(AREA_FROM_45, node_nm)


def at_node(values: dict[int, float], node_nm: int) -> float:
    known = get_args(Node)
    if node_nm not in known:
        below = "; nothing is published below 7, describe the chip at 7" if node_nm < 7 else ""
        raise UserError(f"energy.node_nm = {node_nm}: known are {', '.join(map(str, known))}{below}")
    node_nm = BASE_NODE if node_nm == 40 else node_nm
    return values[node_nm] if node_nm in values else power_law(values, node_nm)
