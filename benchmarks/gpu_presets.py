"""Data sheets of the GPU presets, how a card without measurements takes over fitted efficiencies, and the TOML
files."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from simulator.gpu.named import load_gpu
from simulator.gpu.spec import (
    Chip,
    Coverage,
    Error,
    GpuSpec,
    KernelFamily,
    Memory,
    Power,
    Precision,
    Tiles,
)
from simulator.machine.spec import preset_path

POWERS_OF_TWO = (16, 32, 64, 128, 256)
AMPERE_TILES = Tiles(POWERS_OF_TWO, (64, 128, 256), POWERS_OF_TWO, (64, 128, 256), 128 * 256)
# wgmma takes the 2:4 operand in 64-row pieces, two of them a CTA; dense kernels come in sides of 96 and 192 as well.
HOPPER_SIDES = (16, 32, 64, 96, 128, 192, 256)
HOPPER_TILES = Tiles(HOPPER_SIDES, (64, 96, 128, 192, 256), POWERS_OF_TWO, (64, 128), 128 * 256)
DRAM_PJ_PER_BYTE = 40.0  # HBM2e and its controller, about 5 pJ a bit: assumed, for every card
WIDER = 2.0  # stated errors of a preset without data of its own: those of its generation times this
ERROR_FIGURES = tuple(field.name for field in dataclasses.fields(Error) if field.name not in ("tokens", "basis"))


@dataclass(frozen=True)
class Card:
    preset: str
    measured: str  # name in the data
    sections: dict[str, tuple[str, ...]]  # of the preset, with the types in the data that they are fitted on together
    chip: Chip
    bandwidth_gbps: float
    l2_mib: float
    limit_w: float
    static_w: float  # idle with clocks up: assumed
    tiles: Tiles
    macs_per_cycle: dict[str, int]  # by section, one SM, dense
    capacity_gib: float


HALVES = ("bf16", "fp16")
A100 = Card(
    "a100-pcie", "NVIDIA A100 80GB PCIe", {"fp16": HALVES, "int8": ("int8",)}, Chip(108, 1410.0), 1935.0, 40.0, 300.0,
    75.0,
    AMPERE_TILES, {"fp16": 1024, "int8": 2048}, 80.0,
)  # fmt: skip
H100 = Card(
    "h100-pcie", "NVIDIA H100 PCIe", {"fp16": ("bf16",), "int8": ("int8",), "fp8": ("fp8",)}, Chip(114, 1755.0), 2039.0,
    50.0,
    350.0, 87.0, HOPPER_TILES, {"fp16": 2048, "int8": 4096, "fp8": 4096}, 79.6,
)  # fmt: skip
B200 = Card(
    "b200", "NVIDIA B200", {"fp16": HALVES, "int8": ("int8",), "fp8": ("fp8",)}, Chip(148, 1850.0), 8000.0, 126.0,
    1000.0, 140.0,
    HOPPER_TILES, {"fp16": 4096, "int8": 8192, "fp8": 8192}, 179.0,
)  # fmt: skip
# fp16 and fp8 with sums in fp32, as PyTorch asks for: half the rate of fp16 sums.
RTX_4090 = Card(
    "rtx-4090", "NVIDIA GeForce RTX 4090", {"fp16": HALVES, "int8": ("int8",), "fp8": ("fp8",)}, Chip(128, 2520.0),
    1008.0, 72.0,
    450.0, 60.0, AMPERE_TILES, {"fp16": 256, "int8": 1024, "fp8": 512}, 24.0,
)  # fmt: skip
CARDS = (A100, H100, B200, RTX_4090)


@dataclass(frozen=True)
class Relative:
    """A card that takes its generation's efficiencies."""

    preset: str
    of: Card
    chip: Chip
    bandwidth_gbps: float
    l2_mib: float
    limit_w: float
    capacity_gib: float


RELATIVES = (
    Relative("a100-sxm", A100, Chip(108, 1410.0), 2039.0, 40.0, 400.0, 80.0),
    Relative("h100-sxm", H100, Chip(132, 1980.0), 3352.0, 50.0, 700.0, 79.6),
    Relative("h200", H100, Chip(132, 1980.0), 4800.0, 50.0, 700.0, 140.4),
)
EVERYWHERE = Coverage("", *[(1.0, 1.0)] * 6)  # a place to put one; replaced by what the data cover


