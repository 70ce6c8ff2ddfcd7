"""The table [search] of a study file."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from studies.method_entry import Several

ENUMERATE = "enumerate"
SAMPLED = ("tpe", "nsga2", "qmc", "random")
MOST_UNNAMED = 10_000  # designs that are enumerated where no sampler is named
MOST_ENUMERATED = 100_000
MOST_TRIALS = 100_000
MOST_BATCH = 1_024


@dataclass(frozen=True)
class StudySearch:
    """`on`: what designs start from, with `set`. `machine` and `pruning`: keys with their values
    (studies/search/parameters.py). `tokens`: of one pass, or {tokens: passes}, whose times are added up. `objectives`
    are minimised, `constraints` are "FIGURE <= NUMBER" (studies/search/figures.py). `sampler` "": enumerate. `batch`:
    designs that a sampler chooses at a time; `population`: of a generation of nsga2. `model`: its name, needed where
    there are several."""

    on: str
    objectives: Several[str]
    machine: dict[str, Any] = field(default_factory=dict)
    pruning: dict[str, Any] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    model: str = ""
    tokens: int | dict[str, int] = 1
    activation_density: Annotated[float, Field(gt=0, le=1)] = 1.0
    set: dict[str, Any] = field(default_factory=dict)
    dtype: str = ""
    sampler: Literal["", "enumerate", "tpe", "nsga2", "qmc", "random"] = ""
    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    batch: Annotated[int, Field(ge=1, le=MOST_BATCH)] = 1
    population: Annotated[int, Field(ge=2, le=10_000)] = 50

    @property
    def passes(self) -> tuple[tuple[int, int], ...]:
        """(tokens, how often) of every pass."""
        if isinstance(self.tokens, int):
            return ((self.tokens, 1),)
        return tuple((int(tokens), times) for tokens, times in self.tokens.items())

    @property
    def passes_text(self) -> str:
        said = [f"{tokens:,} {'token' if tokens == 1 else 'tokens'}{f', {n:,} times' if n > 1 else ''}"
                for tokens, n in self.passes]  # fmt: skip
        return "; ".join(said)
