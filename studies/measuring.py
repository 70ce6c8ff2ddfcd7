"""What a user asks to be measured, and on which of this machine's devices."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from measurement.shapes import ANY, SPREAD
from studies import measure as glue
from studies.progress import ProgressLine
from workloads.errors import UserError, unknown


@dataclass(frozen=True)
class Usual:
    """What a device is asked where nothing is said."""

    kernels: str
    dtype: str
    tokens: str
    pattern: str
    runs: int
    seq: int  # of whole blocks and models
    named: str = ""  # kernels that run where they are asked for by name

    def check_kernels(self, names: Sequence[str]) -> None:
        """Raises UserError for one that is not known, or whose library is not installed."""
        known = glue.names_in(f"{self.kernels},{self.named}")
        for name in names:
            if name not in known:
                raise unknown(f"kernel of the {'CPU' if self.named else 'GPU'}", name, known)
            if name.startswith(OPENVINO) and importlib.util.find_spec(OPENVINO) is None:
                raise UserError(f"{name} needs openvino, which is not installed: pip install 'prunesim[openvino]'")


USUAL = {
    "cuda": Usual(
        kernels="dense,cusparselt24,cutlass24,int8,int8-24,fp8,fp8-24,int4", dtype="fp16",
        tokens="1,16,64,256,1024,2048,8192", pattern="2:4", runs=50, seq=2048,
    ),
    "cpu": Usual(
        kernels="dense,bf16,int8-x86,int8-onednn,int8-weights,int4-weights,csr,bsr,smaller,sparse24", dtype="fp32",
        tokens="1,16,128", pattern=ANY, runs=20, seq=128,
        named="openvino,openvino-bf16,openvino-int8,openvino-sparse",
    ),
}  # fmt: skip
DENSITY = "0.5,0.1"
OPENVINO = "openvino"


@dataclass(frozen=True)
class Wanted:
    """One of `bundle`, `model` and `shapes`, on `on`; "" and 0 mean what is usual there (USUAL)."""

    bundle: Path | None = None
    model: str | None = None
    shapes: Sequence[str] = ()
    on: str = "cuda"
    kernels: str = ""
    dtype: str = ""
    tokens: str = ""
    pattern: str = ""
    runs: int = 0
    seed: int = 0
    compile: bool = False
    density: str = ""
    threads: int = 1
    spread: float = SPREAD

    @property
    def usual(self) -> Usual:
        if self.on not in USUAL:
            raise unknown("`on`", self.on, USUAL)
        return USUAL[self.on]

    def measured(self, situation: str, out: Path, progress: ProgressLine) -> pd.DataFrame:
        """Result rows; the record in `out` grows. Raises UserError, before anything is timed where it can."""
        if self.shapes and self.tokens:
            raise UserError("`tokens` are of a bundle or a `model`; `shapes` have their own, the m of m,n,k")
        return self._on_cpu(situation, out, progress) if self.on == "cpu" else self._on_gpu(situation, out, progress)

    def replayed(self, record: str | Path, situation: str) -> pd.DataFrame:
        """What a record, a file or one that ships, has of it: every layer, and where one was not measured what is
        nearest; without bundle, model and shapes all of the record. Raises UserError."""
        if self.bundle is None and self.model is None and not self.shapes:
            if self.tokens or self.pattern:
                raise UserError("`tokens` and `pattern` are of a bundle, `model` or `shapes`; give one of them too")
            return glue.replay(record, situation, self.dtype)
        job = glue.open_job(self.bundle, self.model, self.shapes, self.pattern or ANY, self.tokens or "1", [1.0])
        layers = job.layers_with_tokens()
        if not self.tokens and not self.shapes:
            layers = [(layer, ()) for layer, _ in layers]  # those of the record
        return glue.replay_for(record, situation, layers, self.dtype)

    def _on_gpu(self, situation: str, out: Path, progress: ProgressLine) -> pd.DataFrame:
        usual = self.usual
        if self.density or self.threads != 1 or self.spread != SPREAD:
            raise UserError("`density`, `threads` and `spread` are of a CPU; leave them out, or give `on` cpu")
        from measurement.environment import check_gpu
        from measurement.kernels import find_kernels
        from measurement.measure import Procedure

        procedure = Procedure(self.dtype or usual.dtype, self.runs or usual.runs, self.compile, self.seed)
        kernels = find_kernels(glue.names_in(self.kernels or usual.kernels))
        check_gpu()
        job = glue.open_job(
            self.bundle, self.model, self.shapes, self.pattern or usual.pattern, self.tokens or usual.tokens
        )
        return glue.measured(job, kernels, procedure, situation, out, progress)

    def _on_cpu(self, situation: str, out: Path, progress: ProgressLine) -> pd.DataFrame:
        usual = self.usual
        if self.compile:
            raise UserError("`compile` is of a GPU; leave it out on a CPU")
        if self.pattern:
            raise UserError(
                "`pattern`: on a CPU every kernel runs the kind of mask that it is for; choose `kernels` and `density`"
            )
        if self.density and self.bundle is not None:
            raise UserError("`density`: a bundle has its own; leave it out")
        from measurement.cpu.kernels import find_kernels
        from measurement.cpu.measure import CpuProcedure

        procedure = CpuProcedure(
            self.dtype or usual.dtype, self.runs or usual.runs, self.threads, self.spread, self.seed
        )
        names = glue.names_in(self.kernels or usual.kernels)
        usual.check_kernels(names)
        kernels = find_kernels(names)
        densities = shares(self.density or DENSITY, "`density`")
        job = glue.open_job(self.bundle, self.model, self.shapes, usual.pattern, self.tokens or usual.tokens, densities)
        return glue.measured_on_cpu(job, kernels, procedure, situation, out, progress)


def shares(text: str, setting: str) -> list[float]:
    """ "0.5,0.1" -> [0.5, 0.1]. Raises UserError for anything but shares of 0.01 to 1."""
    try:
        found = [round(float(part), 2) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0.01 <= share <= 1 for share in found):
        raise UserError(
            f"{setting} {text!r}: shares of kept weights from 0.01 to 1 separated by commas, such as 0.5,0.1"
        )
    return list(dict.fromkeys(found))
