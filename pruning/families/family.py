"""What a kind of model is to the tool: how one is opened, its units in order, how each is fed, what is coupled in it,
what a sample is, and how good it is."""

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from checkpoints.opened import OpenModel
from pruning.config import CalibrationConfig, EvaluationConfig
from pruning.data.calibration import Calibration
from pruning.forward.hidden_states import Progress
from pruning.forward.walk import Walk
from pruning.structured.layouts import Groups
from workloads.bundle import MaskBundle
from workloads.errors import unwritten

Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Quality:
    """One number of a model: `metric` with its unit, whether less or more of it is better, the samples it is of.
    `facts`: further columns of its row."""

    metric: str
    value: float
    better: Better
    samples: int
    facts: dict[str, Any] = field(default_factory=dict)


class ModelFamily:
    """`name` is what a user gives, alone or as NAME:VARIANT (of networks NAME:VARIANT/N); "" for that of folders and
    hub ids. Units and their matrices are those of the opened model (`blocks`, `found_refs`)."""

    name: ClassVar[str] = ""

    @classmethod
    def documentation(cls) -> str:
        return (cls.__doc__ or "").strip()

    def check(self) -> None:
        """Raises UserError for a function that a class of one's own must have and has not."""

    def open(self, model: str, dtype: torch.dtype, device: str) -> OpenModel:
        """Raises UserError for a model that is not there or cannot be read."""
        raise unwritten(self, "open")

    def walk(self, model: OpenModel) -> Walk:
        """How each unit is fed. Raises UserError for a model that cannot be run unit by unit."""
        raise unwritten(self, "walk")

    def described(self, model: OpenModel) -> dict[str, Any]:
        """What a bundle records of the model, what its matrices do in a sample with it (workloads/uses.py)."""
        raise unwritten(self, "described")

    def covered(self, model: OpenModel) -> str:
        """One line: how many of its matrices are pruned, and what becomes of the others."""
        raise unwritten(self, "covered")

    def left_dense(self, model: OpenModel) -> str:
        """One line that warns of matrices which no method sees; "" where there is nothing to warn of."""
        return ""

    def calibration(self, model: OpenModel, data: CalibrationConfig, seed: int) -> Calibration | None:
        """Samples to prune with; None where the data has to be given and is not."""
        raise unwritten(self, "calibration")

    def check_data(self, model: OpenModel, data: Any, what: str) -> None:
        """Raises UserError for data that the model does not read."""

    def probe(self, model: OpenModel) -> Any:
        """A small batch to try units out with."""
        raise unwritten(self, "probe")

    def couplings(self, model: Walk, kinds: frozenset[str], states: torch.Tensor) -> Groups:
        """Which rows and columns go together where something is taken out. `states` enter unit 0."""
        raise unwritten(self, "couplings")

    def quality(
        self, model: OpenModel, masks: MaskBundle | None, asked: EvaluationConfig, progress: Progress
    ) -> Quality:
        """How good the model is, with masks if given."""
        raise unwritten(self, "quality")

    def files(self, model: str) -> list[Path]:
        """Whose content decides what the model is: the file that the class is written in, and those of weights."""
        return [Path(inspect.getfile(type(self)))]
