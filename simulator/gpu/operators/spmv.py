"""One token through a linear whose mask has no pattern, y = W x in fp16: MACKO (arXiv 2511.13061), cuSPARSE's CSR, and
cuBLAS on the dense matrix. All of them wait for the bytes of W, so time follows from the mask:

    time = fixed + bytes / (bandwidth * efficiency) * (1 + (kept of a row / row_values) ^ row_exponent) + flush
    flush = flush_us * min(1, bytes / (2 * L2))

macko: simulator/formats.py to the byte, values, 4-bit gaps and pointers; csr: 2 + 4 bytes a kept weight, pointers of 4;
dense: 2 bytes a weight. x and y once. What grows with the kept weights of a row is CSR's alone.

flush: the published loop writes twice the L2 before each call, and the kernel waits while that is written back. Not so
in a model, whose decode rates show nothing of it, nor of `fixed`: with `alone = False` a launch behind another kernel,
assumed, takes the place of both, and the error grows by its share.
Only cards that were measured have these kernels: efficiency and flush follow the card, not its data sheet.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from simulator.formats import MACKO_POINTER_BITS, RUN_BITS, stored
from simulator.gpu.operator_parameters import SpmvKernel
from simulator.gpu.operators.timing import Parts, Rates, Timing, chosen, operators_of, parts_of, rates_of, timing_of
from simulator.gpu.sizes import whole_numbers
from simulator.gpu.spec import GpuSpec
from workloads.errors import UserError
from workloads.mask import PackedMask

VALUE_BYTES = 2
POINTER_BYTES = MACKO_POINTER_BITS // 8
MACKO_BYTES = VALUE_BYTES + RUN_BITS / 8
CSR_BYTES = VALUE_BYTES + 4
LAUNCH_US = 2.0  # assumed; at most 8: Llama-2-7B's decode has 1.8 ms for 224 linears' launches and all other kernels


class SpmvShape(NamedTuple):
    """(shapes,) float64 each. stored: values that MACKO stores, zeros included."""

    rows: np.ndarray
    cols: np.ndarray
    kept: np.ndarray
    stored: np.ndarray


def whole_shape(rows: float, cols: float) -> SpmvShape:
    """Of a matrix that keeps all of its weights."""
    n, k = np.array([float(rows)]), np.array([float(cols)])
    return SpmvShape(n, k, n * k, n * k)


def spmv(
    gpu: GpuSpec, rows: ArrayLike, cols: ArrayLike, density: ArrayLike, kernel: str = "", alone: bool = True
) -> Timing:
    """Random masks of a density 0..1 (share kept); outputs and inputs as integers, arrays that broadcast. kernel:
    macko, csr, cublas; "" for the first. alone: as measured, else what it adds to a token of a model.

    Raises UserError for sizes that are none, shares outside 0..1, and cards that were not measured."""
    n, k = whole_numbers(rows=rows, cols=cols)
    share = np.asarray(density, dtype=float)
    if not ((share >= 0) & (share <= 1)).all():
        raise UserError(f"density = {share[~((share >= 0) & (share <= 1))].flat[0]:g}: the share kept is 0 to 1")
    n, k, share = (np.atleast_1d(each) for each in np.broadcast_arrays(n, k, share))
    return spmv_of_shape(gpu, random_shape(n, k, share), kernel, alone)


def spmv_of_mask(gpu: GpuSpec, mask: PackedMask, kernel: str = "", alone: bool = True) -> Timing:
    """`spmv` of this very mask, arrays of one."""
    return spmv_of_shape(gpu, shape_of_mask(mask), kernel, alone)


def shape_of_mask(mask: PackedMask) -> SpmvShape:
    """Arrays of one."""
    values, _ = stored("macko", mask, *mask.shape)
    sizes = (mask.rows, mask.cols, mask.nnz, int(values[0, 0]))
    return SpmvShape(*(np.array([float(size)]) for size in sizes))


def spmv_of_shape(gpu: GpuSpec, shape: SpmvShape, kernel: str = "", alone: bool = True) -> Timing:
    """`spmv` of masks in these numbers."""
    name, fitted = chosen(operators_of(gpu).spmv, kernel, "spmv (measured on rtx-4090 alone)")
    parts = spmv_parts(fitted, rates_of(gpu), shape, alone)
    share = shape.kept / (shape.rows * shape.cols)
    quantities = {"rows": shape.rows, "cols": shape.cols, "density": share}
    timing = timing_of(name, fitted.data, fitted.error, parts, quantities)
    if alone:
        return timing
    return replace(timing, latency_error_p90=timing.latency_error_p90 + LAUNCH_US / timing.latency_us)


def random_shape(rows: np.ndarray, cols: np.ndarray, density: np.ndarray) -> SpmvShape:
    """(shapes,) each: what is expected of weights kept independently of each other. A column ends a run of 16 i zeros
    with (1 - d)^(16 i) if the row starts there, times d if a kept weight must stand before it."""
    longest = 1 << RUN_BITS
    zeros = np.zeros(len(rows))
    for run in range(longest, int(cols.max()) + 1, longest):
        term = np.where(run <= cols, (1 - density) ** run * (1 + density * (cols - run)), 0.0)
        zeros += term
        if (term <= 1e-9).all():
            break
    kept = rows * cols * density
    return SpmvShape(rows.astype(float), cols.astype(float), kept, kept + rows * zeros)


def weight_bytes(storage: str, s: SpmvShape) -> np.ndarray:
    """(shapes,) bytes of W."""
    if storage == "dense":
        return VALUE_BYTES * s.rows * s.cols
    pointers = POINTER_BYTES * (s.rows + 1)
    return pointers + (MACKO_BYTES * s.stored if storage == "macko" else CSR_BYTES * s.kept)


def spmv_parts(p: SpmvKernel, rates: Rates, s: SpmvShape, alone: bool = True) -> Parts:
    moved = weight_bytes(p.storage, s) + VALUE_BYTES * (s.rows + s.cols)
    memory = moved / (rates.bytes_per_us * p.memory_efficiency)
    slow = memory * (s.kept / s.rows / p.row_values) ** p.row_exponent if p.row_values else np.zeros_like(memory)
    flush = p.flush_us * np.minimum(1.0, moved / (2 * rates.l2_bytes))
    fixed = p.fixed_us + flush if alone else np.full_like(memory, LAUNCH_US)
    return parts_of(moved / rates.bytes_per_us, fixed + memory + slow, fixed, slow, memory)
