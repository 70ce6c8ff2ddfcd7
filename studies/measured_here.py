"""What a study measures as it runs: the linears of its models on this machine's CPU.

The record stays in the study's folder, one for each machine and PyTorch, so that a study that runs again measures only
what it has not, and what was noisy. Noise fails nothing: such rows are not feasible and say so."""

import re
import sys
from pathlib import Path

import pandas as pd

from measurement.noise import NOISY
from studies.measure import names_in
from studies.measuring import USUAL, Wanted, shares
from studies.progress import ProgressLine
from studies.study import Study, StudyRecord
from workloads.errors import UserError

FOLDER = "measured"


def check_measured(study: Study, asked: StudyRecord) -> None:
    """Raises UserError, which names the study file, for what cannot be asked; nothing is measured."""
    try:
        USUAL[asked.on].check_kernels(names_in(asked.kernels))
        if asked.density:
            shares(asked.density, "`density`")
        if asked.dtype not in ("", "fp32", "bf16"):
            raise UserError(f"`dtype` {asked.dtype!r}: fp32 or bf16 on a CPU")
    except UserError as error:
        raise UserError(f"{study.path}: [[measured]] on = {asked.on!r}: {error}") from None


def measured_here(study: Study, asked: StudyRecord, out: Path, progress: ProgressLine) -> pd.DataFrame:
    """Result rows of the models. Raises UserError where PyTorch is not there."""
    frames = []
    for model in (each for each in study.models if each.name in asked.models):
        wanted = Wanted(
            model=study.place_of(model), on=asked.on, kernels=asked.kernels, dtype=asked.dtype, density=asked.density,
            tokens=",".join(map(str, asked.tokens)),
        )  # fmt: skip
        frame = wanted.measured(asked.l2, out / FOLDER / f"{_machine()}-{model.name}", progress)
        frames.append(frame.assign(model=model.name))
    if not frames:
        raise UserError(f"{study.path}: [[measured]] on = {asked.on!r}: none of its models is there")
    rows = pd.concat(frames, ignore_index=True)
    if noisy := int(rows["reason"].str.startswith(NOISY).sum()):
        sys.stderr.write(
            f"noisy: {noisy} of {len(rows)} measured rows, shown as such; run the study again on an idle machine\n"
        )
    return rows


def _machine() -> str:
    """Of the CPU and PyTorch, fit for a folder's name."""
    import torch

    from measurement.cpu.host import cpu_name

    return re.sub(r"[^a-z0-9.]+", "-", f"{cpu_name()} torch {torch.__version__}".lower()).strip("-")
