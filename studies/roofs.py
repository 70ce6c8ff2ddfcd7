"""What targets can do at most: the roofs under which a report draws the operations of a whole model."""

from collections.abc import Iterable

import pandas as pd

from simulator.gpu.named import find_gpu, is_gpu
from simulator.gpu.prediction import precision_of
from studies.entries import overrides
from studies.study import StudyAccelerator
from workloads.errors import UserError

COLUMNS = ("target", "settings", "dtype", "peak_tflops", "bandwidth_gbps")
TYPES = ("fp16", "bf16", "int8", "fp8")


def roofs_of(accelerators: Iterable[StudyAccelerator]) -> pd.DataFrame:
    """Of GPUs: the matrix rate of dense products and the DRAM's bandwidth, by the data sheet; a row a type."""
    rows = {}
    for on in accelerators:
        if not is_gpu(on.name) or on.sweep:
            continue
        sets = overrides(on.set)
        target, gpu = find_gpu(on.name, sets)
        for dtype in TYPES:
            try:
                macs = precision_of(gpu, dtype).macs_per_cycle
            except UserError:
                continue
            peak = 2 * macs * gpu.chip.sms * gpu.chip.clock_mhz * 1e6 / 1e12
            rows[target, dtype, *sets] = (target, " ".join(sets), dtype, peak, gpu.memory.bandwidth_gbps)
    return pd.DataFrame(list(rows.values()), columns=list(COLUMNS))
