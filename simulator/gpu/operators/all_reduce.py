"""The sum over GPUs of what each holds, in one node joined by NVLink.

    short messages: fixed + steps + gpu_us * (gpus - 2) + bytes sent / (link * small efficiency)
    long messages:  large + gpu_us * (gpus - 2) + 2 (gpus - 1) / gpus * message / (link * large efficiency)

with a gradual change around `switch_bytes`, where the library takes another protocol; steps grow from 0 to step_us
around 8 KiB. Bytes sent: "ring" (NCCL) as for
long ones. "one_shot" (vLLM's own kernel): each GPU reads the whole message of each other, (gpus - 1) * message, or in
two rounds, which cost `two_shot_us` more, 2 (gpus - 1) / gpus * message; whichever is shorter. Its long messages are
NCCL's with a copy. No other traffic on the links, and all GPUs arrive together: in a model they wait for the last.
"""

import numpy as np
from numpy.typing import ArrayLike

from simulator.gpu.operator_parameters import AllReduceKernel
from simulator.gpu.operators.timing import Parts, Timing, chosen, operators_of, parts_of, timing_of
from simulator.gpu.sizes import whole_numbers
from simulator.gpu.spec import GpuSpec
from workloads.errors import UserError

SHARPNESS = 4.0  # of the change
STEP_BYTES = 8192.0
MOST_BYTES = 1 << 40


def all_reduce(gpu: GpuSpec, gpus: ArrayLike, message_bytes: ArrayLike, kernel: str = "") -> Timing:
    """One all-reduce of message_bytes over `gpus`; integers or integer arrays that broadcast. Raises UserError for
    sizes
    that are none, one GPU alone, more than NVLink joins, and cards without NVLink."""
    operators = operators_of(gpu)
    if operators.links is None:
        raise UserError("this GPU has no NVLink: all-reduce over PCIe is not predicted")
    name, fitted = chosen(operators.all_reduce, kernel, "all_reduce")
    for count in np.atleast_1d(np.asarray(gpus)):
        if count > operators.links.gpus:
            raise UserError(
                f"gpus = {count}: NVLink joins {operators.links.gpus} of this GPU; all-reduce goes no further"
            )
    n, message = np.broadcast_arrays(
        *whole_numbers(most=operators.links.gpus, least=2, gpus=gpus),
        *whole_numbers(most=MOST_BYTES, message_bytes=message_bytes),
    )
    parts = all_reduce_parts(fitted, operators.links.gbps * 1e3, n, message)
    return timing_of(name, fitted.data, fitted.error, parts, {"gpus": n, "message_bytes": message})


def all_reduce_parts(p: AllReduceKernel, link_bytes_per_us: float, gpus: np.ndarray, message: np.ndarray) -> Parts:
    ring = 2.0 * (gpus - 1) / gpus * message
    small = ring / (link_bytes_per_us * p.small_efficiency)
    if p.algorithm == "one_shot":
        one = (gpus - 1.0) * message / (link_bytes_per_us * p.small_efficiency)
        small = np.minimum(one, p.two_shot_us + small)
    large = ring / (link_bytes_per_us * p.large_efficiency)
    long = 1 / (1 + (p.switch_bytes / message) ** SHARPNESS)
    started = p.fixed_us + p.step_us * message / (message + STEP_BYTES)
    fixed = (1 - long) * started + long * np.maximum(p.large_us, started) + p.gpu_us * (gpus - 2)
    memory = (1 - long) * small + long * large
    return parts_of(ring / link_bytes_per_us, fixed + memory, fixed, memory=memory)
