"""GPUs as what runs decoders: the kernels of kernels.py, weights as storage.py has them; or, where a kernel for masks
without a pattern is asked for, masked matrices by that one (masked.py)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

from simulator.gpu.operators.stack import Stack
from simulator.gpu.spec import GpuSpec
from simulator.inference import kernels, storage
from simulator.inference.host import GRAPH, stack_of
from simulator.inference.known import shared
from simulator.inference.masked import MaskedMatrices
from simulator.inference.runner import Numbers, Timed
from simulator.machine.spec import spec_sha256
from workloads.bundle import MaskBundle
from workloads.decoder.bundled import MASKS, bundled
from workloads.decoder.dimensions import Decoder
from workloads.decoder.layout import FUSED, Fusion
from workloads.decoder.memory import GIB, RESERVE_BYTES
from workloads.operations import DecoderOperation
from workloads.operations.gemm import Gemm
from workloads.phases import Phase


@dataclass(frozen=True)
class GpuRunner:
    spec: GpuSpec
    name: str = "gpu"
    settings: str = ""
    masked: MaskedMatrices | None = None
    fuses: bool = False  # elementwise kernels, by a compiler
    memo: dict[Any, Timed] = field(default=None, compare=False, repr=False)  # type: ignore[arg-type]

    source = "predicted"
    samples = 17
    no_capacity = ""
    reserve_gib = RESERVE_BYTES / GIB
    has_errors = True

    def __post_init__(self) -> None:
        """Times of a kernel for masks are those of the masks that it has."""
        if self.memo is None:
            object.__setattr__(
                self, "memo", {} if self.masked else shared("fused" if self.fuses else "times", self.sha256)
            )

    @cached_property
    def sha256(self) -> str:
        return spec_sha256(self.name, self.spec)

    @property
    def fusion(self) -> Fusion:
        """A kernel for masks takes matrices one by one, as its measured model has them."""
        return FUSED if self.masked is None else replace(FUSED, gemms=False)

    @property
    def capacity_gib(self) -> float | None:
        return self.spec.memory.capacity_gib

    def numbers(self, dtype: str = "", kv_bits: int | None = None, routing: str = "uniform") -> Numbers:
        found = kernels.numbers_of(dtype or kernels.FLOAT, kernels.KV_BITS if kv_bits is None else kv_bits, routing)
        if self.masked is not None:
            self.masked.check(found.name)
        return found

    def dense_numbers(self, numbers: Numbers) -> Numbers:
        """fp16."""
        return kernels.numbers_of(kernels.FLOAT, routing=numbers.elements.routing)

    def host(self, text: str = "") -> tuple[str, Stack]:
        return text or GRAPH, stack_of(text or GRAPH)

    def under(self, stack: Stack) -> Self:
        return self if stack.fuses == self.fuses else self._compiled

    @cached_property
    def _compiled(self) -> Self:
        return type(self)(self.spec, self.name, self.settings, self.masked, not self.fuses)

    def holding(self, dense: Decoder, bundle: MaskBundle, tokens: frozenset[int]) -> tuple[Self, Decoder, Decoder]:
        """The libraries' kernels do not look at masks: their patterns say it all."""
        if self.masked is None:
            return self, bundled(dense, bundle), dense
        return replace(self, masked=self.masked.of(bundle), memo={}), bundled(dense, bundle, MASKS), dense

    def time_of(self, operation: DecoderOperation, phases: Sequence[Phase], numbers: Numbers) -> Timed:
        if self.masked is not None and isinstance(operation, Gemm):
            return self.masked.time_of(operation, phases, numbers)
        found = kernels.time_of(self.spec, operation, phases, numbers, self.fuses)
        return replace(found, weight_share=storage.read_share(operation, self.spec, numbers))

    def as_stored(self, decoder: Decoder, numbers: Numbers) -> Decoder:
        if self.masked is not None:
            return self.masked.as_stored(decoder)
        return storage.as_run(decoder, self.spec, numbers)
