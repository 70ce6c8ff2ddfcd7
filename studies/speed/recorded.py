"""A measured record as what runs the weight matrices of decoders: times of the linears alone (by_density.py), one
matrix after the other. Attention, norms, embedding and head are in no record and take no time here, so speedups are of
the linears together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from measurement.by_density import TimesByDensity
from measurement.published import ENDINGS, is_record, open_record
from measurement.rows import RecordTarget
from simulator.inference.runner import Numbers, Timed, WaitsOnly
from workloads.bundle import MaskBundle
from workloads.counts import Counts, Elements
from workloads.decoder.bundled import bundled
from workloads.decoder.dimensions import Decoder
from workloads.decoder.layout import Fusion
from workloads.errors import UserError
from workloads.operations import DecoderOperation
from workloads.operations.gemm import BITMAP, Gemm, Matrix
from workloads.patterns import DENSE
from workloads.phases import Phase

COLD = "cold"  # weights come from DRAM, as in a model
NOT_MEASURED = "not measured"


def means_record(on: object) -> bool:
    """Of a target's name: a record that ships, or a file that is one by its ending."""
    return is_record(on) or (isinstance(on, str) and Path(on).suffix in ENDINGS)


@dataclass(frozen=True)
class RecordRunner(WaitsOnly):
    """Raises UserError for a record without dense times."""

    times: TimesByDensity
    memo: dict[Any, Timed] = field(default_factory=dict, compare=False, repr=False)

    fusion = Fusion(gemms=False)
    samples = 1
    capacity_gib = None
    no_capacity = "whether it fits is not known: a record holds times alone"
    reserve_gib = 0.0
    has_errors = False

    @classmethod
    def open(cls, on: str) -> Self:
        return cls(TimesByDensity(RecordTarget(open_record(on), COLD)))

    @property
    def name(self) -> str:
        return self.times.target.name

    @property
    def source(self) -> str:
        return self.times.target.source

    @property
    def settings(self) -> str:
        """What its times are."""
        places = " ".join(f"{density:g}" for density in self.times.densities if density < 1)
        between = f"; masks between the measured densities {places} interpolated" if places else ""
        return f"linears alone, {self.times.dtype}, {self.times.target.settings}{between}"

    @cached_property
    def sha256(self) -> str:
        return str(self.times.target.key[-1])

    def numbers(self, dtype: str = "", kv_bits: int | None = None, routing: str = "uniform") -> Numbers:
        """Raises UserError for a type that the record does not have."""
        name = TimesByDensity(self.times.target, dtype or self.times.asked_dtype).dtype
        return Numbers(name, name, Elements(routing=routing))

    def holding(self, dense: Decoder, bundle: MaskBundle, tokens: frozenset[int]) -> tuple[Self, Decoder, Decoder]:
        """Of a mask the share that it keeps is all that matters."""
        return self, bundled(dense, bundle, BITMAP), dense

    def time_of(self, operation: DecoderOperation, phases: Sequence[Phase], numbers: Numbers) -> Timed:
        us, kernels = np.zeros(len(phases)), dict[str, None]()
        if isinstance(operation, Gemm) and operation.over == "new":
            for n, phase in enumerate(phases):
                for matrix in operation.matrices:
                    found, kernel = self._of(matrix, operation.tokens(phase))
                    us[n] += found
                    kernels[kernel] = None
        said = np.full(len(phases), "measured" if kernels else NOT_MEASURED, dtype=object)
        nothing = np.full(len(phases), "", dtype=object)
        counts = (Counts(),) * len(phases)
        return Timed(
            us, said, np.full(len(phases), np.nan), nothing, " ".join(kernels) or NOT_MEASURED, counts=counts
        )  # fmt: skip

    def _of(self, matrix: Matrix, tokens: int) -> tuple[float, str]:
        if matrix.factors is not None:
            raise UserError(f"{matrix.role}: products of factors have no time in a record; measure the bundle itself")
        pattern = "" if matrix.stored in (DENSE, BITMAP) else matrix.stored
        kept = 1.0 if matrix.stored != BITMAP or matrix.nnz is None else matrix.nnz / matrix.n_weights
        return self.times.us(
            matrix.out_features, matrix.in_features, tokens, kept, pattern, matrix.weight_bits
        )  # fmt: skip

    def as_stored(self, decoder: Decoder, numbers: Numbers) -> Decoder:
        return decoder
