"""Times of the operators of a decoder on a GPU, one kernel a call, each with its error.

Every function takes a GPU (`load_gpu`) and plain numbers or numpy arrays that broadcast, and returns a `Timing` of
arrays: a thousand configurations take milliseconds. Parameters: simulator/gpu/operator_parameters.py, fitted by
benchmarks/fit_operators.py and written into the presets. Steps and whole models are sums of these and of the host's
time; kernels of one stream do not overlap.
"""

from simulator.gpu.operators.all_reduce import all_reduce
from simulator.gpu.operators.decode import decode
from simulator.gpu.operators.elementwise import VALUES_MOVED, elementwise
from simulator.gpu.operators.linear import linear
from simulator.gpu.operators.moe import ROUTINGS, moe
from simulator.gpu.operators.prefill import prefill
from simulator.gpu.operators.spmv import spmv, spmv_of_mask
from simulator.gpu.operators.stack import STACKS, Stack, step_us
from simulator.gpu.operators.timing import Timing

__all__ = [
    "ROUTINGS", "STACKS", "VALUES_MOVED", "Stack", "Timing", "all_reduce", "decode", "elementwise", "linear", "moe",
    "prefill", "spmv", "spmv_of_mask", "step_us",
]  # fmt: skip
