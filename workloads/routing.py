"""How many tokens an expert gets, by an assumption on what the router does.

    uniform    every token visits k of E experts, each choice alike and independent of other tokens: an expert is hit by
               1 - (1 - k/E)^T of the steps of T tokens, E times that many experts are hit, and a hit one has T k / (E
               hit) tokens
    balanced   as few collisions as can be: min(E, k T) experts are hit, with k T tokens spread over them evenly
    counts     tokens seen by each expert, as measured: exactly those where they add up to k T, else their shares take
               the place of 1 / E in the first line

A layer's time is an expectation: `executions`, the probability of being hit, times the time with the tokens it then
has. Between two whole numbers of tokens times are interpolated."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from workloads.bundle import BundleHeader
from workloads.errors import UserError
from workloads.experts import ROUTINGS, Experts, binomial, expert_of, experts_of, hit_experts, of_counts
from workloads.files import canonical_json, sha256_of
from workloads.operations import Linear, Operation
from workloads.uses import ONCE

NEAR = 1e-6  # tokens that near a whole number, in share, are that number
UNKNOWN = "not known: all tokens to every expert"


@dataclass(frozen=True)
class Load:
    """What a layer gets of a step: it runs `executions` times on average (experts 0..1), with `tokens` each time.
    `rounding` is what is added to expected cycles and bytes before they are cut to whole numbers: spread over the
    experts of a block, so that these sum right."""

    tokens: float
    executions: float = 1.0
    rounding: float = 0.5
    assumed: str = ""

    @property
    def parts(self) -> list[tuple[int, float]]:
        """(whole tokens, weight) of the runs that this is an expectation of; weights sum to `executions`."""
        near = round(self.tokens)
        if abs(self.tokens - near) <= NEAR * self.tokens:
            return [(max(near, 1), self.executions)]
        low = math.floor(self.tokens)
        above = self.tokens - low
        return [(low, self.executions * (1 - above)), (low + 1, self.executions * above)]


@dataclass(frozen=True)
class Routing:
    """`counts`: of each block, or of all under "": tokens by expert."""

    kind: str = "uniform"
    counts: Mapping[str, Sequence[float]] = field(default_factory=dict, hash=False)

    @property
    def assumed(self) -> str:
        """Of experts without counts: uniform or balanced."""
        return self.kind if self.kind in ROUTINGS else ROUTINGS[0]

    @property
    def text(self) -> str:
        return f"counts:{sha256_of(self.counts)[:8]}" if self.counts else self.kind

    def settings(self, header: BundleHeader) -> str:
        """As rows name it; nothing where it is the default, or the model has no experts."""
        return f"routing={self.text}" if self.kind != "uniform" and has_experts(header) else ""

    def load(self, header: BundleHeader, operation: Operation, tokens: int) -> Load:
        """Of `tokens`, or of as many samples of a network. Raises UserError for counts that cannot be."""
        if isinstance(operation, Linear) and operation.use != ONCE:
            return Load(tokens * operation.use.tokens, operation.use.runs)
        number = expert_of(operation.name)
        if number is None:
            return Load(tokens)
        experts = _experts(canonical_json(header.model_config), operation.block)
        if experts is None:
            return Load(tokens, assumed=UNKNOWN)
        hit, each = self._hit(experts, number, operation.block, tokens)
        rounding = (number % experts.count + 0.5) / experts.count
        return Load(each, hit, rounding, f"{self.text}, {experts.text}")

    def _hit(self, experts: Experts, number: int, block: int, tokens: int) -> tuple[float, float]:
        """(probability of being hit, tokens if hit)."""
        visits = experts.per_token * tokens
        if self.kind == "balanced":
            distinct = hit_experts(experts, tokens, self.kind)
            return distinct / experts.count, visits / distinct
        if not self.counts:
            return binomial(experts.per_token / experts.count, tokens)
        return of_counts(self.of_block(block, experts), number, experts, tokens)

    def of_block(self, block: int, experts: Experts) -> Sequence[float]:
        """Raises UserError where there are none, or not as many as experts."""
        found = self.counts.get(str(block), self.counts.get(""))
        if found is None:
            raise UserError(f"`routing`: no counts for block {block}; there are some for {', '.join(self.counts)}")
        if len(found) != experts.count:
            raise UserError(f"`routing`: {len(found)} counts for block {block}, which has {experts.count} experts")
        return found


UNIFORM = Routing()


def has_experts(header: BundleHeader) -> bool:
    """Whether the config that the masks were made for says how many experts see a token."""
    return _experts(canonical_json(header.model_config), 0) is not None


@lru_cache(maxsize=4096)
def _experts(config: str, block: int) -> Experts | None:
    return experts_of(json.loads(config), block)
