"""Result rows of a record: what was measured stands beside what is simulated and predicted. Needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from measurement.break_even import density_by_bytes, density_by_times
from measurement.layer_facts import density_of, drawn_kept, layer_facts, shape_alone, weight_bits
from measurement.layer_uses import as_used, asked, facts_of, samples_in
from measurement.measured_columns import CPU_COLUMNS, CPU_NOTES, MEASURED_COLUMNS, NOTES
from measurement.noise import noisy
from measurement.published import Source, source_of
from measurement.records import KEY, SITUATIONS, Record
from measurement.shapes import ANY
from workloads.bundle import BundleHeader
from workloads.columns.column import Column
from workloads.conditions import Conditions
from workloads.errors import UserError, unknown
from workloads.facts import linear_facts
from workloads.files import plain, sha256_of
from workloads.operations import Linear, Operation
from workloads.patterns import DENSE, WHOLE
from workloads.refusals import Refusal
from workloads.targets import Gathered, Row, other_kind

DENSITY_DIGITS = 2  # to which masks are told apart by what they keep
Case = dict[str, Any]
Shape = tuple[int, int]  # out_features, in_features


@dataclass(frozen=True)
class RecordTarget:
    """The card of a record, in a situation: "cold" (weights come from DRAM) or "warm" (back to back). Raises UserError
    for another.

    `latency_us` is the median of the situation, `speedup` the dense kernel's median over it: same shape, tokens, type
    and situation.
    """

    record: Record
    situation: str

    level = "kernel"
    executes: ClassVar[tuple[type[Operation], ...]] = (Linear,)
    table = MEASURED_COLUMNS
    untraceable = "its times were measured, kernel by kernel, without tiles"

    def __post_init__(self) -> None:
        if self.situation not in SITUATIONS:
            raise unknown("`l2`", self.situation, SITUATIONS)

    @cached_property
    def published(self) -> Source | None:
        """Who published it, None of a record of `measure`."""
        return source_of(self.record)

    @property
    def source(self) -> str:
        return "published" if self.published else "measured"

    @cached_property
    def timed(self) -> str:
        """The situation that is meant; that of a published record, which has one, where it has not the other."""
        there = self.record.situations
        return self.situation if self.situation in there or not self.published else there[0]

    @property
    def name(self) -> str:
        return self.record.machine

    @property
    def columns(self) -> tuple[Column, ...]:
        return CPU_COLUMNS if self.record.on_cpu else ()

    @property
    def notes(self) -> tuple[str, ...]:
        return () if self.published else CPU_NOTES if self.record.on_cpu else NOTES

    @property
    def settings(self) -> str:
        return f"l2={self.timed}"

    @cached_property
    def sha256(self) -> str:
        return sha256_of(plain(self.record.header["environment"]))

    @property
    def key(self) -> list[Any]:
        return [self.sha256, self.settings, sha256_of(plain(self.record.frame.to_dict("records")))]

    @cached_property
    def cases(self) -> dict[Shape, list[Case]]:
        """Of each shape, in order; one whose times are noisy in the situation that is meant did not run."""
        found: dict[Shape, list[Case]] = {}
        for case in self.record.frame.to_dict("records"):
            steady = not noisy(case["reason"], self.timed)
            case |= {
                "feasible": case["feasible"] and steady,
                "reason": "" if steady and case["feasible"] else case["reason"],
            }
            found.setdefault((case["out_features"], case["in_features"]), []).append(case)  # type: ignore[arg-type]
        return found

    @property
    def every_case(self) -> list[Case]:
        return [case for cases in self.cases.values() for case in cases]

    @cached_property
    def dense_us(self) -> dict[tuple[Any, ...], float]:
        """Times of the dense kernel, by what its case has in common with others."""
        return {
            self._problem(case): self.us(case)
            for case in self.every_case
            if case["kernel"] == "dense" and case["feasible"]
        }

    @cached_property
    def passed(self) -> dict[tuple[Any, ...], str]:
        """Break-even densities, by kernel and what its cases have in common but for the mask."""
        points: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
        for case in self.every_case:
            if case["feasible"] and case["pattern"] != DENSE:
                points.setdefault((case["kernel"], *self._problem(case)), []).append((case["density"], self.us(case)))
        return {
            key: density_by_times(some, self.dense_us[key[1:]])
            for key, some in points.items()
            if key[1:] in self.dense_us
        }

    def of_layer(self, rows: int, cols: int, pattern: str, density: float) -> list[Case]:
        """The cases of a mask, and on a CPU of kernels that multiply every weight as well."""
        return [case for case in self.cases.get((rows, cols), []) if self._is_of(case, pattern, density)]

    def _is_of(self, case: Case, pattern: str, density: float) -> bool:
        masked = case["pattern"] == pattern and case["density"] in (1.0, round(density, DENSITY_DIGITS))
        return masked or pattern == ANY or (self.record.on_cpu and case["pattern"] == DENSE)

    def us(self, case: Case) -> float:
        """The median, or on a CPU the least of the samples; of a case that ran."""
        if self.record.on_cpu:
            return min(map(float, case[f"{self.timed}_samples_us"].split()))
        return float(case[f"{self.timed}_us"])

    def speedup(self, case: Case) -> float | None:
        dense_us = self.dense_us.get(self._problem(case))
        return dense_us / self.us(case) if dense_us and case["feasible"] else None

    def _problem(self, case: Case) -> tuple[Any, ...]:
        """What cases of other kernels share: on a GPU each mask has a dense case of its own."""
        apart = ("kernel", "pattern", "density") if self.record.on_cpu else ("kernel",)
        return tuple(case[name] for name in KEY if name not in apart)

    def check(self, conditions: Conditions) -> None:
        tokens = samples_in(self.record.header["layers"]) or sorted({case["tokens"] for case in self.every_case})
        if conditions.tokens not in tokens:
            raise UserError(
                f"the record of {self.name} has no {conditions.tokens:,} tokens; it has {', '.join(map(str, tokens))}"
            )
        if conditions.activation_density != 1:
            raise UserError(f"{self.name} was measured with dense inputs; leave `activation_density` out")
        if conditions.halo_reuse:
            raise UserError(f"{self.name} was measured on whole GEMMs; leave `halo_reuse` out")

    def supports(self, operation: Operation) -> Refusal | None:
        if not isinstance(operation, Linear):
            return other_kind(self, operation)
        rows, cols, pattern = operation.out_features, operation.in_features, operation.weights.pattern
        if self.of_layer(*_mask_of(operation)):
            return None
        return Refusal(
            f"a record of {rows} x {cols}, {pattern}", where=operation.name, way_out="measure the shape on this machine"
        )

    def rows(self, header: BundleHeader, operation: Operation, conditions: Conditions, gathered: Gathered) -> list[Row]:
        """Every kernel at the tokens of the conditions."""
        assert isinstance(operation, Linear)
        facts, unpruned, use = linear_facts(header, operation), operation.unpruned, facts_of(operation)
        tokens = conditions.tokens * operation.use.tokens
        found = (case for case in self.of_layer(*_mask_of(operation)) if case["tokens"] == tokens)
        return [as_used(use, {**facts, **self._figures(case, unpruned)}) for case in found]

    def every_row(self) -> list[Row]:
        """Every layer of the record's header at every token count by every kernel. Cases that no layer stands for are a
        row each."""
        rows: list[Row] = []
        seen: set[int] = set()
        baselines: set[tuple[int, ...]] = set()  # unpruned shapes, measured for what is left of them
        for layer in self.record.header["layers"]:
            shape, unpruned = (layer.get("out_features", 0), layer.get("in_features", 0)), layer.get("unpruned")
            baselines |= {tuple(unpruned)} if unpruned else set()
            found = asked(layer, self.of_layer(*shape, layer.get("pattern", ""), density_of(layer)))
            seen |= {id(case) for case in found}
            rows += self.layer_rows(layer, found)
        for shape, cases in self.cases.items():
            for case in (case for case in cases if id(case) not in seen and shape not in baselines):
                rows += self.layer_rows(shape_alone("shapes", case["pattern"], *shape, nnz=drawn_kept(case)), [case])
        return rows

    def layer_rows(self, layer: dict[str, Any], cases: Sequence[Case]) -> list[Row]:
        """Of a layer of a record's header, by each case."""
        unpruned = layer.get("unpruned")
        return [as_used(layer, {**layer_facts(layer, case), **self._figures(case, unpruned)}) for case in cases]

    def missing_row(self, layer: dict[str, Any], tokens: int, dtype: str, reason: str) -> Row:
        """Of a layer that was not measured at so many tokens of its own."""
        none = {"out_features": layer["out_features"], "in_features": layer["in_features"], "density": 1.0}
        anything = layer["pattern"] == ANY and self.every_case
        facts = layer_facts(layer, {**none, "pattern": self.every_case[0]["pattern"] if anything else layer["pattern"]})
        row = {
            **facts, **self._whose(), "tokens": tokens, "activation_density": 1.0,
            "settings": f"dtype={dtype} {self.settings}{self._named()}", "feasible": False, "reason": reason,
        }  # fmt: skip
        return as_used(layer, row)

    def _whose(self) -> Row:
        return {"target": self.name, "level": self.level, "source": self.source, "spec_sha256": self.sha256}

    def _named(self) -> str:
        return f" published={self.published.name}" if self.published else ""

    def _figures(self, case: Case, unpruned: Sequence[int] | None = None) -> Row:
        """`unpruned`: the shape before rows and columns were taken out, whose dense time then is the baseline."""
        feasible, dense_us = case["feasible"], self.dense_us.get(self._problem(case))
        latency_us = self.us(case) if feasible else None
        variant, reason, on_cpu = case["variant"], case["reason"], self.record.on_cpu
        if case["pattern"] in WHOLE and not feasible and dense_us and not on_cpu:  # the dense kernel runs it
            variant = "left dense, the dense kernel" if case["pattern"] == DENSE else "without zeros, the dense kernel"
            feasible, latency_us, reason = True, dense_us, ""
        if unpruned:
            whole = {**case, "out_features": unpruned[0], "in_features": unpruned[1], "pattern": DENSE, "density": 1.0}
            dense_us = self.dense_us.get(self._problem(whole))
        settings = f"kernel={case['kernel']} dtype={case['dtype']} l2={self.timed}{self._named()}"
        settings += f" threads={self.record.header['environment'].get('threads', 1)}" if on_cpu else ""
        return {
            **(self._on_cpu(case) if on_cpu else {}),
            **self._whose(),
            "settings": settings + (f" compile={case['compiled']}" if case["compiled"] else ""),
            "tokens": case["tokens"],
            "activation_density": 1.0,
            "weight_bits": weight_bits(case),
            "latency_us": latency_us,
            "dense_latency_us": dense_us,
            "speedup": dense_us / latency_us if latency_us and dense_us else None,
            "kernel": case["kernel"],
            "mapping": self.published.said if self.published else variant,
            "clock_mhz": case["sm_mhz"],
            "feasible": feasible,
            "reason": reason,
        }

    def _on_cpu(self, case: Case) -> Row:
        kernel, dtype = case["kernel"], case["dtype"]
        times = [float(time) for time in case[f"{self.timed}_samples_us"].split()]
        return {
            "spread": case[f"{self.timed}_us"] / min(times) if times else None,
            "bytes_break_even": density_by_bytes(kernel, case["out_features"], case["in_features"], dtype),
            "measured_break_even": self.passed.get((kernel, *self._problem(case)), ""),
        }


def _mask_of(linear: Linear) -> tuple[int, int, str, float]:
    shape = linear.out_features, linear.in_features
    return *shape, linear.weights.pattern, linear.weights.nnz / (shape[0] * shape[1])
