"""What a design gives the comparison."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from validation.rtl.groups import Group
from validation.rtl.job import Tile, WalkRun
from validation.rtl.toolchain import RTL, build


class Design(ABC):
    """One array: its SV file and parameters, the model's machine of the same size, and both their answers.

    constants: what the RTL may take longer than the model, by name: cycles and why. most: rows, inputs and tokens of a
    random group; block: rows and inputs of the groups that a real layer is cut into.
    """

    name: str
    model: str
    sets: tuple[str, ...]
    parameters: Mapping[str, int]
    most: tuple[int, int, int]
    block: tuple[int, int]
    adds_up = False  # whether a layer's blocks take together what the layer does, by the model's rules
    rolled = False  # see toolchain.ROLLED
    constants: ClassVar[Mapping[str, str]] = {}
    events = "from the first edge at which operands enter to the last, both counted"

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(f'{name}={value}' for name, value in self.parameters.items())})"

    @property
    def file(self) -> Path:
        return RTL / f"{self.name}.sv"

    def takes(self, group: Group) -> bool:
        """Whether the array runs it at all; others are left out."""
        return True

    def program(self, waveform: bool = False) -> Path:
        """Built where it is not yet."""
        return build(self.file, self.name, self.parameters, self.rolled, waveform)

    @abstractmethod
    def walk(self, group: Group) -> list[Tile]:
        """The group as tiles, in order."""

    @abstractmethod
    def sums(self, group: Group, run: WalkRun) -> np.ndarray:
        """(tokens, rows)."""

    @abstractmethod
    def cycles(self, run: WalkRun) -> list[int]:
        """Of every tile, or of the whole group alone."""

    @abstractmethod
    def model_cycles(self, group: Group) -> list[int]:
        """As `cycles`, of the model."""

    def left_over(self, group: Group, run: WalkRun) -> list[dict[str, int]]:
        """Named constants that apply, of each of `cycles`."""
        return [{} for _ in self.cycles(run)]

    def macs(self, group: Group) -> int:
        """Multiplications that must be made: every kept weight with every token."""
        return group.mask.nnz * group.tokens
