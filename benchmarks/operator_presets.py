"""Writes the fitted operators into the presets, and what cards without measurements take over."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.gpu_presets import WIDER, toml_text
from simulator.gpu import GpuSpec, load_gpu
from simulator.gpu.operator_parameters import KINDS, Data, Links, Operators, WeightOnly
from simulator.gpu.operators.linear import cold_rates, family_of, linear_parts, weight_only_rates
from simulator.gpu.prediction import tiles_of
from simulator.machine.spec import preset_path

Fitted = dict[tuple[str, str], dict[str, Any]]  # (preset, kind): kernels by name
# NVLink's bridge joins two PCIe cards; an SXM node has eight (data sheets; each way).
LINKS = {
    "a100-sxm": Links(300.0, 8), "a100-pcie": Links(300.0, 2), "h100-sxm": Links(450.0, 8),
    "h100-pcie": Links(300.0, 2), "h200": Links(450.0, 8), "b200": Links(900.0, 8), "rtx-4090": None,
}  # fmt: skip
NO_LINEARS = ("a100-pcie", "h100-pcie", "b200", "rtx-4090")  # their own GEMMs are measured: linears take those
OWN_FEWER = "elementwise", "all_reduce"  # what the RTX 4090 has no data of


@dataclass(frozen=True)
class Heir:
    """A card that takes over what it has no data of."""

    preset: str
    of: str


HEIRS = (
    Heir("a100-pcie", "a100-sxm"), Heir("h100-pcie", "h100-sxm"), Heir("h200", "h100-sxm"), Heir("b200", "h100-sxm"),
    Heir("rtx-4090", "a100-sxm"),
)  # fmt: skip
IN_CYCLES = ("token_us", "walk_us")  # times of one SM at work: they follow the clock


def inherited(kernel: Any, clock_ratio: float, of: str) -> Any:
    """Another card's kernel, covered by no data, with a wider error."""
    error = kernel.error
    wider = dataclasses.replace(
        error,
        median=tuple(round(WIDER * value, 3) for value in error.median),
        p90=tuple(round(WIDER * value, 3) for value in error.p90),
        octave=round(WIDER * error.octave, 3),
        basis=f"no data of this card: data sheet and what was fitted on {of}, its error x {WIDER:g}",
    )
    scaled = {name: float(f"{getattr(kernel, name) / clock_ratio:.4g}") for name in IN_CYCLES if hasattr(kernel, name)}
    return dataclasses.replace(kernel, **scaled, data=Data("", kernel.data.ranges), error=wider)


def operators_for(preset: str, fitted: Fitted, weights: WeightOnly) -> Operators:
    heir = next((each for each in HEIRS if each.preset == preset), None)
    source = heir.of if heir else preset
    ratio = load_gpu(preset).chip.clock_mhz / load_gpu(source).chip.clock_mhz
    kinds: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        own = fitted.get((preset, kind), {})
        theirs = {name: inherited(kernel, ratio, source) for name, kernel in fitted.get((source, kind), {}).items()}
        kinds[kind] = own or theirs
    if preset == "h100-sxm":  # kernels that were timed on the A100 alone
        missing = {k: v for k, v in fitted["a100-sxm", "elementwise"].items() if k not in kinds["elementwise"]}
        kinds["elementwise"] |= {name: inherited(kernel, 1.0, "a100-sxm") for name, kernel in missing.items()}
    if source == "h100-sxm" and heir:
        missing = {k: v for k, v in fitted["a100-sxm", "elementwise"].items() if k not in kinds["elementwise"]}
        kinds["elementwise"] |= {name: inherited(kernel, 1.0, "a100-sxm") for name, kernel in missing.items()}
    if preset in NO_LINEARS:
        kinds["linear"] = {}
    if LINKS[preset] is None:
        kinds["all_reduce"] = {}
    return Operators(**kinds, weight_only=weights, links=LINKS[preset])


def known() -> Fitted:
    """What the presets state of cards that were measured: stays where a kind is not fitted again."""
    found: Fitted = {}
    for preset in LINKS:
        operators = load_gpu(preset).operators
        for kind in KINDS if operators else ():
            kernels = {name: each for name, each in getattr(operators, kind).items() if each.data.card}
            if kernels:
                found[preset, kind] = kernels
    return found


