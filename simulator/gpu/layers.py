"""Layers on a GPU: predicted times of the library kernels that would run them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np

from simulator.gpu.confidence import stated
from simulator.gpu.masked_layers import KERNEL, asked_kernel, check_kernel, masked_figures
from simulator.gpu.named import find_gpu
from simulator.gpu.prediction import Prediction, precision_of, predict
from simulator.gpu.sizes import MAX_SIZE
from simulator.gpu.spec import GpuSpec
from simulator.machine.spec import settings_text, spec_sha256
from workloads.bundle import BundleHeader
from workloads.columns.column import Column
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.facts import linear_facts, load_facts
from workloads.operations import Linear, Operation
from workloads.patterns import DENSE, FACTORED, SMALLER, WHOLE
from workloads.refusals import Refusal
from workloads.routing import Load
from workloads.targets import Gathered, Row, other_kind
from workloads.verdicts import verdict

NOTES = (
    "Times are predictions of a model fitted to measured library kernels, one GEMM at a time, back to back; "
    "latency_error_p90 is what nine of ten stayed within on shapes outside the fit; it grows below and above the "
    "data's sizes, where `extrapolated` names what lies outside. Where the band of the speedup's error holds 1.0 the "
    "verdict is `not distinguishable`.",
    "Only masks that are 2:4 run faster: PyTorch and NVIDIA's libraries have no faster kernel for other sparsity, so "
    "those layers are predicted dense. MACKO's, from elsewhere, gains at one token: `kernel=macko` on the "
    "rtx-4090.",
    "A GEMM of the type `dtype` on both sides; weights of fewer bits are not predicted. Launch overhead of the "
    "framework, activations' quantization and everything between the layers come on top.",
)
GPU_TABLE = (
    "layer", "role", "out_features", "in_features", "sparsity", "target", "tokens", "kernel", "latency_us",
    "dense_latency_us",
    "speedup", "latency_error_p90", "speedup_error_p90", "verdict", "extrapolated", "bound",
)  # fmt: skip
N, M = 2, 4
OF_WHOLE = {DENSE: "the layer was left dense", SMALLER: "smaller, without zeros", FACTORED: "a factor, without zeros"}
NOT_24 = "the mask is not 2:4, and the libraries have no faster kernel for it"
ERRORS = ("latency_error_p90", "speedup_error_p90")


@dataclass(frozen=True)
class GpuTarget:
    """A GPU with its settings and number type. kernel: of `operators.spmv`, for one token; "": the libraries' own."""

    name: str
    spec: GpuSpec
    dtype: str
    settings: str = ""
    kernel: str = ""

    source = "predicted"
    level = "kernel"
    executes: ClassVar[tuple[type[Operation], ...]] = (Linear,)
    columns: ClassVar[tuple[Column, ...]] = ()
    table = GPU_TABLE
    untraceable = "is a GPU, whose times are predicted, kernel by kernel, without tiles"

    @cached_property
    def sha256(self) -> str:
        return spec_sha256(self.name, self.spec)

    @property
    def key(self) -> list[Any]:
        return [self.sha256, self.dtype, *([self.kernel] if self.kernel else [])]

    @property
    def notes(self) -> tuple[str, ...]:
        error = precision_of(self.spec, self.dtype).error
        basis = f"{self.name}, {self.dtype}: of ten predictions nine are within {stated(error)} ({error.basis})."
        return (*(f"GPUs: {note}" for note in NOTES), basis)

    def check(self, conditions: Conditions) -> None:
        if conditions.activation_density != 1:
            raise UserError(
                f"{self.name} is a GPU, whose times are predicted: it gains nothing from `activation_density`; leave "
                f"it out"
            )
        if conditions.halo_reuse:
            raise UserError(f"{self.name} is a GPU, whose times are of whole GEMMs; leave `halo_reuse` out")
        if conditions.tokens > MAX_SIZE:
            raise UserError(f"{self.name} cannot run tokens = {conditions.tokens}; 1 to {MAX_SIZE:,}")
        if self.kernel and conditions.tokens != 1:
            raise UserError(f"`{KERNEL}{self.kernel}` is for tokens = 1, not {conditions.tokens}; leave it out")

    def supports(self, operation: Operation) -> Refusal | None:
        return None if isinstance(operation, Linear) else other_kind(self, operation)

    def rows(
        self, header: BundleHeader, operation: Operation, conditions: Conditions, gathered: Gathered
    ) -> Sequence[Row]:
        """A shape that no 2:4 kernel takes runs dense, and `mapping` says so. The mask is read only where its pattern
        is not stated to be 2:4."""
        assert isinstance(operation, Linear)
        load = conditions.routing.load(header, operation, conditions.tokens)
        row = {
            **linear_facts(header, operation),
            **load_facts(load),
            "target": self.name,
            "settings": f"{self.settings} {conditions.settings(header)}".strip(),
            "level": self.level,
            "source": self.source,
            "tokens": conditions.tokens,
            "activation_density": 1.0,
            "spec_sha256": self.sha256,
            **expected_figures(self.runs(operation, load)),
        }
        return [{**row, "mapping": operation.use.words(row["mapping"])}]

    def runs(self, operation: Linear, load: Load) -> list[tuple[float, dict[str, Any]]]:
        """(weight, figures) of those that may happen."""
        weights, shape = operation.weights, (operation.out_features, operation.in_features)
        left = weights.pattern in WHOLE
        if self.kernel:
            found = masked_figures(self.spec, self.kernel, shape, None if left else weights.mask())
            return [(weight, found) for _, weight in load.parts]
        follows = not left and (weights.pattern == f"{N}:{M}" or weights.mask().follows(N, M))
        otherwise = OF_WHOLE[weights.pattern] if left else NOT_24
        return [(weight, figures(self.predicted(n, *shape), follows, otherwise)) for n, weight in load.parts]

    @cached_property
    def predicted(self) -> Any:
        """The prediction of (tokens, out_features, in_features), made once for the layers of a shape."""

        @lru_cache
        def of(tokens: int, rows: int, cols: int) -> Prediction:
            return predict(self.spec, tokens, rows, cols, self.dtype)

        return of


def open_gpu(name: str, overrides: Sequence[str] = (), dtype: str = "fp16") -> GpuTarget:
    """Raises UserError for an unknown GPU, key or a type that its tensor cores lack."""
    kernel, keys = asked_kernel(overrides)
    label, spec = find_gpu(name, keys)
    precision_of(spec, dtype)
    if kernel:
        check_kernel(spec, kernel, dtype)
    return GpuTarget(label, spec, dtype, settings_text([f"dtype={dtype}", *overrides]), kernel)


def expected_figures(runs: list[tuple[float, dict[str, Any]]]) -> dict[str, Any]:
    """Of (weight, figures) runs that may happen: mean times, the larger error and the verdict on those; what cannot be
    averaged is the first's."""
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
    """The 2:4 kernel where the mask and the shape allow it, else the dense one, for the reason `otherwise` if not the
    shape's."""
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
