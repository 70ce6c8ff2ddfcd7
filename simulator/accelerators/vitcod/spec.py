"""What a ViTCoD machine at level "cycle" is described by."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from simulator.machine.parts import Array, Fraction, Machine


@dataclass(frozen=True)
class Engines:
    dense_thresholds: Annotated[tuple[Fraction, ...], Field(min_length=1)]
    metadata: Literal["bitmap", "coordinate"]


@dataclass(frozen=True)
class VitcodSpec(Machine):
    array: Array
    engines: Engines

    @property
    def macs(self) -> int:
        return self.array.width * self.array.height

    @property
    def rows_in_step(self) -> int:
        """A lane each; the sparser engine's lanes wait for each other at the end of a tile."""
        return self.array.width
