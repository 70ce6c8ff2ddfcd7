"""Result rows of a record: what was measured stands beside what is simulated and predicted. Needs no torch."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from measurement.records import KEY, Record
from workloads import __version__
from workloads.bundle import BundleHeader
from workloads.columns.column import Column
from workloads.conditions import Conditions
from workloads.errors import UserError, unknown
from workloads.facts import linear_facts
from workloads.files import plain, sha256_of
from workloads.operations import Linear, Operation
from workloads.patterns import DENSE, WHOLE, kept_of_four
from workloads.refusals import Refusal
from workloads.targets import Gathered, Row, other_kind

SITUATIONS = ("cold", "warm")
WEIGHT_BITS = {"int8": 8, "int8-24": 8, "fp8": 8, "fp8-24": 8, "int4": 4}
NOTES = (
    "Measured: the multiplication with operands that are ready; padding of tokens, quantizing of inputs and scaling of "
    "integer results are not in the time. Speedups of quantized kernels are over the dense kernel of 16 bits; "
    "predicted ones over the dense kernel of their own type.",
)
MEASURED_COLUMNS = (
    "layer", "role", "out_features", "in_features", "tokens", "kernel", "latency_us", "dense_latency_us", "speedup",
    "feasible",
    "reason",
)  # fmt: skip
Case = dict[str, Any]
Shape = tuple[int, int, str]  # out_features, in_features, pattern


@dataclass(frozen=True)
class RecordTarget:
    """The card of a record, in a situation: "cold" (weights come from DRAM) or "warm" (back to back). Raises UserError
    for another.

    `latency_us` is the median of the situation, `speedup` the dense kernel's median over it: same shape, tokens, type
    and situation.
    """

    record: Record
    situation: str

    source = "measured"
    level = "kernel"
    executes: ClassVar[tuple[type[Operation], ...]] = (Linear,)
    columns: ClassVar[tuple[Column, ...]] = ()
    table = MEASURED_COLUMNS
    notes = NOTES
    untraceable = "its times were measured, kernel by kernel, without tiles"

    def __post_init__(self) -> None:
        if self.situation not in SITUATIONS:
            raise unknown("`l2`", self.situation, SITUATIONS)

    @property
    def name(self) -> str:
        return self.record.gpu

    @property
    def settings(self) -> str:
        return f"l2={self.situation}"

    @cached_property
    def sha256(self) -> str:
        return sha256_of(plain(self.record.header["environment"]))

    @property
    def key(self) -> list[Any]:
        return [self.sha256, self.settings, sha256_of(plain(self.record.frame.to_dict("records")))]

    @cached_property
    def cases(self) -> dict[Shape, list[Case]]:
        """Of each shape, in order."""
        found: dict[Shape, list[Case]] = {}
        for case in self.record.frame.to_dict("records"):
            found.setdefault((case["out_features"], case["in_features"], case["pattern"]), []).append(case)  # type: ignore[arg-type]
        return found

    @cached_property
    def dense_us(self) -> dict[tuple[Any, ...], float]:
        """Times of the dense kernel, by what its case has in common with others."""
        every = (case for cases in self.cases.values() for case in cases)
        return {
            _same_problem(case): case[f"{self.situation}_us"]
            for case in every
            if case["kernel"] == "dense" and case["feasible"]
        }

    def check(self, conditions: Conditions) -> None:
        tokens = sorted({case["tokens"] for cases in self.cases.values() for case in cases})
        if conditions.tokens not in tokens:
            raise UserError(
                f"the record of {self.name} has no {conditions.tokens:,} tokens; it has {', '.join(map(str, tokens))}"
            )
        if conditions.activation_density != 1:
            raise UserError(f"{self.name} was measured with dense inputs; leave `activation_density` out")

    def supports(self, operation: Operation) -> Refusal | None:
        if not isinstance(operation, Linear):
            return other_kind(self, operation)
        if _shape_of(operation) in self.cases:
            return None
        rows, cols, pattern = _shape_of(operation)
        return Refusal(
            f"a record of {rows} x {cols}, {pattern}", where=operation.name, way_out="measure the shape on this card"
        )

    def rows(self, header: BundleHeader, operation: Operation, conditions: Conditions, gathered: Gathered) -> list[Row]:
        """Every kernel at the tokens of the conditions."""
        assert isinstance(operation, Linear)
        facts = linear_facts(header, operation)
        found = (case for case in self.cases[_shape_of(operation)] if case["tokens"] == conditions.tokens)
        return [{**facts, **self._figures(case)} for case in found]

    def every_row(self) -> list[Row]:
        """Every layer of the record's header at every token count by every kernel. A shape without layers is a row of
        its own."""
        rows = []
        for shape, cases in self.cases.items():
            layers = [layer for layer in self.record.header["layers"] if _shape(layer) == shape]
            for layer in layers or [shape_alone("shapes", shape[2], *shape[:2])]:
                rows += [{**_facts(layer, case), **self._figures(case)} for case in cases]
        return rows

    def _figures(self, case: Case) -> Row:
        feasible, latency_us, dense_us = (
            case["feasible"],
            case[f"{self.situation}_us"],
            self.dense_us.get(_same_problem(case)),
        )
        variant, reason = case["variant"], case["reason"]
        if case["pattern"] in WHOLE and not feasible and dense_us:  # the dense kernel runs it, whatever the others run
            variant = "left dense, the dense kernel" if case["pattern"] == DENSE else "without zeros, the dense kernel"
            feasible, latency_us, reason = True, dense_us, ""
        settings = f"kernel={case['kernel']} dtype={case['dtype']} l2={self.situation}"
        return {
            "target": self.name,
            "settings": settings + (f" compile={case['compiled']}" if case["compiled"] else ""),
            "level": self.level,
            "source": self.source,
            "tokens": case["tokens"],
            "activation_density": 1.0,
            "weight_bits": WEIGHT_BITS.get(case["kernel"], 16),
            "latency_us": latency_us if feasible else None,
            "dense_latency_us": dense_us,
            "speedup": dense_us / latency_us if feasible and dense_us else None,
            "kernel": case["kernel"],
            "mapping": variant,
            "clock_mhz": case["sm_mhz"],
            "feasible": feasible,
            "reason": reason,
            "spec_sha256": self.sha256,
        }


def shape_alone(
    model: str, pattern: str, rows: int, cols: int, name: str = "", role: str = "other", block: int = -1
) -> Row:
    """A layer as a record's header keeps it, of which no more than the shape and the pattern are known."""
    kept = kept_of_four(pattern)
    return {
        "name": name or f"{rows}x{cols}", "role": role, "block": block, "out_features": rows, "in_features": cols,
        "pattern": pattern, "nnz": rows * cols * kept // 4 if kept else None, "mask_sha256": "", "model": model,
        "method": "generated", "target_sparsity": None, "seed": 0,
    }  # fmt: skip


