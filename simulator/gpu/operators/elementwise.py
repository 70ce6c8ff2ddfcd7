"""Norms, activations, residual additions, rotary embedding, softmax and the look-up of embeddings: kernels that read,
compute little and write.

    time = fixed + soft maximum of (walk, memory)
    walk = waves * columns * walk_us, a CTA a row and two CTAs an SM at a time
    memory = bytes / (bandwidth * efficiency), less where they stay in the L2

Rows and columns are those of the output. The bytes, at 2 a value: rmsnorm, layernorm, softmax, gelu and embedding read
one value and write one; rope likewise over its (heads + kv_heads) * head_dim columns; residual_add and silu_mul read
two and write one. A kernel fused with its neighbour moves less than the two apart: the data are of unfused ones.

Those of softmax, layernorm and gelu were taken by the host's clock, so `host_us` of launching is inside; `host=False`
leaves it out, as inside a CUDA graph. `fused` leaves fixed part and walk out too: what is left of a kernel that was
compiled into its neighbour, whose launch and waves it shares. No data show single ones of that kind.
"""

import numpy as np
from numpy.typing import ArrayLike

from simulator.gpu.operator_parameters import RowKernel
from simulator.gpu.operators.timing import (
    Parts,
    Rates,
    Timing,
    chosen,
    operators_of,
    parts_of,
    rates_of,
    soft_max,
    stream_us,
    timing_of,
)  # fmt: skip
from simulator.gpu.sizes import whole_numbers
from simulator.gpu.spec import GpuSpec
from workloads.errors import unknown

VALUES_MOVED = {
    "rmsnorm": 2, "layernorm": 2, "rope": 2, "silu_mul": 3, "residual_add": 3, "softmax": 2, "gelu": 2, "embedding": 2,
}  # fmt: skip
ROWS_AN_SM = 2
OVERLAP = 3.0
MOST_VALUES = 1 << 31  # columns: gelu is measured as one long row


def elementwise(
    gpu: GpuSpec, kind: str, rows: ArrayLike, cols: ArrayLike, host: bool = True, fused: bool = False
) -> Timing:  # fmt: skip
    """One kernel over rows x cols values of 2 bytes; integers or integer arrays that broadcast. Raises UserError for a
    kind that is none (`VALUES_MOVED` has them) and for sizes that are none."""
    if kind not in VALUES_MOVED:
        raise unknown("elementwise operation", kind, VALUES_MOVED)
    name, fitted = chosen(operators_of(gpu).elementwise, kind, kind)
    n, c = whole_numbers(most=MOST_VALUES, rows=rows, cols=cols)
    parts = elementwise_parts(fitted, rates_of(gpu), VALUES_MOVED[kind], n, c, host, fused)
    return timing_of(name, fitted.data, fitted.error, parts, {"rows": n, "cols": c, "values": n * c})


def elementwise_parts(
    p: RowKernel, rates: Rates, values_moved: int, rows: np.ndarray, cols: np.ndarray, host: bool = True,
    fused: bool = False,
) -> Parts:  # fmt: skip
    moved = 2.0 * values_moved * rows * cols
    waves = np.ceil(rows / (rates.sms * ROWS_AN_SM))
    walk = waves * cols * p.walk_us / 1e3
    memory = stream_us(moved, rates, p.memory_efficiency, p.l2_usable, p.l2_time)
    if fused:
        return parts_of(moved / rates.bytes_per_us, memory, 0.0, memory=memory)
    fixed = p.fixed_us - (0.0 if host else p.host_us)
    return parts_of(moved / rates.bytes_per_us, fixed + soft_max(OVERLAP, walk, memory), fixed, walk, memory)
