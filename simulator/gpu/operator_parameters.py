"""What a preset says about the operators of a decoder: the fitted parameters of each kernel, what data they rest on and
how far predictions of points outside the fit were off. The formulas are in simulator/gpu/operators/."""

from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from simulator.machine.parts import Fraction, PositiveFloat, PositiveInt
from workloads.errors import UserError

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
AtLeastOne = Annotated[float, Field(ge=1, le=64, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
REGIMES = ("fixed", "walk", "memory", "compute")


@dataclass(frozen=True)
class Residuals:
    """|ln(predicted / measured)| of points left out of the fit, by what their predicted time is made of: median and
    90th percentile; and what an octave outside the data adds to the latter."""

    regimes: Annotated[tuple[Literal["fixed", "walk", "memory", "compute"], ...], Field(min_length=1)]
    median: tuple[NonNegative, ...]
    p90: tuple[NonNegative, ...]
    octave: NonNegative
    basis: str

    def __post_init__(self) -> None:
        for name in ("median", "p90"):
            if len(getattr(self, name)) != len(self.regimes):
                raise UserError(f"error.{name} has {len(getattr(self, name))} values for {len(self.regimes)} regimes")


@dataclass(frozen=True)
class Data:
    """The card and library that were measured ("" where this card was not, so that all is extrapolated), and the lowest
    and highest value of each quantity."""

    card: str
    ranges: dict[str, tuple[PositiveFloat, PositiveFloat]]


@dataclass(frozen=True)
class Kernel:
    """label: what the data call it. fixed_us: an empty call, launch included."""

    label: str
    fixed_us: PositiveFloat


@dataclass(frozen=True)
class DecodeKernel(Kernel):
    """Attention of one new token a sequence; simulator/gpu/operators/decode.py."""

    split: Literal["waves", "grid"]
    ctas_per_sm: PositiveInt
    block_tokens: PositiveInt
    split_us: NonNegative  # the kernel that merges parts
    merge_us: NonNegative  # and each further part
    token_us: PositiveFloat  # a CTA alone over one token of K and V of 128 values each
    overhead_tokens: NonNegative  # start and end of a CTA
    memory_efficiency: Fraction
    l2_usable: PositiveFloat
    l2_time: Share  # of the DRAM's, where the L2 holds the bytes
    overlap: AtLeastOne
    data: Data
    error: Residuals


@dataclass(frozen=True)
class PrefillKernel(Kernel):
    """Causal attention of many new tokens; simulator/gpu/operators/prefill.py."""

    query_tile: PositiveInt
    overhead_tokens: NonNegative  # masked corners, start and end of a tile, in keys of head_dim 128 for each query
    efficiency: Fraction  # of the peak matrix rate
    softmax_dims: NonNegative  # what the exponential of a pair takes, as so many more values of head_dim
    lone_tile: PositiveFloat  # time of a tile alone, of what an SM's share of the full rate makes it
    overlap: AtLeastOne
    query_passes: NonNegative  # over the bytes of queries and outputs, at full bandwidth, beside the products
    write_passes: NonNegative  # over the bytes of new keys and values: the write into the cache, a kernel of its own
    throttle: NonNegative  # how much longer a kernel takes that is long against the power regulator
    throttle_us: PositiveFloat
    data: Data
    error: Residuals


@dataclass(frozen=True)
class RowKernel(Kernel):
    """Norms, activations and the like; simulator/gpu/operators/elementwise.py."""

    host_us: NonNegative  # of fixed_us: the host's launch, in the measurement as its clock was the host's
    walk_us: NonNegative  # a CTA over 1,000 columns of its row; 0 where elements are spread over all SMs
    memory_efficiency: Fraction
    l2_usable: PositiveFloat
    l2_time: Share
    data: Data
    error: Residuals


@dataclass(frozen=True)
class MoeKernel(Kernel):
    """The FFNs of all experts in one call; simulator/gpu/operators/moe.py."""

    memory_efficiency: Fraction
    large_memory: Share  # of that, with the large tiles that take over above one token an expert
    efficiency: Fraction
    padding_tokens: NonNegative  # of an expert's tile
    overlap: AtLeastOne
    skew: AtLeastOne  # of the products, where routing is a power law: the fullest expert ends last
    data: Data
    error: Residuals


@dataclass(frozen=True)
class AllReduceKernel(Kernel):
    """simulator/gpu/operators/all_reduce.py. fixed_us: two GPUs, no bytes."""

    algorithm: Literal["ring", "one_shot"]
    gpu_us: NonNegative  # each GPU beyond two
    step_us: NonNegative  # between a message of no bytes and one of many steps (8 KiB are half way)
    small_efficiency: Share  # of the link
    two_shot_us: NonNegative  # one_shot only: the second round, where two rounds are shorter
    large_us: PositiveFloat  # in place of fixed_us, for long messages
    large_efficiency: Share
    switch_bytes: PositiveFloat  # where long messages begin
    data: Data
    error: Residuals


@dataclass(frozen=True)
class LinearKernel(Kernel):
    """A GEMM as a framework runs it, by the tile model (simulator/gpu/kernel_times.py): the names are those of a kernel
    family in spec.py."""

    efficiency: Fraction
    small_tile: Fraction
    pj_per_flop: PositiveFloat
    raster_tiles: AtLeastOne
    step_cycles: NonNegative
    fill_cycles: NonNegative
    reduce_us: NonNegative
    memory_efficiency: Fraction
    l2_bytes_per_cycle: PositiveFloat
    l2_usable: PositiveFloat
    response_us: NonNegative
    data: Data
    error: Residuals


@dataclass(frozen=True)
class SpmvKernel(Kernel):
    """One token through a masked linear, fp16; simulator/gpu/operators/spmv.py."""

    storage: Literal["macko", "csr", "dense"]
    memory_efficiency: Fraction
    flush_us: NonNegative  # at most, where the L2 is full of others' writes, as in the measurement
    row_values: NonNegative  # kept weights of a row at which it takes twice as long; 0: at none
    row_exponent: NonNegative
    data: Data
    error: Residuals


@dataclass(frozen=True)
class WeightOnly:
    """Linears with integer weights and 16-bit inputs: memory_efficiency as a share of the 16-bit kernel's, by bits; the
    matrix rate as a share of the 16-bit kernel's where the products bind (assumed)."""

    int8_memory: Share
    int4_memory: Share
    compute: Share
    error_p90: NonNegative
    basis: str


@dataclass(frozen=True)
class Links:
    """NVLink, data sheet: GB/s a GPU sends and, at the same time, receives; how many GPUs it joins."""

    gbps: PositiveFloat
    gpus: PositiveInt


@dataclass(frozen=True)
class Operators:
    """Kernels by name; the first of each is the one that is meant where none is named."""

    weight_only: WeightOnly
    links: Links | None = None
    prefill: dict[str, PrefillKernel] = field(default_factory=dict)
    decode: dict[str, DecodeKernel] = field(default_factory=dict)
    elementwise: dict[str, RowKernel] = field(default_factory=dict)
    moe: dict[str, MoeKernel] = field(default_factory=dict)
    linear: dict[str, LinearKernel] = field(default_factory=dict)
    all_reduce: dict[str, AllReduceKernel] = field(default_factory=dict)
    spmv: dict[str, SpmvKernel] = field(default_factory=dict)


Fitted = TypeVar("Fitted", bound=Kernel)
KINDS = ("prefill", "decode", "elementwise", "moe", "linear", "all_reduce", "spmv")


def unmeasured(operators: Operators, changed: str) -> Operators:
    """The same, covered by no data, as a key of the preset was changed."""
    kinds: dict[str, Any] = {
        kind: {name: _unmeasured(kernel, changed) for name, kernel in getattr(operators, kind).items()}
        for kind in KINDS
    }
    return replace(operators, **kinds)


def _unmeasured(kernel: Any, changed: str) -> Any:
    error = replace(kernel.error, basis=f"of the preset, which {changed} changed: no data covers that; "
                    f"{kernel.error.basis}")  # fmt: skip
    return replace(kernel, data=replace(kernel.data, card=""), error=error)


def parameters_of(kernel: type[Kernel]) -> tuple[str, ...]:
    """Its numbers: all fields but the words, the data and the error."""
    return tuple(field.name for field in fields(kernel) if field.name not in ("label", "data", "error"))
