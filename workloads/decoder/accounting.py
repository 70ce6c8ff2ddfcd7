"""Every operation of a prefill, a decode step or a whole generation with FLOP and bytes; those that do the same are one
row with a count.

Decode costs are linear in the context between the places where a window fills, so the steps of a generation add up
exactly: of each such stretch the mean of its first and last step, times their number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from workloads.counts import Counts, Elements
from workloads.decoder.dimensions import Decoder
from workloads.decoder.layout import FUSED, Fusion, layout
from workloads.operations.base import DecoderOperation
from workloads.phases import Generation, Phase, decode

DEFAULT = Elements()


@dataclass(frozen=True)
class Counted:
    """An operation of `phase`, the first of those that do the same; `executions` of them in all blocks and steps, and
    what these do together."""

    operation: DecoderOperation
    phase: str
    executions: int
    total: Counts


def account(
    decoder: Decoder,
    work: Phase | Generation,
    elements: Elements = DEFAULT,
    fusion: Fusion = FUSED,
    all_logits: bool = False,
) -> list[Counted]:
    """Rows in the order of the first block; a generation's prefill, then its decode steps. Of a decoder that is one
    GPU's share, counts are that GPU's."""
    groups = grouped(decoder, fusion, all_logits)
    if isinstance(work, Phase):
        return [Counted(one, work.name, number, one.counts(work, elements) * number) for one, number in groups]
    rows = account(decoder, work.prefill, elements, fusion, all_logits)
    if not work.contexts:
        return rows
    stretches = list(linear_stretches(decoder, work.contexts))
    for one, number in groups:
        total = Counts()
        for stretch in stretches:
            ends = [one.counts(decode(work.batch, context), elements) for context in (stretch[0], stretch[-1])]
            total += (ends[0] + ends[1]) * (number * len(stretch) / 2)
        rows.append(Counted(one, "decode", number * len(work.contexts), total))
    return rows


def total(rows: Sequence[Counted], phase: str = "") -> Counts:
    """Of all rows, or those of a phase."""
    return sum((row.total for row in rows if phase in ("", row.phase)), Counts())


def grouped(
    decoder: Decoder, fusion: Fusion = FUSED, all_logits: bool = False
) -> tuple[tuple[DecoderOperation, int], ...]:
    """The first of all operations that do the same and have the same role, and how many they are."""
    key = "grouped", fusion, all_logits
    if key not in decoder.memo:
        decoder.memo[key] = _grouped(decoder, fusion, all_logits)
    found: tuple[tuple[DecoderOperation, int], ...] = decoder.memo[key]
    return found


def _grouped(decoder: Decoder, fusion: Fusion, all_logits: bool) -> tuple[tuple[DecoderOperation, int], ...]:
    found: dict[object, list[DecoderOperation]] = {}
    for operation in layout(decoder, fusion, all_logits):
        found.setdefault(_what(operation), []).append(operation)
    return tuple((operations[0], len(operations)) for operations in found.values())


def linear_stretches(decoder: Decoder, contexts: range) -> Iterator[range]:
    """The contexts, cut where a window has filled: between cuts every operation's counts are linear in the context."""
    windows = {block.attention.window for block, _ in decoder.kinds}
    cuts = sorted(window for window in windows if window is not None and window in contexts)
    start = contexts.start
    for cut in cuts:
        yield range(start, cut + 1)
        start = cut + 1
    if start < contexts.stop:
        yield range(start, contexts.stop)


def _what(operation: DecoderOperation) -> object:
    """All but which block it is in."""
    values = (getattr(operation, each.name) for each in fields(operation) if each.name not in ("name", "block"))
    own = tuple(_what(value) if isinstance(value, DecoderOperation) else value for value in values)
    return type(operation), operation.name.rpartition(".")[2], own
