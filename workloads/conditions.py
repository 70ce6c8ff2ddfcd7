"""What every operation of a run meets: how many tokens pass together, how many of them are zeros, who sends them to
which expert."""

from dataclasses import dataclass
from numbers import Integral, Real

from workloads.errors import UserError
from workloads.routing import UNIFORM, Routing

MOST_TOKENS = 10**9  # cycles of the largest layers still fit 64-bit integers


@dataclass(frozen=True)
class Conditions:
    """Raises UserError for tokens or a density out of range."""

    tokens: int
    activation_density: float = 1.0
    routing: Routing = UNIFORM

    def __post_init__(self) -> None:
        if not isinstance(self.tokens, Integral):
            raise UserError(f"tokens is a whole number, not {self.tokens!r}")
        if not isinstance(self.activation_density, Real):
            raise UserError(f"the activation density is a number, not {self.activation_density!r}")
        if not 1 <= self.tokens <= MOST_TOKENS:
            raise UserError(f"tokens must be 1 to {MOST_TOKENS:,}, not {self.tokens:,}")
        if not 0 < self.activation_density <= 1:
            raise UserError(f"the activation density is a fraction in (0, 1], not {self.activation_density}")
