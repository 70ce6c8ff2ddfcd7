"""The ViTCoD machines as targets of attention: one row a layer, and the sum of a model."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from simulator.accelerators.vitcod.attention import ATTENTION_MODELS
from simulator.accelerators.vitcod.attention import cycle as vitcod
from simulator.accelerators.vitcod.attention import paper as vitcod_paper
from simulator.accelerators.vitcod.attention.figures import (
    CYCLE_COLUMNS,
    PAPER_COLUMNS,
    Figures,
    cycle_figures,
    derived,
    paper_figures,
    ratio,
)
from simulator.accelerators.vitcod.attention.masks import AttentionMasks, layer_sha256
from simulator.accelerators.vitcod.attention.paper import PaperLayer, PaperSpec, model_cycles
from simulator.accelerators.vitcod.attention.spec import VitcodAttentionSpec
from simulator.cycles import Infeasible
from simulator.engine import Stream
from simulator.machine.files import Described, described_by, is_machine_file
from simulator.machine.parts import check_heard
from simulator.machine.spec import checked, keys_set, preset_values, settings_text, spec_sha256, with_overrides
from simulator.trace import Timeline, timeline
from workloads.bundle import BundleHeader
from workloads.columns.column import Column
from workloads.conditions import Conditions
from workloads.errors import UserError, unknown
from workloads.facts import header_facts
from workloads.files import sha256_of
from workloads.operations import Attention, Operation
from workloads.refusals import Refusal
from workloads.targets import Gathered, Row, other_kind

TOTAL = "total"  # `layer` of the row that sums a model


@dataclass(frozen=True)
class AttentionModel:
    """A way to count a layer's attention; `notes` are its approximations, one sentence each."""

    level: str
    spec_type: type
    figures: Callable[[Any, np.ndarray], tuple[Figures, PaperLayer | None, Stream | None]]
    documentation: str
    notes: tuple[str, ...]
    columns: tuple[Column, ...]
    table: tuple[str, ...]