def write_operators(fitted: Fitted) -> None:
    """Those of kinds that were fitted now, and of the others what the presets have."""
    fitted = known() | fitted
    weights = weight_only(fitted["a100-sxm", "linear"]["torch"])
    for preset in LINKS:
        spec = dataclasses.replace(load_gpu(preset), operators=operators_for(preset, fitted, weights))
        title = preset_path(preset).read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").removesuffix(".")
        preset_path(preset).write_text(toml_text(spec, title), encoding="utf-8")


# Layers, hidden, heads x 128, kv heads x 128, ffn, vocabulary.
SHAPES = {
    "Llama-2-7B": (32, 4096, 4096, 4096, 11008, 32000), "Llama-3.1-8B": (32, 4096, 4096, 1024, 14336, 128256),
    "Llama-2-70B": (80, 8192, 8192, 1024, 28672, 32000),
}  # fmt: skip
# (model, bits, group): tokens/s at batch 1 on one A100-80GB, torch.compile: gpt-fast's README (at 330 W), torchao's.
RATES = (
    ("Llama-3.1-8B", 16, 0, 93.89), ("Llama-3.1-8B", 16, 0, 95.64), ("Llama-2-7B", 16, 0, 107.4),
    ("Llama-2-7B", 8, 0, 155.58), ("Llama-2-7B", 8, 0, 170.8), ("Llama-3.1-8B", 8, 0, 153.0),
    ("Llama-2-70B", 4, 32, 25.25), ("Llama-2-7B", 4, 64, 201.1), ("Llama-3.1-8B", 4, 64, 180.8),
)  # fmt: skip
WEIGHT_ERROR = 0.25  # assumed: whole models, one card


def weight_only(linear: Any) -> WeightOnly:
    """What is no linear takes as long a layer as in the 16-bit models, the rest of a token is linears, and the share of
    the bandwidth is what gives the published rates best, in the mean of logarithms."""
    gpu = load_gpu("a100-sxm")
    beside = np.mean(
        [
            (1e6 / rate - linears_us(gpu, linear, SHAPES[model], 16, 0, 1.0)) / SHAPES[model][0]
            for model, bits, _, rate in RATES
            if bits == 16
        ]
    )
    shares = {}
    for bits in (8, 4):
        tried = np.linspace(0.3, 1, 141)
        errors = np.zeros(len(tried))
        for model, own, group, rate in RATES:
            if own == bits:
                shape = SHAPES[model]
                times = np.array([linears_us(gpu, linear, shape, bits, group, share) for share in tried])
                errors += np.log((times + beside * shape[0]) * rate / 1e6)
        shares[bits] = round(float(tried[np.argmin(np.abs(errors))]), 2)
    basis = "weight-only: six published decode rates of whole models on an A100 (gpt-fast, torchao), error assumed"
    return WeightOnly(shares[8], shares[4], 0.9, WEIGHT_ERROR, basis)


def linears_us(gpu: GpuSpec, linear: Any, shape: tuple[int, ...], bits: int, group: int, share: float) -> float:
    """All linears of a token; the head at 16 bits."""
    layers, hidden, queries, keys, ffn, vocabulary = shape
    sizes = ((queries + 2 * keys, hidden), (hidden, queries), (2 * ffn, hidden), (hidden, ffn), (vocabulary, hidden))
    n, k = np.array(sizes, dtype=np.int64).T
    m = np.ones(len(n), dtype=np.int64)
    whole = cold_rates(gpu, gpu.fp16, family_of(linear))
    tiles = tiles_of(gpu, sparse24=False)
    small = whole
    if bits != 16:
        tried = WeightOnly(share, share, 0.9, 0.0, "")
        small = weight_only_rates(whole, tried, "fp16", bits, group)
    of_layer = linear_parts(small, tiles, m[:4], n[:4], k[:4]).total
    of_head = linear_parts(whole, tiles, m[4:], n[4:], k[4:]).total
    return float(layers * of_layer.sum() + of_head.sum())
