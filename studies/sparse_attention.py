"""Attention of a prefill under masks of its own, on a machine made for it beside the one that runs the rest."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from simulator.accelerators.vitcod.attention.masks import AttentionMasks
from simulator.inference.runner import Runner
from simulator.inference.steps import TimedRow, Times
from simulator.statistics import StatisticsStore
from simulator.targets import find_target
from workloads.conditions import Conditions
from workloads.counts import Counts
from workloads.decoder.dimensions import Decoder
from workloads.errors import UserError
from workloads.operations import Attention
from workloads.operations.causal import CausalAttention
from workloads.phases import Generation, Phase
from workloads.targets import Row, Target, kinds_text


@dataclass(frozen=True)
class SparseAttention:
    """`masks` of every block, or of one for all."""

    masks: AttentionMasks
    target: Target
    known: dict[int, list[Row]] = field(default_factory=dict, compare=False)

    @classmethod
    def open(cls, masks: Path | None, on: str) -> "SparseAttention | None":
        """None where neither is asked for. Raises UserError for one without the other, and for what runs no
        attention."""
        if masks is None and not on:
            return None
        if masks is None or not on:
            raise UserError("`attention` (masks) and `attention_on` (what runs it) go together; give both or none")
        target = find_target(on)
        if Attention not in target.executes:
            raise UserError(f"`attention_on`: {target.name} runs {kinds_text(target.executes)}, not attention")
        return cls(AttentionMasks.open(masks), target)

    @property
    def settings(self) -> str:
        return f"attention={self.masks.name} on {self.target.name}"

    def in_place(self, times: Times, decoder: Decoder, work: Phase | Generation, runner: Runner) -> Times:
        """With the prefill's attention as the target has it. Raises UserError where the masks are of another model."""
        return self._changed(times, decoder, work, runner, lambda row: row["latency_us"], "its masks")

    def unpruned(self, times: Times, decoder: Decoder, work: Phase | Generation, runner: Runner) -> Times:
        """With that of the target without masks."""
        return self._changed(times, decoder, work, runner, lambda row: row.get("dense_latency_us"), "no masks")

    def _changed(
        self, times: Times, decoder: Decoder, work: Phase | Generation, runner: Runner,
        us_of: Callable[[Row], float | None], under: str,
    ) -> Times:  # fmt: skip
        prefill = work.prefill if isinstance(work, Generation) else work
        one = self._attention_of(times, decoder, prefill, runner)
        rows = self._layers(one.head_size)
        found = [us_of(row) for row in rows]
        if None in found:
            raise UserError(f"{self.target.name}: without masks its attention does not fit, so there is no speedup")
        spent = sum(us for us in found if us is not None) / len(rows) * prefill.batch
        return replace(times, rows=[self._row(row, spent, rows, prefill, under) for row in times.rows])

    def _row(self, row: TimedRow, spent: float, rows: list[Row], prefill: Phase, under: str) -> TimedRow:
        if row.phase != "prefill" or not isinstance(row.operation, CausalAttention):
            return row
        moved = sum((each.get("activation_bytes") or 0) + (each.get("output_bytes") or 0) for each in rows) / len(rows)
        return replace(
            row, us=spent * row.executions, bound=str(rows[0].get("bound") or ""), kernel=self.target.name,
            assumed=f"{under}: a mean of {len(rows)} layers; keys and values of every head its own",
            counts=replace(Counts(row.counts.flop), bytes_act=moved * prefill.batch * row.executions),
        )  # fmt: skip

    def _attention_of(self, times: Times, decoder: Decoder, prefill: Phase, runner: Runner) -> CausalAttention:
        """The one kind of attention that the model has."""
        kinds = [row.operation for row in times.rows if row.phase == "prefill" and row.group == "attention"]
        causal = [one for one in kinds if isinstance(one, CausalAttention)]
        blocks = sum(block.has_attention for block in decoder.blocks)
        wanted = {
            "prompt": (prefill.new, self.masks.tokens), "heads": (causal[0].heads if causal else 0, self.masks.heads),
            "blocks": (blocks, self.masks.layers),
        }  # fmt: skip
        if runner.has_errors or decoder.ranks > 1:
            raise UserError(f"attention under masks runs beside one accelerator; {runner.name} is none, or several")
        if len(causal) != 1:
            raise UserError("attention under masks is for models whose blocks have all the same, with heads of its own")
        for name, (has, masked) in wanted.items():
            if has != masked and (name, masked) != ("blocks", 1):
                raise UserError(f"attention masks of {self.masks.name}: {name} {masked:,}, of what runs {has:,}")
        return causal[0]

    def _layers(self, head_size: int) -> list[Row]:
        """The target's rows. Raises UserError for a layer that it cannot run."""
        if head_size not in self.known:
            operations = (replace(one, head_features=head_size) for one in self.masks.operations())
            header, gathered = self.masks.header, StatisticsStore()
            rows = [row for one in operations for row in self.target.rows(header, one, Conditions(1), gathered)]
            if refused := next((row for row in rows if not row["feasible"]), None):
                raise UserError(f"{self.target.name}: {refused['layer']}: {refused['reason']}")
            self.known[head_size] = rows
        return self.known[head_size]