def _facts(layer: dict[str, Any], case: Case) -> Row:
    """The columns of linear_facts, of a layer in a record's header."""
    nnz = layer.get("nnz")
    return {
        "model": layer.get("model", ""),
        "method": layer.get("method", ""),
        "pattern": layer.get("run_pattern", case["pattern"]),
        "layer_pattern": case["pattern"] if "run_pattern" in layer else "",
        "target_sparsity": layer.get("target_sparsity"),
        "layer": layer.get("name", ""),
        "block": layer.get("block", -1),
        "role": layer.get("role", "other"),
        "out_features": case["out_features"],
        "in_features": case["in_features"],
        "nnz": nnz,
        "sparsity": None if nnz is None else 1 - nnz / (case["out_features"] * case["in_features"]),
        "mask_sha256": layer.get("mask_sha256", ""),
        "seed": layer.get("seed"),
        "tool_version": __version__,
    }


def _shape_of(linear: Linear) -> Shape:
    return linear.out_features, linear.in_features, linear.weights.pattern


def _shape(layer: dict[str, Any]) -> Shape:
    return layer.get("out_features", 0), layer.get("in_features", 0), layer.get("pattern", "")


def _same_problem(case: dict[Any, Any]) -> tuple[Any, ...]:
    return tuple(case[name] for name in KEY if name != "kernel")
