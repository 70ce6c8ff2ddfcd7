"""Array cycles of `systolic` beside the scalesim package 3.0.0, run side by side.

scalesim needs numpy < 2, so it gets a virtual environment of its own in the cache folder (made on the first run, by
pip, which needs a network). It runs with estimated bandwidth, so that it has no stalls, and without traces; its "Total
Cycles" are then those of the array, our compute_cycles.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from simulator.accelerators.systolic.cycle import Systolic
from simulator.statistics import Statistics
from simulator.work import Work

VERSION = "3.0.0"
Gemm = tuple[int, int, int]  # tokens M, outputs N, inputs K
Row = dict[str, Any]

SMALL: list[Gemm] = [(1, 64, 96), (7, 33, 65), (40, 50, 60), (128, 100, 70)]
MEDIUM: list[Gemm] = [(1, 512, 512), (100, 300, 500), (256, 256, 256)]
FLOWS = ("ws", "os", "is")


@dataclass(frozen=True)
class Case:
    """One configuration and the GEMMs that run on it. nm: "dense", or N:M."""

    rows: int
    cols: int
    dataflow: str
    gemms: tuple[Gemm, ...]
    nm: str = "dense"


CASES = [
    *(Case(rows, cols, flow, tuple(SMALL)) for rows, cols in ((8, 8), (16, 32), (32, 16)) for flow in FLOWS),
    *(Case(64, 64, flow, (*SMALL, *MEDIUM)) for flow in FLOWS),
    *(Case(128, 128, flow, (*SMALL, *MEDIUM, (512, 512, 512))) for flow in FLOWS),
    Case(16, 32, "ws", tuple(SMALL), "2:4"),
    Case(16, 32, "ws", tuple(SMALL), "1:4"),
]
BIG = Case(128, 128, "os", ((128, 4096, 4096),))

# runs inside scalesim's environment: one object a layer, so that each has a time; prints [seconds], peak GB
DRIVER = """
import json, resource, sys, time
from scalesim.scale_sim import scalesim
config, *topologies = sys.argv[1:]
seconds = []
for topology in topologies:
    layer = scalesim(save_disk_space=True, verbose=False, config=config, topology=topology,
                     layout=topology + ".layout", input_type_gemm=True)
    began = time.perf_counter()
    layer.run_scale(top_path=topology + ".out")
    seconds.append(time.perf_counter() - began)
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9]))
"""

CONFIG = """
[general]
run_name = run
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {cols}
IfmapSramSzkB = 4096
FilterSramSzkB = 4096
OfmapSramSzkB = 4096
IfmapOffset = 0
FilterOffset = 100000000
OfmapOffset = 200000000
Bandwidth = 10
Dataflow = {dataflow}
ReadRequestBuffer = 64
WriteRequestBuffer = 64
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = {sparse}
SparseRep = ellpack_block
OptimizedMapping = False
BlockSize = 4
RandomNumberGeneratorSeed = 0
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""


def environment() -> Path:
    """The python of scalesim's virtual environment. Raises SystemExit with a line when it cannot be made."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "prunesim" / f"scalesim-{VERSION}"
    python = folder / "bin" / "python"
    if python.exists() and not subprocess.run([python, "-c", "import scalesim"], capture_output=True).returncode:
        return python
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", f"scalesim=={VERSION}", "numpy<2"],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip() or "no output").splitlines()[-1]
            raise SystemExit(f"scalesim {VERSION} cannot be installed into {folder}: {last}")
    return python


def scalesim(python: Path, case: Case) -> tuple[list[int], list[float], float]:
    """(cycles and seconds of every GEMM, peak GB of the process). Raises SystemExit where it fails or stalls."""
    sparse = case.nm != "dense"
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.cfg").write_text(
            CONFIG.format(rows=case.rows, cols=case.cols, dataflow=case.dataflow, sparse=sparse)
        )
        topologies = []
        for i, (m, n, k) in enumerate(case.gemms):
            topology = folder / f"{i}.csv"
            topology.write_text(f"Layer, M, N, K, Sparsity,\nlayer, {m}, {n}, {k}, {case.nm if sparse else '1:1'},\n")
            Path(f"{topology}.layout").write_text(f"Layer, M, N, K,\nlayer, {m}, {n}, {k},\n")  # read, not used
            topologies.append(str(topology))
        done = subprocess.run(
            [python, "-c", DRIVER, folder / "config.cfg", *topologies], capture_output=True, text=True, cwd=folder
        )
        if done.returncode:
            raise SystemExit(f"scalesim failed on {case}: {done.stderr.strip().splitlines()[-1]}")
        seconds, peak = json.loads(done.stdout.splitlines()[-1])
        cycles = []
        for path in topologies:
            line = Path(f"{path}.out/run/COMPUTE_REPORT.csv").read_text().splitlines()[1]
            _, _, total, stalls, *_ = line.split(",")
            if int(stalls):
                raise SystemExit(f"scalesim stalls {stalls} cycles on {case}, which estimated bandwidth should not do")
            cycles.append(int(total))
    return cycles, seconds, peak


def prepare_ours(case: Case) -> Callable[[], list[tuple[int, float]]]:
    """Loads compiled kernels; what it returns evaluates every GEMM: (compute_cycles, seconds) each."""
    sets = (
        f"array.rows={case.rows}",
        f"array.cols={case.cols}",
        f"array.dataflow={case.dataflow}",
        f"array.nm={case.nm}",
    )
    array = Systolic(*sets)
    follows = Statistics({"follows": np.array([case.nm != "dense"], dtype=np.int64)})

    def evaluate(gemm: Gemm) -> tuple[int, float]:
        m, n, k = gemm
        began = time.perf_counter()
        found = array.evaluate(Work(n, k, n * k, m), follows)
        return found.sparse.compute_cycles, time.perf_counter() - began

    evaluate((3, 5, 7))
    return lambda: [evaluate(gemm) for gemm in case.gemms]


def rows(cases: Iterable[Case] = CASES) -> list[Row]:
    """A row for every configuration and GEMM: cycles of both, error (ours / theirs - 1)."""
    python = environment()
    result: list[Row] = []
    for case in cases:
        cycles, _, _ = scalesim(python, case)
        found = [count for count, _ in prepare_ours(case)()]
        result += [row(case, gemm, *pair) for gemm, *pair in zip(case.gemms, cycles, found, strict=True)]
    return result


def row(case: Case, gemm: Gemm, theirs: int, ours: int) -> Row:
    m, n, k = gemm
    return {
        "array": f"{case.rows}x{case.cols}", "dataflow": case.dataflow, "nm": case.nm, "m": m, "n": n, "k": k,
        "scalesim_cycles": theirs, "cycles": ours, "error": ours / theirs - 1,
    }  # fmt: skip
