"""How masked weights lie in a GPU's memory: packed only where a kernel reads them so, with their zeros elsewhere."""

from dataclasses import replace

import numpy as np

from simulator.gpu.prediction import precision_of, sparse24_rules
from simulator.gpu.spec import GpuSpec
from simulator.inference.kernels import runs_float_products
from simulator.inference.runner import Numbers
from workloads.counts import Elements
from workloads.decoder.dimensions import Decoder
from workloads.decoder.stored import with_matrices
from workloads.operations import DecoderOperation
from workloads.operations.expert_ffn import ExpertFfn
from workloads.operations.gemm import Gemm, Matrix
from workloads.patterns import DENSE, kept_of_four

PACKED = "2:4"  # NVIDIA's: two values and their places of each four, however few of them are kept


def as_run(decoder: Decoder, gpu: GpuSpec, numbers: Numbers) -> Decoder:
    """The decoder with every matrix as a kernel of the GPU reads it. Routed experts have dense kernels alone."""
    return with_matrices(decoder, lambda matrix: matrix_as_run(matrix, gpu, numbers), _dense)


def matrix_as_run(matrix: Matrix, gpu: GpuSpec, numbers: Numbers) -> Matrix:
    """2:4 where a kernel runs it, 1:4 and 1:2 as that, any other dense: other N:M, weight-only kernels, and sides that
    2:4 kernels do not take."""
    if matrix.stored == DENSE:
        return matrix
    has_kernel = kept_of_four(matrix.stored) is not None
    if has_kernel and runs_float_products(matrix, numbers):
        has_kernel = matrix.bits(numbers.elements) == numbers.elements.float_bits
    sides = np.array([matrix.out_features]), np.array([matrix.in_features])
    if has_kernel and sparse24_rules(*sides, precision_of(gpu, numbers.dtype))[0].all():
        return replace(matrix, stored=PACKED, nnz=None)
    return _dense(matrix)


def read_share(operation: DecoderOperation, gpu: GpuSpec, numbers: Numbers) -> float:
    """Bytes of weights that the kernel of an operation reads, of those that `operation` counts."""
    if isinstance(operation, Gemm):
        pairs = [(matrix, matrix_as_run(matrix, gpu, numbers), 1) for matrix in operation.matrices]
    elif isinstance(operation, ExpertFfn):
        pairs = [(m, _dense(m), count) for ups, down, count in operation.kinds for m in (*ups, down)]
    else:
        return 1.0
    if all(before == after for before, after, _ in pairs):
        return 1.0
    return _bytes(pairs, 1, numbers.elements) / _bytes(pairs, 0, numbers.elements)


def _bytes(pairs: list[tuple[Matrix, Matrix, int]], which: int, elements: Elements) -> float:
    return sum(count * (before, after)[which].stored_bytes(elements) for before, after, count in pairs)


def _dense(matrix: Matrix) -> Matrix:
    return replace(matrix, stored=DENSE, nnz=None)
