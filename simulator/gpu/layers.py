"""Result rows of a bundle's layers on a GPU: predicted times of the library kernels that would run them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from simulator.facts import load_facts, operation_facts
from simulator.gpu.named import find_gpu
from simulator.gpu.prediction import Prediction, precision_of, predict
from simulator.gpu.spec import GpuSpec
from simulator.machine.spec import spec_sha256
from workloads.bundle import BundleHeader
from workloads.errors import UserError
from workloads.operations import Linear
from workloads.patterns import DENSE
from workloads.routing import UNIFORM, Routing
from workloads.verdicts import verdict

NOTES = (
    "Times are predictions of a model fitted to measured library kernels, one GEMM at a time, back to back; latency_error_p90 is what nine "
    "of ten stayed within on shapes outside the fit; it grows below and above the data's sizes, where `extrapolated` names what lies "
    "outside. Where the band of the speedup's error holds 1.0 the verdict is `not distinguishable`.",
    "Only masks that are 2:4 run faster: PyTorch and NVIDIA's libraries have no faster kernel for other sparsity, so those layers are "
    "predicted dense.",
    "A GEMM of the type --dtype on both sides; weights of fewer bits are not predicted. Launch overhead of the framework, activations' "
    "quantization and everything between the layers come on top.",
)
N, M = 2, 4
NOT_24 = "the mask is not 2:4, and there is no faster kernel for it"
ERRORS = ("latency_error_p90", "speedup_error_p90")


@dataclass(frozen=True)
class GpuTarget:
    """A GPU with its settings and number type."""

    name: str
    spec: GpuSpec
    dtype: str
    settings: str = ""


def open_gpu(name: str, overrides: list[str], dtype: str) -> GpuTarget:
    """Raises UserError for an unknown GPU, key or a type that its tensor cores lack."""
    label, spec = find_gpu(name, overrides)
    precision_of(spec, dtype)
    return GpuTarget(label, spec, dtype, " ".join([f"dtype={dtype}", *overrides]))


def predict_layers(
    target: GpuTarget, header: BundleHeader, layers: Iterable[Linear], tokens: int, routing: Routing = UNIFORM
) -> Iterator[dict[str, Any]]:
    """One row a layer, source "predicted", in order; a shape that no 2:4 kernel takes runs dense, and `mapping` says so. Masks are
    read only where their pattern is not stated to be 2:4. Experts get tokens as `routing` says. Raises UserError
    for tokens out of range."""
    sha256 = spec_sha256(target.name, target.spec)

    @lru_cache
    def predicted(count: int, rows: int, cols: int) -> Prediction:
        return predict(target.spec, count, rows, cols, target.dtype)

    for layer in layers:
        try:
            load = routing.load(header, layer, tokens)
            parts = [(weight, predicted(n, layer.out_features, layer.in_features)) for n, weight in load.parts]
            left = layer.weights.pattern == DENSE
            follows = not left and (layer.weights.pattern == f"{N}:{M}" or layer.weights.mask().follows(N, M))
        except UserError as error:
            raise UserError(f"{layer.name}: {error}") from None
        otherwise = "the layer was left dense" if left else NOT_24
        yield {
            **operation_facts(header, layer),
            **load_facts(load),
            "target": target.name,
            "settings": f"{target.settings} {routing.settings(header)}".strip(),
            "level": "kernel",
            "source": "predicted",
            "tokens": tokens,
            "activation_density": 1.0,
            "spec_sha256": sha256,
            **expected_figures([(weight, figures(found, follows, otherwise)) for weight, found in parts]),
        }


def expected_figures(runs: list[tuple[float, dict[str, Any]]]) -> dict[str, Any]:
    """Of (weight, figures) runs that may happen: mean times, the larger error and the verdict on those; what cannot be averaged is
    the first's."""
    first = runs[0][1]
    if len(runs) == 1 and runs[0][0] == 1:
        return first
    own, dense = (sum(weight * run[name] for weight, run in runs) for name in ("latency_us", "dense_latency_us"))
    errors = {name: max((run[name] for _, run in runs), key=lambda value: value or 0.0) for name in ERRORS}
    extrapolated = next((run["extrapolated"] for _, run in runs if run["extrapolated"]), "")
    speedup = dense / own if own else first["speedup"]
    times = {"latency_us": own, "dense_latency_us": dense, "speedup": speedup}
    found = {**first, **times, **errors, "extrapolated": extrapolated}
    if first["speedup_error_p90"] is not None:
        found["verdict"] = str(verdict(np.array([speedup]), np.array([found["speedup_error_p90"]]))[0])
    return found


def figures(found: Prediction, follows: bool, otherwise: str = NOT_24) -> dict[str, Any]:
    """The 2:4 kernel where the mask and the shape allow it, else the dense one, for the reason `otherwise` if not the shape's."""
    dense_us = float(found.dense.time_us[0])
    sparse = follows and not found.reason[0]
    kernel = found.sparse24 if sparse else found.dense
    why = "2:4" if sparse else f"dense: {found.reason[0] if follows else otherwise}"
    return {
        "kernel": "sparse24" if sparse else "dense",
        "latency_us": float(kernel.time_us[0]),
        "dense_latency_us": dense_us,
        "speedup": dense_us / float(kernel.time_us[0]),
        "latency_error_p90": float((found.sparse24_error_p90 if sparse else found.dense_error_p90)[0]),
        "speedup_error_p90": float(found.speedup_error_p90[0]) if sparse else None,
        "verdict": str(found.verdict[0]) if sparse else "same kernel",
        "extrapolated": str(found.extrapolated[0]),
        "bound": str(kernel.bound[0]),
        "mapping": f"{why}, tile {kernel.tile[0]}",
        "clock_mhz": float(kernel.clock_mhz[0]),
        "feasible": True,
        "reason": f"runs dense: {found.reason[0]}" if follows and found.reason[0] else "",
    }
