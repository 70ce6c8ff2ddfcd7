"""What does not fit a buffer, said as every design says it."""

import math

from workloads.refusals import Refusal


def too_small(
    where: str, setting: str, need_bytes: int, capacity_bytes: float, double: bool = False, or_else: str = ""
) -> Refusal:
    """`where` needs so many bytes of the buffer that `setting` gives in KiB, of one of its halves where it is `double`.
    `or_else`: what helps beside a larger one."""
    halves = 2 if double else 1
    return Refusal(
        resource=f"half of {setting}" if double else setting,
        need=need_bytes,
        bound=capacity_bytes / halves,
        unit="B",
        way_out=f"raise it to {enough_kib(need_bytes * halves):.10g}" + (f", or {or_else}" if or_else else ""),
        where=where,
    )


def enough_kib(number_of_bytes: int) -> float:
    """KiB that hold them, rounded up to hundredths."""
    return math.ceil(number_of_bytes * 100 / 1024) / 100
