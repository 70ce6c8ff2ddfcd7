"""What a network moves by indices: rows that are read out of a tensor (gather), and rows that are added up where
indices say (scatter), as messages between the nodes of a graph are.

A bundle of a network that has some holds them in its header, `model_config["moves"]`, in the order in which they run.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge
from pydantic import TypeAdapter, ValidationError

from workloads.counts import Counts, Elements
from workloads.errors import UserError
from workloads.operations.base import DecoderOperation
from workloads.phases import Phase

MOVES = "moves"
INDEX_BITS = 32
Count = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Move(DecoderOperation):
    """`rows` of `width` values a sample, where `indices` say; `shared`: all samples have the same indices, which are
    read once for all of them. A token of the phase is a sample. Nothing is kept on chip from or for other operations,
    and a row that several indices name is read for each."""

    rows: Count
    width: Count
    indices: Count
    shared: bool

    kind: ClassVar[str]

    def index_counts(self, phase: Phase) -> Counts:
        """The same indices for all samples lie beside the weights."""
        index_bytes = self.indices * INDEX_BITS / 8
        return Counts(bytes_weight=index_bytes) if self.shared else Counts(bytes_act=phase.tokens * index_bytes)

    def plain(self) -> dict[str, Any]:
        """As a bundle's header has it."""
        return {"kind": self.kind, **{name: value for name, value in asdict(self).items() if name != "role"}}


@dataclass(frozen=True)
class Gather(Move):
    """Rows are read and written: 2 rows x width values a sample."""

    kind = "gather"

    def counts(self, phase: Phase, elements: Elements) -> Counts:
        values = phase.tokens * self.rows * self.width
        return Counts(bytes_act=2 * values * elements.activation_bits / 8) + self.index_counts(phase)


@dataclass(frozen=True)
class Scatter(Move):
    """Rows are read and added to one of `sums` rows a sample, each of which is read and written once, however many are
    added to it: (rows + 2 sums) x width values, and an addition for each value of the rows."""

    sums: Count

    kind = "scatter"

    def counts(self, phase: Phase, elements: Elements) -> Counts:
        values = phase.tokens * self.width
        moved = values * (self.rows + 2 * self.sums) * elements.activation_bits / 8
        return Counts(flop=values * self.rows, bytes_act=moved) + self.index_counts(phase)


KINDS: dict[str, type[Move]] = {each.kind: each for each in (Gather, Scatter)}


def moves_of(model_config: Mapping[str, Any]) -> list[Move]:
    """From a bundle's header; [] where it has none. Raises UserError for a damaged one."""
    found = model_config.get(MOVES, [])
    try:
        return [_move(**each) for each in found]
    except (ValidationError, TypeError, KeyError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UserError(f"the bundle's model_config.{MOVES} cannot be read: {first}; make the bundle again") from None


def _move(kind: str, **fields: Any) -> Move:
    return TypeAdapter(KINDS[kind]).validate_python({"role": kind, **fields})
