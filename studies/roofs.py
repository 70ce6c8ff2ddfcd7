"""What targets can do at most: the roofs under which a report draws the operations of a whole model."""

from collections.abc import Iterable, Iterator

import pandas as pd

from simulator.gpu.prediction import precision_of
from simulator.inference.arrays import ArrayRunner
from simulator.inference.gpus import GpuRunner
from simulator.inference.runner import Runner
from simulator.runners import find_runner
from studies.entries import overrides
from studies.study import StudyAccelerator
from workloads.errors import UserError

COLUMNS = ("target", "settings", "dtype", "peak_tflops", "bandwidth_gbps")
TYPES = ("fp16", "bf16", "int8", "fp8")


def roofs_of(accelerators: Iterable[StudyAccelerator]) -> pd.DataFrame:
    """A row for each type of those that run whole models: the rate of dense products of all MAC units, and what DRAM
    gives. Sweeps have none."""
    rows: dict[tuple[str, ...], tuple[str, str, str, float, float]] = {}
    for on in accelerators:
        if on.sweep:
            continue
        try:
            runner = find_runner(on.name, overrides(on.set))
        except UserError:
            continue
        for dtype, peak_tflops, bandwidth_gbps in _rates(runner):
            told = runner.name, runner.settings, dtype
            rows[told] = (*told, peak_tflops, bandwidth_gbps)
    return pd.DataFrame(list(rows.values()), columns=list(COLUMNS))


def _rates(runner: Runner) -> Iterator[tuple[str, float, float]]:
    """(dtype, TFLOP/s, GB/s)."""
    if isinstance(runner, ArrayRunner):
        spec = runner.spec
        yield runner.numbers().name, 2 * spec.macs * spec.clock.mhz / 1e6, runner.bytes_per_us / 1e3
    elif isinstance(runner, GpuRunner):
        gpu = runner.spec
        for dtype in TYPES:
            try:
                macs = precision_of(gpu, dtype).macs_per_cycle
            except UserError:
                continue
            yield dtype, 2 * macs * gpu.chip.sms * gpu.chip.clock_mhz / 1e6, gpu.memory.bandwidth_gbps
