"""From which density on a mask's own kernel is the faster one: by the bytes that both read, and as measured. Needs no
torch."""

from collections.abc import Sequence

VALUE_BYTES, INDEX_BYTES = 4, 4  # of the kernels of kernels.py: float32 values, int32 indices and pointers
BLOCK = 16
DENSE_BYTES = {"fp32": 4, "bf16": 2, "int8": 1, "int4": 0.5}


def density_by_bytes(kernel: str, rows: int, cols: int, dtype: str) -> float | None:
    """The share kept at which `kernel` (csr, bsr, smaller) reads as many bytes of weights as a dense matrix of `dtype`
    does: 1 where it never reads more. None for kernels that multiply every weight.

    CSR: a value and an index each, a pointer a row; BSR: a block's values and an index, a pointer a row of blocks."""
    dense = DENSE_BYTES[dtype] * rows * cols
    if kernel == "csr":
        return min(1.0, (dense - INDEX_BYTES * (rows + 1)) / ((VALUE_BYTES + INDEX_BYTES) * rows * cols))
    if kernel == "bsr":
        pointers, a_block = INDEX_BYTES * (rows // BLOCK + 1), VALUE_BYTES * BLOCK**2 + INDEX_BYTES
        return min(1.0, (dense - pointers) / (a_block * rows * cols / BLOCK**2))
    return 1.0 if kernel == "smaller" else None


def density_by_times(points: Sequence[tuple[float, float]], dense_us: float) -> str:
    """Of (density, time) measured: where the time passes that of the dense kernel, on a straight line between two
    neighbours, which are named; "below" the least density or "above" the largest where it does not."""
    ordered = sorted(points)
    faster = [time < dense_us for _, time in ordered]
    if not ordered:
        return ""
    if all(faster) or not any(faster):
        return f"above {ordered[-1][0]:g}" if all(faster) else f"below {ordered[0][0]:g}"
    place = max(number for number, is_faster in enumerate(faster) if is_faster)
    if place + 1 == len(ordered):
        return f"above {ordered[-1][0]:g}"  # times that do not grow with the density: the last one counts
    (low, before), (high, after) = ordered[place], ordered[place + 1]
    found = low + (high - low) * (dense_us - before) / (after - before)
    return f"{found:.2f} (between {low:g} and {high:g})"
