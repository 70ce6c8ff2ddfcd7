"""Prefill and decode: how many tokens pass through a model together, and which operations they meet."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from workloads.bundle import MaskBundle
from workloads.errors import UserError
from workloads.operations import Attention, Operation, linears_of


@dataclass(frozen=True)
class Phase:
    """`batch` sequences get `new` tokens each, after `past` that are in the KV cache already."""

    name: Literal["prefill", "decode"]
    batch: int
    new: int
    past: int

    def __post_init__(self) -> None:
        if self.batch < 1 or self.new < 1 or self.past < 0:
            raise UserError(
                f"{self.name}: batch {self.batch}, {self.new} new tokens after {self.past}; at least 1, 1 and 0 are "
                "needed"
            )

    @property
    def tokens(self) -> int:
        """That pass through each linear together."""
        return self.batch * self.new

    @property
    def context(self) -> int:
        """Keys that a sequence's last token sees."""
        return self.past + self.new

    def operations(self, bundle: MaskBundle, attention: Iterable[Attention] = ()) -> Iterator[Operation]:
        """Linears as the bundle has them, and behind those of its block the attention whose masks are given. Raises
        UserError where a mask is of other queries and keys than the phase."""
        by_block: dict[int, list[Attention]] = {}
        for one in attention:
            if (one.queries, one.keys) != (self.new, self.context):
                raise UserError(
                    f"{one.name}: its mask is of {one.queries:,} queries x {one.keys:,} keys, the {self.name} of "
                    f"{self.new:,} x {self.context:,}; give masks of that size"
                )
            by_block.setdefault(one.block, []).append(one)
        for block, linears in groupby(linears_of(bundle), key=lambda linear: linear.block):
            yield from linears
            yield from by_block.pop(block, [])
        for rest in by_block.values():
            yield from rest


def prefill(batch: int, seq: int, past: int = 0) -> Phase:
    """All `seq` tokens of each sequence at once. Raises UserError for none."""
    return Phase("prefill", batch, seq, past)


def decode(batch: int, context: int) -> Phase:
    """One token a sequence, which sees `context` keys, its own among them. Raises UserError for none."""
    return Phase("decode", batch, 1, context - 1)
