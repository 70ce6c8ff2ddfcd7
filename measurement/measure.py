"""Shapes x tokens x kernels, one after the other: check the result, then time it.

A case that cannot run is a row with the reason; so is a kernel whose result is wrong, which is never timed. Every shape
and token count starts with the dense kernel, the time all others are held against. What a record holds already is not
measured again.
"""

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from measurement.kernels import Capability, Dense, Kernel, Prepared, reference_error
from measurement.problem import Problem, draw
from measurement.shapes import Shape
from measurement.timing import RUNS, Call, Clock, Samples, quickest
from workloads.errors import UserError, one_line

Progress = Callable[[str, int, int], None]
DIGITS = 3  # of a us; events resolve far less


@dataclass(frozen=True)
class Device:
    """Where kernels run: the GPU, or a stand-in of a test."""

    name: str  # torch's
    capability: Capability
    clock: Clock
    telemetry: Callable[[], dict[str, float]]

    def settle(self) -> None:
        """Raises RuntimeError if something went wrong on the device since the last call."""
        if self.name == "cuda":
            torch.cuda.synchronize()


@dataclass(frozen=True)
class Procedure:
    """What holds for every case. Raises UserError for fewer runs than 50 (a median of fewer says little)."""

    dtype: str
    runs: int = RUNS
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in ("fp16", "bf16"):
            raise UserError(f"`dtype` {self.dtype!r}: fp16 or bf16")
        if self.runs < RUNS:
            raise UserError(f"`runs` {self.runs}: at least {RUNS}, so that a median and its spread say something")

    @property
    def compiled(self) -> str:
        return "torch.compile" if self.compile else ""


def measure(
    device: Device,
    shapes: Sequence[tuple[Shape, Sequence[int]]],
    kernels: Sequence[Kernel],
    procedure: Procedure,
    done: Collection[tuple[Any, ...]] = (),
    progress: Progress = lambda what, done, of: None,
) -> Iterator[list[dict[str, Any]]]:
    """The rows of each shape and token count (records.COLUMNS), in order, as they are measured.

    `shapes` pairs each shape with its tokens; `done` holds keys (records.KEY) that are there already. The dense kernel
    is measured even where it is not among `kernels`. Raises UserError when the device itself fails: what was yielded
    before stands.
    """
    everyone = [Dense(), *(kernel for kernel in kernels if kernel.name != "dense")]
    total = sum(len(tokens) for _, tokens in shapes) * len(everyone)
    count = 0
    for shape, tokens_list in shapes:
        for tokens in tokens_list:
            problem = Problem(shape.out_features, shape.in_features, tokens, procedure.dtype, shape.pattern)
            rows = []
            for kernel in everyone:
                progress(f"measuring {problem}", count, total)
                count += 1
                if (*_facts(problem, kernel, procedure).values(),) not in done:
                    rows.append(case(device, problem, kernel, procedure))
            if rows:
                yield rows
    progress("measuring", total, total)


def case(device: Device, problem: Problem, kernel: Kernel, procedure: Procedure) -> dict[str, Any]:
    """One row. Raises UserError when the device fails."""
    facts = _facts(problem, kernel, procedure)
    reason = kernel.refuses(problem, device.capability)
    if reason:
        return {**facts, "feasible": False, "reason": reason}
    try:
        with torch.inference_mode(), quiet():
            return {**facts, **_timed(device, problem, kernel, procedure)}
    except (RuntimeError, NotImplementedError) as error:  # torch's words for what a build or a card cannot do
        try:
            device.settle()
        except RuntimeError as broken:
            raise UserError(
                f"{kernel.name}, {problem}: the GPU failed ({one_line(broken)}); repeat the command, or leave out this "
                f"kernel"
            ) from None
        return {**facts, "feasible": False, "reason": f"does not run: {one_line(error)}"}
    finally:
        if device.name == "cuda":
            torch.cuda.empty_cache()


def _facts(problem: Problem, kernel: Kernel, procedure: Procedure) -> dict[str, Any]:
    """The key of a row (records.KEY, in its order). A dense kernel takes no mask, so patterns share its row only by
    shape."""
    return {
        "out_features": problem.out_features,
        "in_features": problem.in_features,
        "tokens": problem.tokens,
        "kernel": kernel.name,
        "dtype": procedure.dtype,
        "pattern": problem.pattern,
        "density": problem.density,
        "compiled": procedure.compiled,
    }


def _timed(device: Device, problem: Problem, kernel: Kernel, procedure: Procedure) -> dict[str, Any]:
    prepared = kernel.prepare(problem, draw(problem, device.name, procedure.seed))
    call, variant = choose(device.clock, prepared, procedure.compile)
    error = reference_error(prepared, call())
    device.settle()
    if not error <= prepared.tolerance:
        return {"variant": variant, **wrong(prepared, error)}
    cold = device.clock.cold(call, procedure.runs)
    warm = device.clock.warm(call, procedure.runs)
    return {
        "feasible": True,
        "reason": "",
        "variant": variant,
        "error": error,
        **columns_of("cold", cold),
        **columns_of("warm", warm),
        "warm_how": warm.how,
        **device.telemetry(),
    }


def wrong(prepared: Prepared, error: float) -> dict[str, Any]:
    """The row of a kernel whose result is not that of the dense product."""
    return {
        "feasible": False,
        "reason": f"wrong result, not timed: off by {error:.3g} of the output's root mean square, "
        f"allowed {prepared.tolerance:g}",
        "error": error if error < float("inf") else float("nan"),
    }


def choose(clock: Clock, prepared: Prepared, compiled: bool) -> tuple[Call, str]:
    """(what is timed, its description): the quickest algorithm of the library, compiled on request."""
    call, variant = prepared.call, prepared.variant
    if prepared.alternatives:
        name, call = quickest(clock, prepared.alternatives)
        variant = f"{variant}, {name} of {len(prepared.alternatives)} tried"
    if compiled:
        call = torch.compile(call, dynamic=False)
    return call, variant


def columns_of(situation: str, samples: Samples) -> dict[str, Any]:
    return {
        f"{situation}_us": round(samples.median_us, DIGITS),
        f"{situation}_p10_us": round(samples.p10_us, DIGITS),
        f"{situation}_p90_us": round(samples.p90_us, DIGITS),
        f"{situation}_samples_us": " ".join(f"{time:.{DIGITS}f}" for time in samples.times_us),
    }


@contextmanager
def quiet() -> Iterator[None]:
    """PyTorch warns that its 2:4 tensors are a prototype and that cuSPARSELt made a plan; a table of rows needs
    neither."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def cuda_device() -> Device:
    """This machine's GPU. Raises UserError where there is none."""
    from measurement.environment import check_gpu, cuda_clock, telemetry

    check_gpu()
    return Device("cuda", torch.cuda.get_device_capability(), cuda_clock(), telemetry)