PAPER = AttentionModel(
    "paper", PaperSpec, paper_figures, vitcod_paper.__doc__ or "", vitcod_paper.NOTES, PAPER_COLUMNS,
    ("layer", "global_keys", "dense_preload_cycles", "dense_decoder_cycles", "sparse_preload_cycles",
     "sparse_decoder_cycles", "dense_sddmm_cycles", "sparse_sddmm_cycles", "dense_value_cycles", "dense_spmm_cycles",
     "sparse_value_cycles", "sparse_spmm_cycles", "cycles", "dense_cycles", "speedup"),
)  # fmt: skip
CYCLE = AttentionModel(
    "cycle", VitcodAttentionSpec, cycle_figures, vitcod.__doc__ or "", vitcod.NOTES, CYCLE_COLUMNS,
    ("layer", "global_keys", "sparsity", "cycles", "sddmm_cycles", "spmm_cycles", "decoder_cycles", "softmax_cycles",
     "stall_cycles", "ideal_cycles", "dense_cycles", "speedup", "paper_cycles", "paper_ratio"),
)  # fmt: skip
NOT_SUMMED = ("head_features", "heads", "paper_ratio")  # of the columns that attention adds
SUMMED = (
    "nnz", "cycles", "compute_cycles", "stall_cycles", "ideal_cycles", "imbalance_cycles", "buffer_stall_cycles",
    "transfer_cycles", "dense_cycles", "dense_compute_cycles", "weight_bytes", "scale_bytes", "metadata_bytes",
    "activation_bytes", "output_bytes", "dense_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class AttentionTarget:
    """A machine with its settings. Its tokens are those of the masks."""

    name: str
    model: AttentionModel
    spec: Any
    settings: str = ""

    source = "simulated"
    executes: ClassVar[tuple[type[Operation], ...]] = (Attention,)

    @cached_property
    def sha256(self) -> str:
        return spec_sha256(self.name, self.spec)

    @property
    def key(self) -> list[Any]:
        return [self.sha256]

    @property
    def level(self) -> str:
        return self.model.level

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(f"{self.name}: {note}" for note in self.model.notes)

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.model.columns

    @property
    def table(self) -> tuple[str, ...]:
        return self.model.table

    @property
    def clock_mhz(self) -> float:
        return float(self.spec.clock.mhz)

    @property
    def untraceable(self) -> str:
        return "" if self.level == "cycle" else f"is a formula of level {self.level!r} without tiles"

    def check(self, conditions: Conditions) -> None:
        if conditions.tokens != 1 or conditions.activation_density != 1:
            raise UserError(f"{self.name} takes its tokens from the masks; leave `tokens` and `activation_density` out")

    def supports(self, operation: Operation) -> Refusal | None:
        return None if isinstance(operation, Attention) else other_kind(self, operation)

    def rows(
        self, header: BundleHeader, operation: Operation, conditions: Conditions, gathered: Gathered
    ) -> Sequence[Row]:
        return [self.row(header, operation)[0]]

    def row(self, header: BundleHeader, operation: Operation) -> tuple[Row, PaperLayer | None]:
        """The row, and what the published formula says of the layer, if anything."""
        assert isinstance(operation, Attention)
        kept = operation.mask()
        facts = {**self._facts(header, operation, kept), "heads": operation.heads}
        spec, paper = self._spec_for(operation), None
        facts["head_features"] = spec.attention.head_features
        try:
            figures, paper, _ = self.model.figures(spec, kept)
        except Infeasible as error:
            return {**facts, "feasible": False, "reason": str(error)}, None
        row = {**facts, "feasible": True, "reason": "", **figures, **derived(figures, spec.clock.mhz)}
        return self._against_paper(row, [paper]), paper

    def timeline(
        self, header: BundleHeader, operation: Operation, conditions: Conditions, gathered: Gathered
    ) -> Timeline:
        """Raises UserError where the layer cannot run."""
        assert isinstance(operation, Attention)
        try:
            _, _, stream = self.model.figures(self._spec_for(operation), operation.mask())
        except Infeasible as error:
            raise UserError(
                f"{operation.name} cannot run on {self.name}, so there is nothing to trace: {error}"
            ) from None
        assert stream is not None  # a formula has none, and is untraceable
        return timeline(stream, double=True)

    def total(self, rows: list[Row], papers: list[PaperLayer | None]) -> Row:
        """The layers of a model, which follow one another; level "paper": max(summed preload, summed compute), as the
        log has it. Infeasible where a layer is."""
        same = {name: value for name, value in rows[0].items() if all(row.get(name) == value for row in rows)}
        constant = {name: same.get(name) for name in (*ROW_FACTS, "heads", "head_features")}
        row: Row = {
            **constant,
            "layer": TOTAL,
            "block": -1,
            "sparsity": sum(each["sparsity"] for each in rows) / len(rows),  # all layers have the same size
            "mask_sha256": sha256_of([each["mask_sha256"] for each in rows]),
        }
        refused = [each["layer"] for each in rows if not each["feasible"]]
        if refused:
            nnz = sum(each["nnz"] for each in rows)
            return {**row, "nnz": nnz, "feasible": False, "reason": f"cannot run layer {', '.join(refused)}"}
        own = (column.name for column in self.columns if column.name not in NOT_SUMMED)
        figures = {n: sum(each[n] for each in rows) for n in (*SUMMED, *own) if all(n in each for each in rows)}
        if self.level == "paper":  # dense layers are alike, so their sum is right
            figures["cycles"] = max(figures["transfer_cycles"], figures["compute_cycles"])
            figures["stall_cycles"] = figures["cycles"] - figures["compute_cycles"]
        row |= {"feasible": True, "reason": rows[0]["reason"], **figures, **derived(figures, self.spec.clock.mhz)}
        return self._against_paper(row, papers)

    def _against_paper(self, row: Row, papers: Iterable[PaperLayer | None]) -> Row:
        """With how far the cycles are from the published formula, where that has cycles for every layer."""
        known = list(papers)
        if self.level != "cycle" or None in known:
            return row
        cycles = model_cycles([paper for paper in known if paper is not None])
        return {**row, "paper_cycles": cycles, "paper_ratio": ratio(row["cycles"], cycles)}

    def _spec_for(self, operation: Attention) -> Any:
        """With the features of the operation's heads, where it states them."""
        if operation.head_features is None:
            return self.spec
        return replace(self.spec, attention=replace(self.spec.attention, head_features=operation.head_features))

    def _facts(self, header: BundleHeader, operation: Attention, kept: np.ndarray) -> Row:
        count = int(kept.sum())
        return {
            **header_facts(header),
            "layer": operation.name,
            "block": operation.block,
            "role": operation.role,
            "out_features": operation.heads * operation.queries,
            "in_features": operation.keys,
            "nnz": count,
            "sparsity": 1 - count / kept.size,
            "mask_sha256": layer_sha256(kept),
            "layer_tokens": operation.queries,
            "executions": 1.0,
            "target": self.name,
            "settings": self.settings,
            "level": self.level,
            "source": self.source,
            "tokens": operation.queries,
            "activation_density": 1.0,
            "clock_mhz": self.spec.clock.mhz,
            "spec_sha256": self.sha256,
        }


ROW_FACTS = (
    "model", "method", "pattern", "target_sparsity", "role", "out_features", "in_features", "layer_tokens",
    "executions", "target",
    "settings", "level", "source", "tokens", "activation_density", "clock_mhz", "spec_sha256", "seed", "tool_version",
)  # fmt: skip


def open_attention(name: str, overrides: Sequence[str] = ()) -> AttentionTarget:
    """Raises UserError for an unknown target and bad overrides."""
    label, (model, spec_type, values) = (
        described_by(Path(name), described) if is_machine_file(name) else (name, described(name))
    )
    checked(name, spec_type, values)
    values = with_overrides(label, spec_type, values, overrides)
    spec: Any = checked(label, spec_type, values)
    check_heard(label, spec_type, values, keys_set(overrides))
    return AttentionTarget(label, model, spec, settings_text(overrides))


def described(name: str) -> Described:
    """What a machine file of attention can be based on."""
    if name not in ATTENTION_MODELS:
        raise unknown("attention accelerator", name, ATTENTION_MODELS)
    model = ATTENTION_MODELS[name]
    return model, model.spec_type, preset_values(name)


def model_rows(
    target: AttentionTarget, masks: AttentionMasks, operations: Iterable[Attention] | None = None
) -> list[Row]:
    """Rows of every layer in order, then the total; `operations`: those of the masks, where who asks counts them. A
    layer that the target cannot run is a row with its reason, and so
    is then the total."""
    header = masks.header
    found = [target.row(header, operation) for operation in operations or masks.operations()]
    rows, papers = [row for row, _ in found], [paper for _, paper in found]
    return [*rows, target.total(rows, papers)]
