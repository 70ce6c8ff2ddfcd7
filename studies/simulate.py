"""Operations from anywhere onto targets: a frame of result rows, and the trace of one operation."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pandas as pd

from checkpoints.expert_defaults import completed
from simulator.simulate import rows_on
from simulator.statistics import StatisticsStore
from simulator.targets import Traceable
from simulator.trace import Timeline, busy_shares, trace_events
from studies.masks import generated, in_memory
from studies.progress import ProgressLine
from studies.settings import density_of
from workloads.arrays import dimensions
from workloads.bundle import BundleHeader, MaskBundle
from workloads.bundle_writer import STATISTICS
from workloads.columns.column import Column
from workloads.conditions import Conditions
from workloads.errors import UserError, meant
from workloads.experts import expert_of
from workloads.files import canonical_json, write_text
from workloads.importers import read_mask
from workloads.layers import Layer
from workloads.operations import Linear, Operation, linears_in_memory, linears_of
from workloads.patterns import GONE, WHOLE
from workloads.rows import to_frame
from workloads.targets import Row, Target, other_kind
from workloads.uses import uses_of

if TYPE_CHECKING:
    from simulator.accelerators.vitcod.attention.masks import AttentionMasks


@dataclass(frozen=True)
class Source:
    """Operations to run, their masks read when needed; statistics of a bundle's masks are kept in its folder, and
    gathered anew if `fresh`."""

    header: BundleHeader
    count: int
    operations: Iterable[Operation]
    folder: Path | None = None
    fresh: bool = False

    @property
    def linears(self) -> Iterator[Linear]:
        """Raises UserError where an operation is none."""
        for operation in self.operations:
            if not isinstance(operation, Linear):
                raise UserError(
                    f"{operation.name} of {self.header.model_id} has no weights; give the mask of a layer, of two "
                    f"dimensions"
                )
            yield operation

    def part(self, span: slice) -> "Source":
        """Some of the operations, in their order."""
        if span == slice(None):
            return self
        operations = list(islice(self.operations, span.start, span.stop))
        return replace(self, count=len(operations), operations=operations)

    @property
    def store(self) -> StatisticsStore:
        return StatisticsStore(self.folder / STATISTICS if self.folder else None, fresh=self.fresh)


def bundle_source(bundle: MaskBundle, fresh: bool = False) -> Source:
    header = bundle.header
    if any(expert_of(entry.name) is not None for entry in bundle.layers):
        header = with_experts(header)
    operations = list(linears_of(bundle))
    return Source(header, len(operations), operations, bundle.folder, fresh)


def with_experts(header: BundleHeader) -> BundleHeader:
    """The header, its config completed where it leaves the number of experts to its family."""
    return replace(header, model_config=completed(header.model_config))


def mask_source(path: Path) -> Source:
    """A mask of a layer, (out_features, in_features), or of attention, (heads, T, T) or (layers, heads, T, T). Raises
    UserError."""
    if dimensions(path) > 2:
        from simulator.accelerators.vitcod.attention.masks import AttentionMasks

        return attention_source(AttentionMasks.open(path))
    packed = read_mask(path)
    header = BundleHeader(path.stem, "imported-arrays")
    layer = Layer(path.stem, "other", -1, packed.rows, packed.cols)
    return Source(header, 1, list(linears_in_memory(in_memory(header, [(layer, packed)]))))


def attention_source(masks: "AttentionMasks") -> Source:
    return Source(masks.header, masks.layers, list(masks.operations()))


def open_source(
    bundle: Path | None,
    mask: Path | None,
    model: str | None,
    pattern: str,
    density: float | None,
    seed: int,
    fresh: bool = False,
) -> Source:
    """Exactly one of bundle, mask and model must be given (UserError otherwise)."""
    if sum(given is not None for given in (bundle, mask, model)) != 1:
        raise UserError("give exactly one of `bundle`, `mask` (a file) and `model` (a config)")
    if density is not None and model is None:
        raise UserError("`density` is for masks generated for a `model`; the masks given have their own")
    if bundle is not None and bundle.suffix in (".npy", ".npz") and bundle.is_file():
        raise UserError(
            f"{bundle} is a file of arrays, not a bundle: give it as `mask` (.npy), or `prunesim import` it"
        )
    if bundle is not None:
        return bundle_source(MaskBundle.open(bundle), fresh)
    if mask is not None:
        return mask_source(mask)
    assert model is not None
    made = generated(model, pattern, density_of(pattern, density), seed, {})
    return Source(with_experts(made.header), made.count, linears_in_memory(in_memory(made.header, made.masks)))


def find_layer(source: Source, name: str) -> str:
    """The operation of that name, or the first of that role. Raises UserError if there is none."""
    for operation in source.operations:
        if name in (operation.name, operation.role):
            return operation.name
    names = [operation.name for operation in source.operations]
    hint = meant(name, [*dict.fromkeys(operation.role for operation in source.operations), *names])
    raise UserError(
        f"no layer or role {name!r} to trace; {hint}there are {source.count} layers, the first is {names[0]!r}"
    )


def check_kinds(source: Source, targets: Sequence[Target]) -> None:
    """Raises UserError where a target has no figures for any of the operations that are listed."""
    if not isinstance(source.operations, list):
        return
    for target in targets:
        if not any(isinstance(operation, target.executes) for operation in source.operations):
            raise UserError(f"{target.name}: {other_kind(target, source.operations[0])}")


def has_halo(header: BundleHeader) -> bool:
    """Whether a matrix has windows that overlap."""
    return any(use.distinct != 1 for use in uses_of(header.model_config).values())


def check_halo(source: Source, conditions: Conditions) -> None:
    """Raises UserError where inputs are to be shared and no matrix has windows that overlap."""
    if conditions.halo_reuse and not has_halo(source.header):
        raise UserError(
            f"`halo_reuse` is of convolutions whose windows overlap; {source.header.model_id} has none, leave it out"
        )


def simulate_frame(
    source: Source, targets: Sequence[Target], conditions: Conditions, progress: ProgressLine,
    more: Iterable[Row] = (),
) -> pd.DataFrame:  # fmt: skip
    """Result rows of every operation on every target, in order, and behind them `more`."""
    check_kinds(source, targets)
    verb = "simulating" if targets[0].source == "simulated" else "predicting"
    several = f"designs of {targets[0].name}" if len({target.name for target in targets}) == 1 else "targets"
    name = targets[0].name if len(targets) == 1 else f"{len(targets):,} {several}"
    rows = []
    for row in rows_on(targets, source.header, source.operations, conditions, source.store):
        rows.append(row)
        progress(f"{verb} on {name}", len(rows), source.count * len(targets))
    progress.close()
    rows += more
    return to_frame(rows, extra=extra_columns(targets))


def extra_columns(targets: Sequence[Target]) -> tuple[Column, ...]:
    """What the targets' rows have beyond the schema."""
    return tuple({column.name: column for target in targets for column in target.columns}.values())


