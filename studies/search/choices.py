"""A choice of pruning: values of [search.pruning] as one run of an entry of [[methods]]."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pruning.config import PruneConfig
from studies.entries import check_method
from studies.method_entry import NOT_PRUNED, MethodEntry, StudyMethod
from studies.search.parameters import Between, Parameter
from workloads.arguments import shown
from workloads.errors import UserError, unknown
from workloads.files import canonical_json

TARGET = "target"  # sparsity or pattern, as in `targets` of [[methods]]
NOT_HERE = ("after", "set", "plan", "multiple_of")
KEYS = (*(each.name for each in fields(PruneConfig) if each.name not in NOT_HERE), TARGET)
SET = "set."
OF_BITS = ("group_size", "quantizer")


@dataclass(frozen=True, eq=False)
class Choice:
    """`method` None: it cannot be, for a `reason`."""

    method: StudyMethod | None
    reason: str = ""


class PruningChoices:
    """The choice that values stand for: one object for all values that mean the same."""

    def __init__(self, beside: Path):
        self.beside = beside
        self._known: dict[str, Choice] = {}
        self._same: dict[str, Choice] = {}

    def of(self, values: Mapping[str, Any]) -> Choice:
        key = canonical_json(values)
        if key not in self._known:
            choice = self._made(values)
            method = choice.method
            same = canonical_json({**vars(method)}) if method is not None else f"{key} cannot be"
            self._known[key] = self._same.setdefault(same, choice)
        return self._known[key]

    def _made(self, values: Mapping[str, Any]) -> Choice:
        try:
            [method] = _entry(values).runs(self.beside)
            check_method(method)
        except UserError as error:
            return Choice(None, str(error))
        return Choice(method)


def _entry(values: Mapping[str, Any]) -> MethodEntry:
    """Held to the types of [[methods]]. Raises UserError."""
    entry = entry_of(values)
    try:
        return TypeAdapter(MethodEntry).validate_json(json.dumps(entry), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{first['loc'][0]} = {shown(first['input'])}: {first['msg']}") from None


def entry_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of an entry; what has no meaning beside the others is left out: a sparsity beside N:M, both of a method
    that prunes nothing, groups and quantizers without bits."""
    entry = {key: value for key, value in values.items() if not key.startswith(SET) and key != TARGET}
    target = values.get(TARGET)
    if isinstance(target, str):
        entry["pattern"] = target
    elif target is not None:
        entry["sparsity"] = target
    if ":" in str(entry.get("pattern", "")):
        entry.pop("sparsity", None)
    if entry.get("method") == NOT_PRUNED:
        entry.pop("sparsity", None)
        entry.pop("pattern", None)
    if "sparsity" in entry:
        entry["sparsity"] = _share(TARGET if target is not None else "sparsity", entry["sparsity"])
    if entry.get("bits") == 0:
        entry["bits"] = None
    if entry.get("bits") is None:
        entry = {key: value for key, value in entry.items() if key not in OF_BITS}
    sets = {key.removeprefix(SET): value for key, value in values.items() if key.startswith(SET)}
    return {**entry, "set": sets} if sets else entry


def _share(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f'{key} = {shown(value)}: expected a number such as 0.5, a list of numbers or "0.3:0.9:0.1"')
    return float(value)


def check_keys(parameters: Sequence[Parameter]) -> None:
    """Raises UserError for what is no key of pruning, and for what has no number of values."""
    for parameter in parameters:
        key = parameter.key
        if key not in KEYS and not key.startswith(SET):
            raise UserError(f"[search.pruning] {unknown('key', key, [*KEYS, 'set.KEY'])}")
        if isinstance(parameter, Between):
            raise UserError(
                f"[search.pruning] {key}: masks are made once for every value, so give a list of values or a "
                "range with a step"
            )
    keys = [parameter.key for parameter in parameters]
    if TARGET in keys and (other := next((key for key in ("sparsity", "pattern") if key in keys), None)):
        raise UserError(f"[search.pruning] gives both {TARGET} and {other}; leave one out")
    if "method" not in keys:
        raise UserError("[search.pruning] method is missing; name one or more (prunesim ls methods)")
