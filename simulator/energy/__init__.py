"""Energy of a layer, area of a design; all constants with their sources (`sources()`)."""

from simulator.energy.model import (
    Area,
    Energy,
    EnergySpec,
    UnitEnergies,
    area_mm2,
    layer_energy,
    sources,
    total_pj,
    unit_energies,
)

__all__ = [
    "Area",
    "Energy",
    "EnergySpec",
    "UnitEnergies",
    "area_mm2",
    "layer_energy",
    "sources",
    "total_pj",
    "unit_energies",
]
