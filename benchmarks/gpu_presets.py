"""Data sheets of the GPU presets, how a card without measurements takes over fitted efficiencies, and the TOML files."""

import dataclasses
from dataclasses import dataclass

import pandas as pd

from simulator.gpu.spec import Chip, Error, GpuSpec, KernelFamily, Memory, Power, Precision, Tiles
from simulator.spec import preset_path

POWERS_OF_TWO = (16, 32, 64, 128, 256)
AMPERE_TILES = Tiles(POWERS_OF_TWO, (64, 128, 256), POWERS_OF_TWO, (64, 128, 256), 128 * 256)
# wgmma takes the 2:4 operand in 64-row pieces, two of them a CTA; dense kernels come in sides of 96 and 192 as well.
HOPPER_SIDES = (16, 32, 64, 96, 128, 192, 256)
HOPPER_TILES = Tiles(HOPPER_SIDES, (64, 96, 128, 192, 256), POWERS_OF_TWO, (64, 128), 128 * 256)
DRAM_PJ_PER_BYTE = 40.0  # HBM2e and its controller, about 5 pJ a bit: assumed
WIDER = 2.0  # stated errors of a preset without data of its own: at least those of its generation times this


@dataclass(frozen=True)
class Card:
    preset: str
    measured: str  # name in the data
    dtypes: tuple[str, ...]
    chip: Chip
    bandwidth_gbps: float
    l2_mib: float
    limit_w: float
    static_w: float  # idle with clocks up: assumed
    tiles: Tiles
    macs_per_cycle: dict[str, int]  # by section, one SM, dense
    start: dict[str, float]  # shared parameters


A100 = Card(
    "a100-pcie", "NVIDIA A100 80GB PCIe", ("fp16", "int8"), Chip(108, 1410.0), 1935.0, 40.0, 300.0, 75.0, AMPERE_TILES,
    {"fp16": 1024, "int8": 2048}, {"efficiency": 0.85, "usable": 0.7, "per_cycle": 36.0, "response": 250.0},
)  # fmt: skip
H100 = Card(
    "h100-pcie", "NVIDIA H100 PCIe", ("bf16", "fp8"), Chip(114, 1755.0), 2039.0, 50.0, 350.0, 87.0, HOPPER_TILES,
    {"fp16": 2048, "fp8": 4096}, {"efficiency": 0.85, "usable": 0.75, "per_cycle": 100.0, "response": 60.0},
)  # fmt: skip
CARDS = (A100, H100)


@dataclass(frozen=True)
class Relative:
    """A card that takes its generation's efficiencies."""

    preset: str
    of: Card
    chip: Chip
    bandwidth_gbps: float
    l2_mib: float
    limit_w: float


RELATIVES = (
    Relative("a100-sxm", A100, Chip(108, 1410.0), 2039.0, 40.0, 400.0),
    Relative("h100-sxm", H100, Chip(132, 1980.0), 3352.0, 50.0, 700.0),
    Relative("h200", H100, Chip(132, 1980.0), 4800.0, 50.0, 700.0),
)
UNKNOWN = Error(0.5, 0.5, 0.5, 0.5, 0.5, 0.5, "not stated")


def start_spec(card: Card) -> GpuSpec:
    """The data sheet with round efficiencies, where a fit starts."""
    start = card.start
    memory = Memory(
        card.bandwidth_gbps, start["efficiency"], card.l2_mib, start["usable"], start["per_cycle"], l2_warm=True
    )
    power = Power(card.limit_w, card.static_w, DRAM_PJ_PER_BYTE, start["response"])
    sections = {}
    for section, macs in card.macs_per_cycle.items():
        wide = section == "fp16"
        dense = KernelFamily(4.0, 0.9, 1.0 if wide else 0.7, 4.0, 300.0, 1000.0, 8.0)
        sparse = KernelFamily(4.0, 0.8, 0.5 if wide else 0.3, 1.5, 350.0, 3000.0, 15.0)
        # A100 int8: 1-byte outputs; FP8 products are written as 2-byte values.
        sections[section] = Precision(macs, 2 if wide else 1, 1 if section == "int8" else 2, dense, sparse, UNKNOWN)
    return GpuSpec(card.chip, memory, power, card.tiles, **sections)


def rescaled(precision: Precision, clock_ratio: float, error: Error) -> Precision:
    """pj_per_flop is stated at the full clock and grows with it."""
    families = {
        name: dataclasses.replace(family, pj_per_flop=float(f"{family.pj_per_flop * clock_ratio:.4g}"))
        for name, family in (("dense", precision.dense), ("sparse24", precision.sparse24))
    }
    return dataclasses.replace(precision, **families, error=error)


def wider(error: Error, basis: str) -> Error:
    figures = {
        field.name: min(0.9, round(WIDER * getattr(error, field.name), 3))
        for field in dataclasses.fields(Error)
        if field.name != "basis"
    }
    return Error(**figures, basis=basis)


