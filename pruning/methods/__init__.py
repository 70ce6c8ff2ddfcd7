"""The table of pruning methods: one line each."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from pruning.methods import magnitude, wanda
from workloads.errors import UserError, unknown


@dataclass(frozen=True)
class Method:
    """A score-based method: (parameters, weight, feature_norm) -> scores, and the rules it may be used with."""

    name: str
    needs_activations: bool
    rules: tuple[str, ...]
    parameters_type: type
    score: Callable[[Any, torch.Tensor, torch.Tensor | None], torch.Tensor]
    documentation: str


METHODS = {
    "magnitude": Method("magnitude", magnitude.NEEDS_ACTIVATIONS, magnitude.RULES, magnitude.Parameters, magnitude.score,
                        magnitude.__doc__ or ""),
    "wanda": Method("wanda", wanda.NEEDS_ACTIVATIONS, wanda.RULES, wanda.Parameters, wanda.score, wanda.__doc__ or ""),
}  # fmt: skip


def find_method(name: str) -> Method:
    """Raises UserError with the nearest known name for an unknown method."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def method_parameters(method: Method, values: dict[str, Any]) -> Any:
    """The method's parameters with `values` set. Raises UserError for an unknown key or a value of the wrong type."""
    known = [field.name for field in dataclasses.fields(method.parameters_type)]
    for key in values:
        if key not in known:
            raise UserError(f"{method.name} has no parameter {key!r}; it has: {', '.join(known) or 'none'}")
    try:
        return TypeAdapter(method.parameters_type).validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{method.name}: {first['loc'][0]} = {first['input']!r}: {first['msg']}") from None


def choose_rule(method: Method, rule: str | None) -> str:
    """The rule asked for, or the method's default. Raises UserError for one it cannot use."""
    chosen = rule or method.rules[0]
    if chosen not in method.rules:
        raise UserError(f"{method.name} cannot use the rule {chosen!r}; it has: {', '.join(method.rules)}")
    return chosen


__all__: Sequence[str] = ["METHODS", "Method", "choose_rule", "find_method", "method_parameters"]
