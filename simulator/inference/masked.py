"""Masked matrices of decoders on a GPU by a kernel for masks without a pattern (simulator/gpu/operators/spmv.py), where
one is asked for.

    one token         that kernel, with the bytes of the very mask; matrices that are whole by cuBLAS of the same
                      measured loop
    more of a prompt  unpacked into a dense copy, its bytes over the bandwidth, then the dense kernel: no data show it
    more sequences    refused

Weights lie as that kernel reads them. Whatever pattern a mask has, the kernel sees the places alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from simulator.gpu.masked_layers import DENSE_KERNEL, KERNEL, check_kernel
from simulator.gpu.operators.spmv import (
    SpmvShape,
    random_shape,
    shape_of_mask,
    spmv_of_shape,
    weight_bytes,
    whole_shape,
)
from simulator.gpu.operators.timing import operators_of, rates_of
from simulator.gpu.spec import GpuSpec
from simulator.inference import kernels
from simulator.inference.linears import parts, random_linear
from simulator.inference.runner import Numbers, Timed
from workloads.bundle import MaskBundle
from workloads.decoder.bundled import content_of
from workloads.decoder.dimensions import Decoder
from workloads.decoder.stored import with_matrices
from workloads.errors import UserError
from workloads.operations import Linear, linears_of
from workloads.operations.gemm import BITMAP, Gemm, Matrix
from workloads.patterns import DENSE
from workloads.phases import Phase

BITS = 16


@dataclass(frozen=True)
class MaskedMatrices:
    """`linears` of a bundle by what tells them apart (`content_of`)."""

    gpu: GpuSpec
    kernel: str
    linears: Mapping[str, Linear] = field(default_factory=dict)
    known: dict[Matrix, SpmvShape] = field(default_factory=dict, compare=False, repr=False)

    def check(self, dtype: str) -> None:
        """Raises UserError for a type that the kernel has not."""
        check_kernel(self.gpu, self.kernel, dtype)

    def of(self, bundle: MaskBundle) -> Self:
        return replace(self, linears={content_of(one.weights): one for one in linears_of(bundle)}, known={})

    def time_of(self, one: Gemm, phases: Sequence[Phase], numbers: Numbers) -> Timed:
        """Of one matrix. Raises UserError for steps of several sequences."""
        (matrix,) = one.matrices
        tokens = {one.tokens(phase) for phase in phases}
        is_masked = self._is_masked(matrix)
        if matrix.bits(numbers.elements) == BITS and tokens == {1}:
            shape = self._shape(matrix) if is_masked else whole_shape(matrix.out_features, matrix.in_features)
            kernel = self.kernel if is_masked else DENSE_KERNEL
            found = spmv_of_shape(self.gpu, shape, kernel, alone=False)
            timed = kernels.timed(found, "a launch of 2 us behind another kernel").of_each(len(phases))
            return replace(timed, weight_share=self._share(matrix, numbers)) if is_masked else timed
        dense = kernels.time_of(self.gpu, replace(one, matrices=(_whole(matrix),)), phases, numbers)
        if not is_masked or not self._is_packed:
            return dense
        if phases[0].name == "decode":
            raise UserError(f"`{KERNEL}{self.kernel}` is for one sequence, not {phases[0].batch}; leave it out")
        written = 2.0 * matrix.n_weights
        unpacked = (self._bytes(matrix) + written) / rates_of(self.gpu).bytes_per_us
        share = self._share(matrix, numbers) * (1 + 2 * written / self._bytes(matrix))
        return replace(
            dense, us=dense.us + unpacked, assumed="unpacked first: its bytes over the bandwidth", weight_share=share
        )

    def as_stored(self, decoder: Decoder) -> Decoder:
        """Routed experts have dense kernels alone."""

        def packed(matrix: Matrix) -> Matrix:
            return replace(_whole(matrix), own_bytes=self._bytes(matrix)) if self._is_masked(matrix) else matrix

        return with_matrices(decoder, packed, _whole)

    @property
    def _is_packed(self) -> bool:
        return operators_of(self.gpu).spmv[self.kernel].storage != "dense"

    def _is_masked(self, matrix: Matrix) -> bool:
        """Weights of fewer bits, which the bundle states, have no such kernel."""
        return (matrix.mask != "" or matrix.stored != DENSE) and matrix.weight_bits in (None, BITS)

    def _bytes(self, matrix: Matrix) -> float:
        return float(weight_bytes(operators_of(self.gpu).spmv[self.kernel].storage, self._shape(matrix))[0])

    def _share(self, matrix: Matrix, numbers: Numbers) -> float:
        """Of the bytes that are counted."""
        return self._bytes(matrix) / replace(matrix, has_bias=False).stored_bytes(numbers.elements)

    def _shape(self, matrix: Matrix) -> SpmvShape:
        """Of several GPUs the one with the most bytes."""
        if matrix not in self.known:
            self.known[matrix] = self._found(matrix)
        return self.known[matrix]

    def _found(self, matrix: Matrix) -> SpmvShape:
        if matrix.stored == BITMAP:
            sides = np.array([matrix.out_features]), np.array([matrix.in_features])
            return random_shape(*sides, np.array([(matrix.nnz or 0) / matrix.n_weights]))
        one = self.linears[matrix.mask] if matrix.mask else random_linear(matrix)
        return max(
            (shape_of_mask(part.weights.mask()) for part in parts(one, matrix)), key=lambda s: float(s.stored[0])
        )


def masked_by(gpu: GpuSpec, kernel: str) -> MaskedMatrices | None:
    """None where no kernel is asked for. Raises UserError for one that the GPU has not."""
    if not kernel:
        return None
    check_kernel(gpu, kernel, kernels.FLOAT)
    return MaskedMatrices(gpu, kernel)


def _whole(matrix: Matrix) -> Matrix:
    return replace(matrix, stored=DENSE, nnz=None, mask="")
