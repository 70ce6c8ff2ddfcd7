"""Operations in, result rows out: any targets, operation by operation."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from simulator.accelerators import Accelerator
from simulator.cycles import Infeasible
from simulator.layer_rows import evaluate, layer_row
from simulator.statistics import StatisticsStore
from simulator.trace import Timeline, timeline
from workloads.bundle import BundleHeader
from workloads.columns.column import Column
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.operations import Linear, Operation
from workloads.refusals import Refusal
from workloads.targets import Gathered, Row, Target, other_kind
from workloads.unpruned import rows_against_unpruned

ACCELERATOR_TABLE = (
    "layer", "role", "out_features", "in_features", "sparsity", "target", "tokens", "cycles", "compute_cycles",
    "stall_cycles", "dense_cycles", "speedup", "bound",
)  # fmt: skip


@dataclass(frozen=True)
class AcceleratorTarget:
    """A design, as whoever runs operations sees it."""

    accelerator: Accelerator

    source = "simulated"
    executes: ClassVar[tuple[type[Operation], ...]] = (Linear,)
    table = ACCELERATOR_TABLE

    @property
    def name(self) -> str:
        return self.accelerator.name

    @property
    def settings(self) -> str:
        return self.accelerator.settings

    @property
    def level(self) -> str:
        return self.accelerator.level

    @property
    def sha256(self) -> str:
        return self.accelerator.sha256

    @property
    def key(self) -> list[Any]:
        return [self.sha256, self.accelerator.source_sha256]

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(f"{self.name}: {note}" for note in self.accelerator.notes)

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.accelerator.columns

    @property
    def untraceable(self) -> str:
        return "" if self.level == "cycle" else f"is a formula of level {self.level!r} without tiles"

    @property
    def clock_mhz(self) -> float:
        return float(self.accelerator.spec.clock.mhz)

    def check(self, conditions: Conditions) -> None:
        if conditions.halo_reuse and not self.accelerator.reuses_halo:
            raise UserError(f"{self.name} does not model inputs that overlapping windows share; leave `halo_reuse` out")
        only = self.accelerator.only_tokens
        if only is not None and conditions.tokens != only:
            raise UserError(
                f"{self.name} models {only} token, not {conditions.tokens:,}; give `tokens` {only}, or another "
                f"accelerator for more"
            )

    def supports(self, operation: Operation) -> Refusal | None:
        """What does not fit the machine is known from the mask alone, so a row says it."""
        return None if isinstance(operation, Linear) else other_kind(self, operation)

    def rows(
        self, header: BundleHeader, operation: Operation, conditions: Conditions, gathered: Gathered
    ) -> Sequence[Row]:
        assert isinstance(operation, Linear)
        return [layer_row(self.accelerator, header, operation, conditions, gathered)]

    def timeline(
        self, header: BundleHeader, operation: Operation, conditions: Conditions, gathered: Gathered
    ) -> Timeline:
        """Of an expert's one run, with the tokens it then has. Raises UserError where the layer cannot run."""
        assert isinstance(operation, Linear)
        load = conditions.routing.load(header, operation, conditions.tokens)
        try:
            outcome = evaluate(self.accelerator, operation, replace(conditions, tokens=load.parts[-1][0]), gathered)
        except Infeasible as error:
            raise UserError(
                f"{operation.name} cannot run on {self.name}, so there is nothing to trace: {error}"
            ) from None
        if outcome.sparse.stream is None:
            raise UserError(f"{self.name} gives no tiles of its layers; there is nothing to trace")
        return timeline(outcome.sparse.stream, self.accelerator.spec.buffers.double)


def simulate_layers(
    accelerators: Sequence[Accelerator],
    header: BundleHeader,
    layers: Iterable[Linear],
    conditions: Conditions,
    store: StatisticsStore | None = None,
    threads: int = 2,
) -> Iterator[Row]:
    """`rows_on` of designs."""
    return rows_on([AcceleratorTarget(each) for each in accelerators], header, layers, conditions, store, threads)


def rows_on(
    targets: Sequence[Target],
    header: BundleHeader,
    operations: Iterable[Operation],
    conditions: Conditions,
    store: StatisticsStore | None = None,
    threads: int = 2,
) -> Iterator[Row]:
    """Result rows, operation by operation and for each by every target that executes its kind; what a target cannot run
    is a row with its reason. Statistics are gathered once for all designs of a geometry. At most `threads` + 1 masks
    are in memory; rows do not depend on `threads`. Raises UserError for conditions that a target does not have, and for
    what it does not support."""
    kept = store or StatisticsStore()
    for target in targets:
        target.check(conditions)

    def job(operation: Operation) -> list[Row]:
        within = kept.within()
        rows: list[Row] = []
        try:
            for target in targets:
                if isinstance(operation, target.executes):
                    rows += rows_against_unpruned(target, header, operation, conditions, within)
        except UserError as error:
            raise UserError(f"{operation.name}: {error}") from None
        return rows

    with ThreadPoolExecutor(max_workers=threads) as pool:
        pending: list[Future[list[Row]]] = []
        try:
            for operation in operations:
                pending.append(pool.submit(job, operation))
                if len(pending) > threads:
                    yield from pending.pop(0).result()
            for future in pending:
                yield from future.result()
        finally:
            for future in pending:
                future.cancel()
