"""Parts that machine descriptions share, with the ranges their values may have."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]


Side = Annotated[int, Field(gt=0, le=65536)]


@dataclass(frozen=True)
class Array:
    """width columns (lanes) of height processing elements, one MAC a cycle each."""

    width: Side
    height: Side


@dataclass(frozen=True)
class Clock:
    mhz: PositiveFloat


@dataclass(frozen=True)
class Dram:
    """Bandwidth x efficiency; GB = 1e9 bytes."""

    bandwidth_gbps: PositiveFloat
    efficiency: Fraction

    def bytes_per_cycle(self, clock: Clock) -> float:
        return self.bandwidth_gbps * 1e3 * self.efficiency / clock.mhz


@dataclass(frozen=True)
class Number:
    """Bits of stored values and of partial sums."""

    weight_bits: PositiveInt
    activation_bits: PositiveInt
    accumulator_bits: PositiveInt