def start_spec(card: Card) -> GpuSpec:
    """The data sheet; every kernel family is a place to put a fitted one."""
    memory = Memory(card.bandwidth_gbps, card.l2_mib, l2_warm=True, capacity_gib=card.capacity_gib)
    power = Power(card.limit_w, card.static_w, DRAM_PJ_PER_BYTE)
    unfitted = KernelFamily(4.0, 0.88, 0.05, 0.6, 2.5, 300.0, 1000.0, 6.0, 0.85, 60.0, 0.7, 80.0)
    half = (0.5,)
    unknown = Error((64,), half, half, half, half, half, half, 0.0, 0.0, 0.0, "not stated")
    sections: dict[str, Any] = {
        # int8 products are written as 1-byte values, FP8 ones as 2-byte values.
        section: Precision(
            macs, 2 if section == "fp16" else 1, 1 if section == "int8" else 2, unfitted, unfitted, unknown
        )
        for section, macs in card.macs_per_cycle.items()
    }
    return GpuSpec(card.chip, memory, power, card.tiles, EVERYWHERE, **sections)


def rescaled(precision: Precision, clock_ratio: float, error: Error) -> Precision:
    """pj_per_flop is stated at the full clock and grows with it."""
    families: dict[str, Any] = {
        name: dataclasses.replace(family, pj_per_flop=float(f"{family.pj_per_flop * clock_ratio:.4g}"))
        for name, family in (("dense", precision.dense), ("sparse24", precision.sparse24))
    }
    return dataclasses.replace(precision, **families, error=error)


def wider(error: Error, basis: str) -> Error:
    figures: dict[str, Any] = {name: widened(getattr(error, name)) for name in ERROR_FIGURES}
    return dataclasses.replace(error, **figures, basis=basis)


def widened(value: Any) -> Any:
    """A number, or each of a tuple."""
    return tuple(map(widened, value)) if isinstance(value, tuple) else round(WIDER * value, 3)


def relative_spec(relative: Relative, fitted: GpuSpec) -> GpuSpec:
    basis = (
        f"no data of this card: data sheet and the efficiencies fitted on {relative.of.measured}, its error x {WIDER:g}"
    )
    ratio = relative.chip.clock_mhz / fitted.chip.clock_mhz
    sections: dict[str, Any] = {
        name: rescaled(getattr(fitted, name), ratio, wider(getattr(fitted, name).error, basis))
        for name in relative.of.sections
    }
    memory = Memory(relative.bandwidth_gbps, relative.l2_mib, fitted.memory.l2_warm, relative.capacity_gib)
    power = dataclasses.replace(fitted.power, limit_w=relative.limit_w)
    coverage = dataclasses.replace(fitted.coverage, card="")
    return dataclasses.replace(fitted, chip=relative.chip, memory=memory, power=power, coverage=coverage, **sections)


def write_presets(card: Card, spec: GpuSpec) -> None:
    """The card's own preset and those of its relatives; operators (fit_operators.py) stay what they are."""
    types = ", ".join(name for names in card.sections.values() for name in names)
    origin = f"fitted on {card.measured} ({types}), SlideSparse's measurements (arXiv 2603.05232)"
    preset_path(card.preset).write_text(
        toml_text(with_operators(card.preset, spec), f"{card.measured}: {origin}"), encoding="utf-8"
    )
    for relative in RELATIVES:
        if relative.of is card:
            text = f"{relative.preset}: data sheet; efficiencies {origin}; no data of this card"
            whole = with_operators(relative.preset, relative_spec(relative, spec))
            preset_path(relative.preset).write_text(toml_text(whole, text), encoding="utf-8")


def with_operators(preset: str, spec: GpuSpec) -> GpuSpec:
    return dataclasses.replace(spec, operators=load_gpu(preset).operators)


def toml_text(spec: GpuSpec, title: str) -> str:
    lines = [
        f"# {title}.",
        "# Written by benchmarks/fit_gpu.py, [operators] by fit_operators.py; the keys: simulator/gpu/spec.py, "
        "operator_parameters.py.",
    ]
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
