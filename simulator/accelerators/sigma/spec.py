"""What a SIGMA machine is described by."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from simulator.machine.parts import Machine
from workloads.errors import UserError


@dataclass(frozen=True)
class SigmaArray:
    """Raises UserError where the ports do not divide the multipliers."""

    num_ms: Annotated[int, Field(ge=2, le=1 << 24)]
    dn_bw: Annotated[int, Field(ge=1)]
    packing: Literal["rows", "continuous"]

    def __post_init__(self) -> None:
        if self.num_ms % self.dn_bw:
            raise UserError(
                f"array.dn_bw = {self.dn_bw} does not divide array.num_ms = {self.num_ms}; every port feeds the same "
                "number of multipliers"
            )


@dataclass(frozen=True)
class SigmaSpec(Machine):
    array: SigmaArray

    @property
    def macs(self) -> int:
        return self.array.num_ms
