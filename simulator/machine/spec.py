"""Accelerator descriptions: TOML presets, checked against the model's spec dataclass, with `--set key=value` on top."""

import copy
import dataclasses
import datetime
import json
import re
import tomllib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from workloads.errors import UserError, unknown
from workloads.files import sha256_of
from workloads.parsing import parse_toml

Spec = TypeVar("Spec")
MAX_WHOLE = 1 << 53  # what a float64 still holds exactly


def preset_path(name: str) -> Path:
    return Path(__file__).parents[1] / "presets" / f"{name}.toml"


@lru_cache
def _preset(name: str) -> dict[str, Any]:
    return tomllib.loads(preset_path(name).read_text(encoding="utf-8"))


@lru_cache
def _adapter(spec_type: Any) -> TypeAdapter[Any]:
    return TypeAdapter(spec_type)


def load_spec(name: str, spec_type: type[Spec], overrides: Sequence[str] = ()) -> Spec:
    """The preset `name` as `spec_type`, each "key=value" of `overrides` applied (dotted keys, TOML values).

    Raises UserError naming the key for unknown keys, wrong types and values out of range.
    """
    values = copy.deepcopy(_preset(name))
    known = flat(values)
    for override in overrides:
        key, value = parse_override(override)
        if key not in known:
            raise UserError(f"--set {override}: {unknown(f'key of {name}:', key, known)}")
        section = values
        *parents, last = key.split(".")
        for parent in parents:
            section = section[parent]
        section[last] = value
    try:
        adapter: TypeAdapter[Spec] = _adapter(cast(Any, spec_type))
        return adapter.validate_json(json.dumps(values), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{name}: {key} = {first['input']!r}: {first['msg']}") from None


def parse_override(text: str) -> tuple[str, Any]:
    """ "array.height=16" -> ("array.height", 16). A value that is no TOML value is taken as a string."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip() or not value.strip():
        raise UserError(f"--set {text!r}: expected key=value, such as array.height=16")
    if re.fullmatch(r"[+-]?\.\d+", value.strip()):
        return key.strip(), float(value)  # .5, which TOML wants written 0.5
    if any(letter in text for letter in "\n\r\0"):
        raise UserError(f"--set {text!r}: a value is one line, and has no null bytes")
    try:
        parsed = parse_toml(f"value = {value}")["value"]
    except ValueError as error:
        if not isinstance(error, tomllib.TOMLDecodeError):
            raise UserError(f"--set {text[:60]}: {error}") from None
        return key.strip(), value.strip()
    if isinstance(parsed, int) and abs(parsed) > MAX_WHOLE:
        raise UserError(f"--set {text[:60]}: whole numbers go up to 2^53")
    return key.strip(), value.strip() if holds_dates(parsed) else parsed


def holds_dates(value: Any) -> bool:
    """Whether a TOML value is, or has in it, a date or a time. No setting is one: they are taken as the text they are."""
    if isinstance(value, dict | list):
        return any(holds_dates(item) for item in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, datetime.date | datetime.time)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"array": {"width": 64}} -> {"array.width": 64}."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


def spec_sha256(name: str, spec: Any) -> str:
    return sha256_of({"accelerator": name, "spec": dataclasses.asdict(spec)})
