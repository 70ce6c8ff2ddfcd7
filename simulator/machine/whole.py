"""What a machine has beside its array, for whole models: a vector unit, memory that can be full, links to other chips.

No layer depends on these, so the hash of a layer's row leaves them out (machine/spec.py)."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

Lanes = Annotated[int, Field(ge=0, le=1_000_000)]
NotNegative = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Positive = Annotated[float, Field(ge=1e-3, le=1e9, allow_inf_nan=False)]
MACS_PER_LANE = 32


@dataclass(frozen=True)
class Vector:
    """What computes norms, softmax, activations and additions: `lanes` operations a cycle at `mhz`.

    lanes 0: one for 32 MAC units, which is TPU v4's proportion: of two cores, each with four arrays of 128 x 128 and
    128 lanes of 16 units (Jouppi et al., arXiv 2304.01433, section 2). mhz 0: the array's clock."""

    lanes: Lanes = 0
    mhz: NotNegative = 0.0


@dataclass(frozen=True)
class Memory:
    """capacity_gib: of the DRAM, 0: not stated."""

    capacity_gib: NotNegative = 0.0


@dataclass(frozen=True)
class Link:
    """Between chips that share a model, in a ring: what one sends to the next, GB = 1e9 bytes, and the time before a
    message's first byte is there. Both are ours."""

    bandwidth_gbps: Positive = 100.0
    latency_us: NotNegative = 1.0
