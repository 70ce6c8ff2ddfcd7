"""Energies, times and energy-delay products of a table in one unit each, named in the column: `dram_pj` -> `dram_mj`."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Unit:
    """`size`: how many of the base unit (pJ, us, pJ us) it is."""

    suffix: str
    text: str
    size: float


# Each from the largest unit to the base unit.
PRODUCTS = (
    Unit("_j_s", "J s", 1e18), Unit("_mj_s", "mJ s", 1e15), Unit("_mj_ms", "mJ ms", 1e12), Unit("_mj_us", "mJ µs", 1e9),
    Unit("_uj_us", "µJ µs", 1e6), Unit("_nj_us", "nJ µs", 1e3), Unit("_pj_us", "pJ µs", 1.0),
)  # fmt: skip
ENERGIES = (
    Unit("_j", "J", 1e12), Unit("_mj", "mJ", 1e9), Unit("_uj", "µJ", 1e6), Unit("_nj", "nJ", 1e3), Unit("_pj", "pJ", 1.0),
)  # fmt: skip
TIMES = (Unit("_s", "s", 1e6), Unit("_ms", "ms", 1e3), Unit("_us", "µs", 1.0))
FAMILIES = (PRODUCTS, ENERGIES, TIMES)  # a column belongs to the first in which it has an ending


def fitting(units: tuple[Unit, ...], largest: float) -> Unit:
    """The largest unit in which `largest` (in the base unit) is at least 1; the base unit for smaller and missing ones."""
    return next((unit for unit in units if largest >= unit.size), units[-1])


def in_units(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """(table, new names of its columns): columns that end in _pj, _us or _pj_us in the unit that suits the largest of them."""
    names: dict[str, str] = {}
    for units in FAMILIES:
        base = units[-1].suffix
        mine = [name for name in table.columns if name.endswith(base) and name not in names]
        if mine:
            unit = fitting(units, table[mine].max(axis=None))
            names |= {name: name.removesuffix(base) + unit.suffix for name in mine}
            table = table.assign(**{name: table[name] / unit.size for name in mine})
    return table.rename(columns=names), names


def unit_of(column: str) -> tuple[str, Unit] | None:
    """("dram_pj", mJ) of "dram_mj": the column's name in the base unit, and its unit."""
    for units in FAMILIES:
        for unit in units:
            if column.endswith(unit.suffix):
                return column.removesuffix(unit.suffix) + units[-1].suffix, unit
    return None
