"""The masked operations of a bundle that a phase meets."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from workloads.bundle import MaskBundle
from workloads.errors import UserError
from workloads.operations import Attention, Operation, linears_of
from workloads.phases import Phase


def masked_operations(phase: Phase, bundle: MaskBundle, attention: Iterable[Attention] = ()) -> Iterator[Operation]:
    """Linears as the bundle has them, and behind those of its block the attention whose masks are given. Raises
    UserError where a mask is of other queries and keys than the phase."""
    by_block: dict[int, list[Attention]] = {}
    for one in attention:
        if (one.queries, one.keys) != (phase.new, phase.context):
            raise UserError(
                f"{one.name}: its mask is of {one.queries:,} queries x {one.keys:,} keys, the {phase.name} of "
                f"{phase.new:,} x {phase.context:,}; give masks of that size"
            )
        by_block.setdefault(one.block, []).append(one)
    for block, linears in groupby(linears_of(bundle), key=lambda linear: linear.block):
        yield from linears
        yield from by_block.pop(block, [])
    for rest in by_block.values():
        yield from rest
