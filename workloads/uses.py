"""What one sample asks of a matrix: of a language model a sample is a token, which passes through every layer once; a
convolution multiplies a window at every position, a recurrent layer waits for its own last step.

A bundle of another network holds it in its header, `model_config["uses"]`, by the names of its layers.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from workloads.errors import UserError

USES = "uses"


@dataclass(frozen=True)
class Use:
    """`runs` of a sample that wait for each other, with `tokens` each; samples run side by side, so a batch has
    batch x tokens in each run. `lowered`: what the linear stands for, "" where it is one; `distinct`: the share of its
    inputs that are distinct elements, below 1 where windows overlap or reach into padding.

    Raises UserError for numbers that cannot be."""

    tokens: int = 1
    runs: int = 1
    lowered: str = ""
    distinct: float = 1.0

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.runs < 1 or not 0 < self.distinct <= 1:
            raise UserError(
                f"a use has 1 token and run at least and a share of distinct inputs in (0, 1], not {self.tokens}, "
                f"{self.runs}, {self.distinct}"
            )

    def words(self, mapping: str, halo_reuse: bool = False) -> str:
        """How a target runs the layer, with what it stands for in front."""
        lowered = f"{self.lowered}, shared inputs fetched once" if halo_reuse and self.distinct < 1 else self.lowered
        waits = f"{self.runs:,} runs one after the other" if self.runs > 1 else ""
        return "; ".join(part for part in (lowered, waits, mapping) if part)

    def plain(self) -> dict[str, Any]:
        return asdict(self)


ONCE = Use()


def uses_of(model_config: Mapping[str, Any]) -> dict[str, Use]:
    """By the names of layers, from a bundle's header; {} of a language model. Raises UserError for a damaged one."""
    found = model_config.get(USES)
    if found is None:
        return {}
    try:
        return TypeAdapter(dict[str, Use]).validate_python(found, strict=False)
    except (ValidationError, UserError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UserError(f"the bundle's model_config.{USES} cannot be read: {first}; make the bundle again") from None
