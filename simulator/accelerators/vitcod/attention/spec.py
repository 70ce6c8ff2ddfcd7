"""What the machine of sparse attention is described by."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from simulator.accelerators.vitcod.attention.paper import Attention
from simulator.machine.parts import Array, Clock, Dram, Objective, PositiveFloat, PositiveInt
from simulator.machine.port import Port, port_of


@dataclass(frozen=True)
class AttentionBuffers:
    query_kib: PositiveFloat
    key_kib: PositiveFloat
    value_kib: PositiveFloat
    index_kib: PositiveFloat
    output_kib: PositiveFloat


@dataclass(frozen=True)
class AttentionNumber:
    activation_bits: PositiveInt
    score_bits: PositiveInt
    accumulator_bits: PositiveInt


@dataclass(frozen=True)
class AttentionEngines:
    metadata: Literal["coordinate", "bitmap"]
    stationary: Literal["best", "queries", "keys"]
    softmax_per_cycle: Annotated[int, Field(gt=0, le=65536)]


@dataclass(frozen=True)
class AttentionMapping:
    """objective: see `search`; bytes over the DRAM port stand for energy."""

    objective: Objective


@dataclass(frozen=True)
class VitcodAttentionSpec:
    array: Array
    clock: Clock
    buffers: AttentionBuffers
    dram: Dram
    attention: Attention
    number: AttentionNumber
    engines: AttentionEngines
    mapping: AttentionMapping

    @property
    def port(self) -> Port:
        return port_of(self.dram, self.clock.mhz)

    @property
    def macs(self) -> int:
        return self.array.width * self.array.height

    def left_heads(self, heads: int) -> int:
        """c: heads the encoder leaves of Q and K; 0 stands for no encoder."""
        ratio = self.attention.encoder_ratio
        return max(1, round(heads * ratio)) if ratio < 1 else 0