def relative_spec(relative: Relative, fitted: GpuSpec) -> GpuSpec:
    basis = (
        f"no data of this card: data sheet and the efficiencies fitted on {relative.of.measured}, its error x {WIDER:g}"
    )
    ratio = relative.chip.clock_mhz / fitted.chip.clock_mhz
    sections = {
        name: rescaled(getattr(fitted, name), ratio, wider(getattr(fitted, name).error, basis))
        for name in ("fp16", "int8", "fp8")
        if getattr(fitted, name) is not None
    }
    memory = dataclasses.replace(fitted.memory, bandwidth_gbps=relative.bandwidth_gbps, l2_mib=relative.l2_mib)
    power = dataclasses.replace(fitted.power, limit_w=relative.limit_w)
    return dataclasses.replace(fitted, chip=relative.chip, memory=memory, power=power, **sections)


def transferred(fitted: GpuSpec, source: Card, target: Card) -> GpuSpec:
    """The target's data sheet with the efficiencies of the source: the widest transfer, across generations."""
    ratio = target.chip.clock_mhz / source.chip.clock_mhz
    scale = target.macs_per_cycle["fp16"] / source.macs_per_cycle["fp16"]
    own = start_spec(target)
    sections = {}
    narrow = {"a100-pcie": "int8", "h100-pcie": "fp8"}
    for section, precision in (("fp16", fitted.fp16), (narrow[target.preset], getattr(fitted, narrow[source.preset]))):
        sheet = getattr(own, section)
        # A process generation halves the energy when it doubles the rate, or the same card could not feed it.
        moved = rescaled(precision, ratio / scale, UNKNOWN)
        sections[section] = dataclasses.replace(sheet, dense=moved.dense, sparse24=moved.sparse24)
    memory = dataclasses.replace(
        own.memory,
        efficiency=fitted.memory.efficiency,
        l2_usable=fitted.memory.l2_usable,
        l2_bytes_per_cycle=min(128.0, fitted.memory.l2_bytes_per_cycle * scale),
    )
    power = dataclasses.replace(own.power, response_us=fitted.power.response_us)
    return dataclasses.replace(own, memory=memory, power=power, **sections)


def with_errors(spec: GpuSpec, card: Card, errors: pd.DataFrame) -> GpuSpec:
    """The larger of the two cross-validated errors (models, sizes left out); int8 on Hopper borrows fp8, widened."""
    sections = {}
    for dtype in card.dtypes:
        section = "fp16" if dtype == "bf16" else dtype
        some = errors[(errors["gpu"] == card.measured) & (errors["dtype"] == dtype)]
        figures = {
            field.name: round(float(some[field.name].max()), 3)
            for field in dataclasses.fields(Error)
            if field.name != "basis"
        }
        error = Error(
            **figures, basis=f"cross-validated on {card.measured}, {dtype}: whole models or token counts left out"
        )
        sections[section] = dataclasses.replace(getattr(spec, section), error=error)
    if "fp8" in sections and "int8" not in sections:
        basis = (
            f"no int8 data: the fp8 kernels of {card.measured} at the same rate, error x {WIDER:g}; "
            "cuBLASLt's dense int8 kernels on Hopper are reported far slower (2:4 up to 3.8x), which is not modelled"
        )
        sections["int8"] = dataclasses.replace(sections["fp8"], error=wider(sections["fp8"].error, basis))
    return dataclasses.replace(spec, **sections)


def write_presets(fits: dict[str, GpuSpec], errors: pd.DataFrame) -> None:
    for card in CARDS:
        spec = with_errors(fits[card.preset], card, errors)
        origin = f"fitted on {card.measured} ({', '.join(card.dtypes)}), SlideSparse's measurements (arXiv 2603.05232)"
        preset_path(card.preset).write_text(toml_text(spec, f"{card.measured}: {origin}"), encoding="utf-8")
        for relative in RELATIVES:
            if relative.of is card:
                text = f"{relative.preset}: data sheet; efficiencies {origin}; no data of this card"
                preset_path(relative.preset).write_text(
                    toml_text(relative_spec(relative, spec), text), encoding="utf-8"
                )


def toml_text(spec: GpuSpec, title: str) -> str:
    lines = [f"# {title}.", "# Written by benchmarks/fit_gpu.py; what each key means: simulator/gpu/spec.py."]
    add_table(lines, "", dataclasses.asdict(spec))
    return "\n".join(lines) + "\n"


def add_table(lines: list[str], name: str, values: dict) -> None:
    plain = {key: value for key, value in values.items() if not isinstance(value, dict) and value is not None}
    if plain:
        lines += ["", f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in plain.items())]
    for key, value in values.items():
        if isinstance(value, dict):
            add_table(lines, f"{name}.{key}" if name else key, value)


def toml_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace('"', "'") + '"'
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return repr(value)
