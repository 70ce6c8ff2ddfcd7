"""What runs the operations of decoders: GPUs (gpus.py), accelerators (arrays.py), and whatever else answers so."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np

from simulator.gpu.operators.stack import Stack
from simulator.inference.host import milliseconds_of
from workloads.bundle import MaskBundle
from workloads.counts import Counts, Elements
from workloads.decoder.dimensions import Decoder
from workloads.decoder.layout import Fusion
from workloads.operations import DecoderOperation
from workloads.phases import Phase


@dataclass(frozen=True)
class Numbers:
    """`name` of the type that a model has on a machine, the type of its products, and the elements that are stored."""

    name: str
    dtype: str
    elements: Elements


@dataclass(frozen=True)
class Timed:
    """Arrays (phases,): us of one execution, what bounds it, the error that nine of ten stay within (NaN: none is
    known), what lies outside the data. `kernel`: whose time it is; `assumed`: what of it no data show. `weight_share`:
    bytes of weights that are read, of those that the operation counts; `unused`: why its mask gains nothing; `counts`:
    (phases,), where the machine moves others than the operation counts."""

    us: np.ndarray
    bound: np.ndarray
    error_p90: np.ndarray
    extrapolated: np.ndarray
    kernel: str
    assumed: str = ""
    weight_share: float = 1.0
    unused: str = ""
    counts: tuple[Counts, ...] | None = None

    def of_each(self, phases: int) -> Self:
        """Of one phase, the same for so many."""
        if phases == 1:
            return self
        arrays: dict[str, Any] = {
            name: np.repeat(getattr(self, name), phases) for name in ("us", "bound", "error_p90", "extrapolated")
        }
        return replace(self, **arrays, counts=None if self.counts is None else self.counts * phases)


class WaitsOnly:
    """Of a runner: its host is so many milliseconds a step, its dense models have the same numbers."""

    def dense_numbers(self, numbers: Numbers) -> Numbers:
        return numbers

    def host(self, text: str = "") -> tuple[str, Stack]:
        return text or "0", milliseconds_of(text or "0")

    def under(self, stack: Stack) -> Self:
        return self


class Runner(Protocol):
    """`source` of its rows: predicted | simulated. `fusion`: what it runs as one. `samples`: contexts of a generation
    at which attention is evaluated. `capacity_gib`: of one of its memories, None: not stated, for the reason
    `no_capacity`; `reserve_gib`: taken by what is not counted, unless said otherwise. `has_errors`: whether errors of
    its times are known."""

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def fusion(self) -> Fusion: ...
    @property
    def samples(self) -> int: ...
    @property
    def capacity_gib(self) -> float | None: ...
    @property
    def no_capacity(self) -> str: ...
    @property
    def reserve_gib(self) -> float: ...
    @property
    def has_errors(self) -> bool: ...
    @property
    def memo(self) -> dict[Any, Timed]:
        """Operations that were timed, kept while it lives."""
        ...

    def numbers(self, dtype: str = "", kv_bits: int | None = None, routing: str = "uniform") -> Numbers:
        """Those of a model on it; "" and None: its own. Raises UserError for what it does not have."""
        ...

    def dense_numbers(self, numbers: Numbers) -> Numbers:
        """Those of the unpruned model that speedups are against."""
        ...

    def host(self, text: str = "") -> tuple[str, Stack]:
        """What stands between operations, by the words of a user, and as rows have it; "": its own. Raises
        UserError."""
        ...

    def under(self, stack: Stack) -> Self:
        """Itself with the kernels that the stack runs."""
        ...

    def holding(self, dense: Decoder, bundle: MaskBundle, tokens: frozenset[int]) -> tuple[Self, Decoder, Decoder]:
        """Itself with the masks of a bundle of `dense`, what the bundle makes of the decoder here, and the unpruned one
        beside it. `tokens`: of the phases that it will be asked for. Raises UserError."""
        ...

    def time_of(self, operation: DecoderOperation, phases: Sequence[Phase], numbers: Numbers) -> Timed:
        """Of phases of one name, (phases,) each. Raises UserError for what cannot run."""
        ...

    def as_stored(self, decoder: Decoder, numbers: Numbers) -> Decoder:
        """The decoder with every matrix as it lies in memory."""
        ...
