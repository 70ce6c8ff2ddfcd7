"""Mixtures of experts: which matrices are an expert's, how many experts there are, how many a token visits and how many
a step hits."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workloads.errors import UserError

# The families' words for the same two numbers. Shared experts see every token: they are in neither.
COUNT = ("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts", "num_moe_experts")
PER_TOKEN = (
    "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_top_k", "moe_topk", "moe_k",
    "top_k_experts",
)  # fmt: skip
IDLE = "zero_expert_num"  # experts without weights that the router may choose, too (LongCat)
ROUTINGS = ("uniform", "balanced")
ROUNDING = 1e-6  # in share, of counts that were written down with some digits
_NOT_TEXT = ("vision", "audio", "speech")


@dataclass(frozen=True)
class Experts:
    """`per_token` of `count` experts see each token."""

    count: int
    per_token: int

    @property
    def text(self) -> str:
        return f"top {self.per_token} of {self.count}"


def hit_experts(experts: Experts, tokens: int, routing: str) -> float:
    """How many different experts `tokens` tokens visit. uniform: each choice alike and independent of other tokens,
    E (1 - (1 - k/E)^T); balanced: as few collisions as can be, min(E, k T)."""
    if routing == "balanced":
        return min(experts.count, experts.per_token * tokens)
    return experts.count * binomial(experts.per_token / experts.count, tokens)[0]


def binomial(share: float, tokens: int) -> tuple[float, float]:
    """(probability that any of `tokens` comes, mean of those that come if any does), each coming with probability
    `share`."""
    hit = 1.0 if share >= 1 else -math.expm1(tokens * math.log1p(-share))
    return hit, max(tokens * share / hit, 1.0)


def of_counts(counts: Sequence[float], number: int, experts: Experts, tokens: int) -> tuple[float, float]:
    """As `binomial`, of expert `number` by what each was seen to get: exactly that where whole numbers add up to the
    visits of so many tokens, else its share of the visits, each token alike and independent of others. Raises UserError
    for more than one visit a token."""
    whole, own = sum(counts), counts[number]
    if experts.per_token * own > whole * (1 + ROUNDING):
        raise UserError(
            f"`routing`: expert {number} has {own:g} of {whole:g} visits, more than one a token with {experts.text}"
        )
    if whole == experts.per_token * tokens and all(float(each).is_integer() for each in counts):
        return (1.0, float(own)) if own else (0.0, 1.0)
    return binomial(experts.per_token * own / whole, tokens) if own else (0.0, 1.0)


def expert_of(name: str) -> int | None:
    """The number of the expert that a matrix belongs to; None for every other matrix, those of shared experts included.

    "mlp.experts.3.w1", and "experts.down_proj.3" or "input_linear.weight.3" of experts stacked in one parameter.
    """
    parts = name.split(".")
    if any(part.startswith("shared") for part in parts):
        return None
    if "experts" in parts:
        behind = parts[len(parts) - parts[::-1].index("experts") :]
        return next((int(part) for part in behind if part.isdecimal()), None)
    stacked = len(parts) > 2 and parts[-2] == "weight" and parts[-1].isdecimal()
    return int(parts[-1]) if stacked else None


def experts_of(config: Mapping[str, Any], block: int) -> Experts | None:
    """What a model's config says of a decoder block; None where it says nothing, or a single expert."""
    found = next(filter(None, (_read(part, block) for part in _parts(config))), None)
    return found if found is not None and found.count > 1 else None


def _parts(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The config and the configs in it, those of vision and sound left out."""
    yield config
    for name, value in config.items():
        if isinstance(value, Mapping) and not any(word in name for word in _NOT_TEXT):
            yield from _parts(value)


def _read(config: Mapping[str, Any], block: int) -> Experts | None:
    count, per_token = (
        next(filter(None, (_whole(config.get(name), block) for name in names)), None) for names in (COUNT, PER_TOKEN)
    )
    if not count or not per_token:
        return None
    count += _whole(config.get(IDLE), block) or 0
    return Experts(count, min(per_token, count))


def _whole(value: Any, block: int) -> int | None:
    """A number of its own for every block (Hunyuan), or one for all."""
    if isinstance(value, list):
        value = value[block] if 0 <= block < len(value) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