def table_of(frame: pd.DataFrame, targets: Sequence[Target]) -> tuple[str, ...]:
    """The columns a terminal shows of the targets' rows; settings tell designs apart, and experts have shares of the
    tokens."""
    columns = tuple(dict.fromkeys(name for target in targets for name in target.table))
    if len(targets) > 1:
        columns = ("settings", *columns)
    if (frame["routing"] != "").any() and "tokens" in columns:
        place = columns.index("tokens") + 1
        columns = (*columns[:place], "layer_tokens", "executions", *columns[place:])
    return columns


def layer_timeline(
    source: Source, target: Target, conditions: Conditions, name: str
) -> tuple[Operation, Traceable, Timeline]:
    """Of a masked operation, given by name or role; "": the first; of an expert's one run, with the tokens it then has.
    Raises UserError for an unknown one, a target without tiles, and an operation that cannot run."""
    check_traceable([target])
    operations = {operation.name: operation for operation in source.operations}
    masked = [name for name, operation in operations.items() if not runs_dense(operation)]
    name = find_layer(source, name) if name else next(iter([*masked, *operations]))
    if runs_dense(operations[name]):
        raise UserError(
            f"{name} has no zeros to skip (it was left dense, made smaller, factored or taken out); there is nothing "
            "to trace, name another"
        )
    traceable = cast(Traceable, target)
    return operations[name], traceable, traceable.timeline(source.header, operations[name], conditions, source.store)


def runs_dense(operation: Operation) -> bool:
    return isinstance(operation, Linear) and operation.weights.pattern in (*WHOLE, GONE)


def check_traceable(targets: Sequence[Target]) -> None:
    """Raises UserError for several designs, and one that has no tiles."""
    if len(targets) > 1:
        raise UserError("`trace` shows one design; leave `sweep` out")
    if targets[0].untraceable:
        raise UserError(f"{targets[0].name} {targets[0].untraceable}; there is nothing to `trace`")


def write_trace(source: Source, target: Target, conditions: Conditions, layer: str, path: Path) -> None:
    """Perfetto reads the file (ui.perfetto.dev), and chrome://tracing."""
    traced, machine, line = layer_timeline(source, target, conditions, layer)
    title = f"{traced.name} on {target.name}, {conditions.tokens} tokens"
    write_text(path, canonical_json(trace_events(line, machine.clock_mhz, title)) + "\n")


def utilisation_frame(source: Source, target: Target, conditions: Conditions, layer: str) -> pd.DataFrame:
    """busy_shares of an operation as a frame for reports, with what it holds for in every line."""
    traced, machine, line = layer_timeline(source, target, conditions, layer)
    frame = pd.DataFrame(busy_shares(line))
    frame.insert(0, "begin_us", frame.pop("begin_cycles") / machine.clock_mhz)
    facts = {
        "layer": traced.name,
        "target": target.name,
        "settings": target.settings,
        "tokens": conditions.tokens,
    }
    return frame.assign(**facts)
