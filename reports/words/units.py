"""Energies, times and energy-delay products of a table in one unit each, named in the column: `dram_pj` ->
`dram_mj`."""

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
    Unit("_j", "J", 1e12), Unit("_mj", "mJ", 1e9), Unit("_uj", "µJ", 1e6), Unit("_nj", "nJ", 1e3),
    Unit("_pj", "pJ", 1.0),
)  # fmt: skip
TIMES = (Unit("_s", "s", 1e6), Unit("_ms", "ms", 1e3), Unit("_us", "µs", 1.0))
FAMILIES = (PRODUCTS, ENERGIES, TIMES)  # a column belongs to the first in which it has an ending


def fitting(units: tuple[Unit, ...], largest: float) -> Unit:
    """The largest unit in which `largest` (in the base unit) is at least 1; the base unit for smaller and missing
    ones."""
    return next((unit for unit in units if largest >= unit.size), units[-1])


def with_time_unit(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """As `in_units`, for latencies alone, in the largest unit in which the smallest of them is at least 0.1: of targets
    as far apart as a GPU and a small accelerator, none is printed as 0.00."""
    mine = [name for name in table.columns if name.endswith("latency_us")]
    least = table[mine].min(axis=None)
    return _renamed(table, mine, fitting(TIMES, 10 * least), TIMES[-1].suffix)


def in_units(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """(table, new names of its columns): columns that end in _pj, _us or _pj_us in the unit that suits the largest of
    them."""
    names: dict[str, str] = {}
    for units in FAMILIES:
        base = units[-1].suffix
        mine = [name for name in table.columns if name.endswith(base) and name not in names.values()]
        if mine:
            table, renamed = _renamed(table, mine, fitting(units, table[mine].max(axis=None)), base)
            names |= renamed
    return table, names


def _renamed(table: pd.DataFrame, mine: list[str], unit: Unit, base: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Columns that end in the base unit, and their spreads, in another unit and named by it."""
    names = {name: name.removesuffix(base) + unit.suffix for name in mine}
    names |= {f"{old}_spread": f"{new}_spread" for old, new in names.items() if f"{old}_spread" in table}
    return table.assign(**{name: table[name] / unit.size for name in names}).rename(columns=names), names


def unit_of(column: str) -> tuple[str, Unit] | None:
    """("dram_pj", mJ) of "dram_mj": the column's name in the base unit, and its unit."""
    for units in FAMILIES:
        for unit in units:
            if column.endswith(unit.suffix):
                return column.removesuffix(unit.suffix) + units[-1].suffix, unit
    return None
