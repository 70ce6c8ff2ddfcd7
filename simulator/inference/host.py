"""What stands between the kernels of a step, by the words of a user (simulator/gpu/operators/stack.py)."""

from simulator.gpu.operators.stack import STACKS, Stack, step_us
from workloads.errors import UserError, meant

GRAPH = "graph"  # short for the first
SHORT = {GRAPH: "cuda-graph"}
MOST_MS = 1e6


def stack_of(text: str) -> Stack:
    """A name of STACKS, "graph" for cuda-graph, or the milliseconds that the host adds to each step and nothing else.
    Raises UserError."""
    name = SHORT.get(text, text)
    if name in STACKS:
        return STACKS[name]
    names = [GRAPH, *(name for name in STACKS if name not in SHORT.values())]
    return milliseconds_of(text, f"{meant(text, names)}{', '.join(names)}, or ")


def milliseconds_of(text: str, names: str = "") -> Stack:
    """The milliseconds alone. Raises UserError."""
    try:
        ms = float(text)
    except ValueError:
        ms = -1.0
    if not 0 <= ms <= MOST_MS:
        raise UserError(f"`host` {text!r}: {names}the milliseconds that it adds to a step")
    return Stack(0.0, 0.0, 1e3 * ms, "given")


def added_us(stack: Stack, gpu_us: float, kernels: int) -> float:
    """To a step whose kernels take gpu_us together."""
    return float(step_us(gpu_us, kernels, stack)) - gpu_us
