"""A GPU in the few numbers its matrix products depend on: data sheet, fitted efficiencies, stated error."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field

from simulator.gpu.operator_parameters import Operators, unmeasured
from simulator.machine.parts import Fraction, PositiveFloat, PositiveInt
from workloads.errors import UserError

GPUS = ("a100-pcie", "a100-sxm", "h100-pcie", "h100-sxm", "h200", "b200", "rtx-4090")
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Sides = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
Shares = tuple[NonNegative, ...]
Range = tuple[PositiveFloat, PositiveFloat]
ERROR_CURVES = tuple(f"{what}_{share}" for what in ("dense", "sparse24", "speedup") for share in ("median", "p90"))


@dataclass(frozen=True)
class Chip:
    """Data sheet: streaming multiprocessors and the clock a short kernel reaches."""

    sms: PositiveInt
    clock_mhz: PositiveFloat


@dataclass(frozen=True)
class Memory:
    """Data sheet; GB = 1e9 bytes. l2_warm: the data of the same GEMM, run just before, may still be in the L2, as in
    any back-to-back benchmark; false: every first read comes from DRAM, as when a model's layers follow each other.
    capacity_gib: as the driver reports it."""

    bandwidth_gbps: PositiveFloat
    l2_mib: PositiveFloat
    l2_warm: bool
    capacity_gib: PositiveFloat


@dataclass(frozen=True)
class Power:
    """Board limit (data sheet), what the idle card takes and the DRAM's energy (both assumed)."""

    limit_w: PositiveFloat
    static_w: NonNegative
    dram_pj_per_byte: NonNegative


@dataclass(frozen=True)
class Tiles:
    """Sides of the output tiles that the library's kernels have, in tokens and out_features; at most max_outputs."""

    dense_tokens: Sides
    dense_features: Sides
    sparse24_tokens: Sides
    sparse24_features: Sides
    max_outputs: PositiveInt


@dataclass(frozen=True)
class KernelFamily:
    """Fitted, one for dense and one for 2:4 kernels of a precision; both have the same l2_usable and response_us."""

    launch_us: PositiveFloat  # floor: an empty kernel, back to back
    efficiency: Fraction  # share of the peak MAC rate that the main loop of a large tile reaches
    small_tile: Fraction  # exponent: how that share falls with the outputs of a tile below 128 x 128
    pj_per_flop: PositiveFloat  # energy at the full clock; FLOPs count the dense product
    raster_tiles: Annotated[float, Field(ge=1)]  # token tiles that walk over the features together
    step_cycles: NonNegative  # latency of one 128-byte step along k
    fill_cycles: NonNegative  # start and end of a tile: first loads, drain
    reduce_us: NonNegative  # adding up the parts of a split k: the second kernel
    memory_efficiency: Fraction  # share of the DRAM bandwidth that streams reach
    l2_bytes_per_cycle: PositiveFloat  # from the L2 into one SM
    l2_usable: PositiveFloat  # share of the L2 that holds data of one GEMM before lines are lost
    # The power regulator's delay: shorter kernels run nearer to the full clock, as in a burst of some 75 launches; 0 is
    # the steady state of a card that has been busy for long.
    response_us: NonNegative


@dataclass(frozen=True)
class Error:
    """How far predictions of points outside the fit are off: |ln(predicted / measured)|, median and 90th percentile, at
    `tokens` (cross-validated; for a card without data: assumed); and what an octave outside the data adds to either."""

    tokens: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    dense_median: Shares
    dense_p90: Shares
    sparse24_median: Shares
    sparse24_p90: Shares
    speedup_median: Shares
    speedup_p90: Shares
    dense_octave: NonNegative
    sparse24_octave: NonNegative
    speedup_octave: NonNegative
    basis: str

    def __post_init__(self) -> None:
        for name in ERROR_CURVES:
            if len(getattr(self, name)) != len(self.tokens):
                raise UserError(
                    f"error.{name} has {len(getattr(self, name))} values for {len(self.tokens)} token counts"
                )
        if list(self.tokens) != sorted(set(self.tokens)):
            raise UserError(f"error.tokens = {list(self.tokens)} must grow")


@dataclass(frozen=True)
class Coverage:
    """Lowest and highest value of each quantity in the data that a preset was fitted on; `card` is what was measured,
    "" where the card itself was not, so that every prediction is extrapolated."""

    card: str
    tokens: Range
    features: Range
    inputs: Range
    features_per_input: Range
    tokens_per_feature: Range
    tokens_per_input: Range

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "card" and value[0] > value[1]:
                raise UserError(f"coverage.{name} = {list(value)}: the lowest value comes first")


@dataclass(frozen=True)
class Precision:
    """A number format: MACs of one SM in a cycle (data sheet, dense; 2:4 doubles them), bytes of values."""

    macs_per_cycle: PositiveInt
    input_bytes: PositiveInt
    output_bytes: PositiveInt
    dense: KernelFamily
    sparse24: KernelFamily
    error: Error


@dataclass(frozen=True)
class GpuSpec:
    """Everything `predict` needs; bf16 uses the fp16 section (same rate, same bytes). A format left out is
    unsupported, as are operators."""

    chip: Chip
    memory: Memory
    power: Power
    tiles: Tiles
    coverage: Coverage
    fp16: Precision
    int8: Precision | None = None
    fp8: Precision | None = None
    operators: Operators | None = None

    def __post_init__(self) -> None:
        if self.power.static_w >= self.power.limit_w:
            raise UserError(
                f"power.static_w = {self.power.static_w} leaves nothing of power.limit_w = {self.power.limit_w}"
            )


def cold(spec: GpuSpec) -> GpuSpec:
    """The same card where other layers come between two runs of a kernel, so that nothing of it is left in the L2."""
    return replace(spec, memory=replace(spec.memory, l2_warm=False))


def with_basis(spec: GpuSpec, changed: Sequence[str]) -> GpuSpec:
    """The GPU, its errors saying that what was `changed` in the preset is covered by no data."""
    if not changed:
        return spec
    errors: dict[str, Any] = {}
    for dtype in ("fp16", "int8", "fp8"):
        precision: Precision | None = getattr(spec, dtype)
        if precision is not None:
            basis = f"of the preset, which {', '.join(changed)} changed: no data covers that; {precision.error.basis}"
            errors[dtype] = replace(precision, error=replace(precision.error, basis=basis))
    operators = spec.operators and unmeasured(spec.operators, ", ".join(changed))
    return replace(spec, **errors, operators=operators, coverage=replace(spec.coverage, card=""))
