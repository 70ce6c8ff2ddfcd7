"""A whole block or model, timed on this machine's GPU or CPU; what was written."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from checkpoints.catalog import resolve_config
from studies.end_to_end import write_end_to_end
from studies.measure import names_in
from studies.measuring import USUAL, shares
from studies.progress import ProgressLine, counted
from workloads.errors import UserError, unknown
from workloads.files import check_writable_folder
from workloads.locking import writing

if TYPE_CHECKING:
    from measurement.blocks import Scenario

WHAT = ("block", "model")


@dataclass(frozen=True)
class WholeWanted:
    """`what`: a block or the model. What is "" or 0 is as usual on the device (measuring.USUAL)."""

    what: str
    model: str
    on: str
    dtype: str
    batch: int
    seq: int
    runs: int
    threads: int
    spread: float
    density: str
    kernels: str

    def measured(self, out: Path, progress: ProgressLine) -> tuple[Path, pd.DataFrame]:
        """(the file, its rows without samples), prefill and decode. Raises UserError."""
        if self.what not in WHAT:
            raise unknown("`end_to_end`", self.what, WHAT)
        if self.on not in USUAL:
            raise unknown("`on`", self.on, USUAL)
        usual = USUAL[self.on]
        dtype, runs, seq = self.dtype or usual.dtype, self.runs or usual.runs, self.seq or usual.seq
        from measurement import blocks

        phases = [
            blocks.Scenario(dtype, phase, self.batch, seq, 1 if self.what == "block" else 0) for phase in blocks.PHASES
        ]
        path = out / f"end-to-end-{self.what}-{dtype}.json"
        measured = self._on_cpu if self.on == "cpu" else self._on_gpu
        return path, measured(path, counted(phases, f"measuring the {self.what}", len(phases), progress), dtype, runs)

    def _on_gpu(self, path: Path, phases: Iterable["Scenario"], dtype: str, runs: int) -> pd.DataFrame:
        from measurement import blocks
        from measurement.environment import check_gpu, describe
        from measurement.measure import Procedure, cuda_device

        if self.kernels or self.density or self.threads != 1:
            raise UserError("`kernels`, `density` and `threads` are of a CPU where blocks and models are measured")
        Procedure(dtype, runs)
        check_gpu()
        name, config = resolve_config(self.model)
        device = cuda_device()
        backends = {backend: blocks.converter(backend) for backend in blocks.BACKENDS}
        rows = itertools.chain.from_iterable(blocks.end_to_end(device, config, each, backends, runs) for each in phases)
        with writing(path.parent):
            return write_end_to_end(path, describe(device.clock), name, rows)

    def _on_cpu(self, path: Path, phases: Iterable["Scenario"], dtype: str, runs: int) -> pd.DataFrame:
        from measurement.cpu import host
        from measurement.cpu.blocks import VARIANTS, EndToEnd, end_to_end
        from measurement.cpu.clock import HostClock, pinned
        from measurement.cpu.measure import CpuProcedure

        procedure = CpuProcedure(dtype, runs, self.threads, self.spread)
        variants = names_in(self.kernels) or VARIANTS
        for variant in variants:
            if variant not in VARIANTS:
                raise unknown("variant of a model", variant, VARIANTS)
        (density, *more) = shares(self.density or "0.5", "`density`")
        if more:
            raise UserError("`density`: one share of kv groups and FFN neurons, where blocks and models are measured")
        host.check_threads(self.threads)
        name, config = resolve_config(self.model)
        check_writable_folder(path.parent)
        clock = HostClock(host.last_cache_bytes())
        asked = (EndToEnd(each, procedure.rounds, density, procedure.spread, variants) for each in phases)
        with writing(path.parent), pinned(self.threads) as cores:
            rows = itertools.chain.from_iterable(end_to_end(clock, config, each) for each in asked)
            return write_end_to_end(path, host.describe(clock, self.threads, cores), name, rows)
