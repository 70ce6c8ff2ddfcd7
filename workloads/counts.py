"""What operations do and move, and how wide the elements are that they move."""

from dataclasses import dataclass

from workloads.errors import UserError, unknown
from workloads.experts import ROUTINGS

SCALE_BITS = 16  # of a scale; a zero point has the weights' bits
BITS = (1, 64)
WIDTHS = ("weight_bits", "float_bits", "activation_bits", "kv_bits")


@dataclass(frozen=True)
class Counts:
    """Each operand is read once and each result written once (docs/inference.md). `flop` counts a multiplication and
    an addition as two; `bytes_kv` are those of the KV cache, read and written; `bytes_link` is what an all-reduce
    sums, a payload and no traffic of the DRAM."""

    flop: float = 0
    bytes_weight: float = 0
    bytes_act: float = 0
    bytes_kv: float = 0
    bytes_link: float = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.flop + other.flop,
            self.bytes_weight + other.bytes_weight,
            self.bytes_act + other.bytes_act,
            self.bytes_kv + other.bytes_kv,
            self.bytes_link + other.bytes_link,
        )

    def __mul__(self, times: float) -> "Counts":
        return Counts(
            self.flop * times,
            self.bytes_weight * times,
            self.bytes_act * times,
            self.bytes_kv * times,
            self.bytes_link * times,
        )

    @property
    def bytes_moved(self) -> float:
        """From and to the DRAM."""
        return self.bytes_weight + self.bytes_act + self.bytes_kv


@dataclass(frozen=True)
class Elements:
    """Bits of the elements of a model. `weight_bits` are those of the blocks' linears, unless a bundle has bits of its
    own; below `float_bits` every `group_size` inputs of a row (None: the whole row) share a scale and a zero point.
    `float_bits`: what no method quantizes (embeddings, head, routers, norms, biases). `routing` is uniform or balanced
    (workloads/experts.py).

    Raises UserError for bits and groups that cannot be."""

    weight_bits: int = 16
    group_size: int | None = None
    float_bits: int = 16
    activation_bits: int = 16
    kv_bits: int = 16
    routing: str = "uniform"

    def __post_init__(self) -> None:
        for name in WIDTHS:
            if not BITS[0] <= getattr(self, name) <= BITS[1]:
                raise UserError(f"`{name}` is {BITS[0]} to {BITS[1]}, not {getattr(self, name)}")
        if self.group_size is not None and self.group_size < 1:
            raise UserError(f"`group_size` is at least 1, not {self.group_size}; leave it out for one scale a row")
        if self.routing not in ROUTINGS:
            raise unknown("routing", self.routing, ROUTINGS)
