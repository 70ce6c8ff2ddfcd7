"""The table of pruning methods: one line each."""

from collections.abc import Sequence

from pruning.methods import gblm, magnitude, none, sparsegpt, wanda
from pruning.methods.besa import besa
from pruning.methods.method import Method
from workloads.errors import UserError, unknown

METHODS = {
    method.name: method
    for method in (magnitude.METHOD, wanda.METHOD, gblm.METHOD, sparsegpt.METHOD, besa.METHOD, none.METHOD)
}


def find_method(name: str) -> Method:
    """Raises UserError with the nearest known name for an unknown method."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def choose_rule(method: Method, rule: str | None) -> str:
    """The rule asked for, or the method's default. Raises UserError for one it cannot use."""
    chosen = rule or method.rules[0]
    if chosen not in method.rules:
        raise UserError(f"{method.name} cannot use the rule {chosen!r}; it has: {', '.join(method.rules)}")
    return chosen


__all__: Sequence[str] = ["METHODS", "Method", "choose_rule", "find_method"]
