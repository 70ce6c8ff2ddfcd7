"""What every operation of a run meets: how many tokens pass together, how many of them are zeros, who sends them to
which expert, how often the inputs that windows share are fetched."""

from dataclasses import dataclass
from numbers import Integral, Real

from workloads.bundle import BundleHeader
from workloads.errors import UserError
from workloads.routing import UNIFORM, Routing

HALO_REUSE = "halo_reuse=true"
MOST_TOKENS = 10**9  # cycles of the largest layers still fit 64-bit integers


@dataclass(frozen=True)
class Conditions:
    """`halo_reuse`: what several windows of a convolution share comes from DRAM once, not once for each of them. Raises
    UserError for tokens or a density out of range."""

    tokens: int
    activation_density: float = 1.0
    routing: Routing = UNIFORM
    halo_reuse: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.tokens, Integral):
            raise UserError(f"tokens is a whole number, not {self.tokens!r}")
        if not isinstance(self.activation_density, Real):
            raise UserError(f"the activation density is a number, not {self.activation_density!r}")
        if not 1 <= self.tokens <= MOST_TOKENS:
            raise UserError(f"tokens must be 1 to {MOST_TOKENS:,}, not {self.tokens:,}")
        if not 0 < self.activation_density <= 1:
            raise UserError(f"the activation density is a fraction in (0, 1], not {self.activation_density}")

    def settings(self, header: BundleHeader) -> str:
        """What of it rows name among their settings; nothing of what is the default."""
        return f"{self.routing.settings(header)} {HALO_REUSE if self.halo_reuse else ''}".strip()
