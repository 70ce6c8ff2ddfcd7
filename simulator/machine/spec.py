"""Machine descriptions: a preset, sections given in Python, "key=value" on top; checked against a spec dataclass."""

import dataclasses
import datetime
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from simulator.machine.devices import NamedDram
from workloads.arguments import shown
from workloads.errors import UserError, unknown
from workloads.files import sha256_of
from workloads.parsing import parse_toml

Spec = TypeVar("Spec")
MAX_WHOLE = 1 << 53  # what a float64 still holds exactly
_OF_A_DESIGN = "_of_a_design"  # an attribute of the parts of a spec, which parts that a user makes do not have


def preset_path(name: str) -> Path:
    return Path(__file__).parents[1] / "presets" / f"{name}.toml"


@lru_cache
def _preset(name: str) -> dict[str, Any]:
    return tomllib.loads(preset_path(name).read_text(encoding="utf-8"))


@lru_cache
def _adapter(spec_type: Any) -> TypeAdapter[Any]:
    return TypeAdapter(spec_type)


def preset_values(preset: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """Of a shipped preset by its name, of a TOML file by its path, or the values themselves; a copy. Raises
    UserError."""
    if isinstance(preset, Mapping):
        return _copied(preset)
    if isinstance(preset, str):
        if not preset_path(preset).is_file():
            raise unknown("preset", preset, sorted(path.stem for path in preset_path("").parent.glob("*.toml")))
        return _copied(_preset(preset))
    try:
        return parse_toml(preset.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{preset}: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"{preset}: {error}") from None


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """With sections of its own; what they hold is replaced, never changed."""
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def load_spec(name: str, spec_type: type[Spec], overrides: Sequence[str] = ()) -> Spec:
    """The preset `name` as `spec_type`, each "key=value" of `overrides` applied (dotted keys, TOML values).

    Raises UserError naming the key for unknown keys, wrong types and values out of range.
    """
    return checked(name, spec_type, with_overrides(name, spec_type, preset_values(name), overrides))


def with_sections(name: str, spec_type: Any, values: Mapping[str, Any], sections: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `sections` in place of its own: a part (Array(32, 32)) replaces the whole section, a mapping or a
    named DRAM device only the keys that it has. Raises UserError for a section that `spec_type` lacks."""
    result = _copied(values)
    for key, section in sections.items():
        if key not in (fields := [field.name for field in dataclasses.fields(spec_type)]):
            raise unknown(f"section of {name}:", key, fields)
        given = section.settings if isinstance(section, NamedDram) else section
        if isinstance(given, Mapping) and isinstance(result.get(key, {}), Mapping):
            result[key] = {**result.get(key, {}), **given}
        else:
            result[key] = dataclasses.asdict(given) if dataclasses.is_dataclass(given) else given  # type: ignore[arg-type]
    return result


def not_stated(sections: Mapping[str, Any]) -> set[str]:
    """The keys of parts among `sections` that nobody asked for: those at their class's default, and all of a part that
    was a design's own, as in Sparten(dram=Vitcod().spec.dram)."""
    return {
        f"{key}.{field.name}"
        for key, part in sections.items()
        if dataclasses.is_dataclass(part) and not isinstance(part, NamedDram)
        for field in dataclasses.fields(part)
        if hasattr(part, _OF_A_DESIGN) or field.default == getattr(part, field.name)
    }


def last_of_each(settings: Iterable[str]) -> list[str]:
    """The "key=value" texts but those whose key is set again later."""
    return list({override.partition("=")[0].strip(): override for override in settings}.values())


def settings_text(settings: Iterable[str]) -> str:
    """On one line as rows have them, each key once."""
    return " ".join(" ".join(last_of_each(settings)).split())


def with_overrides(name: str, spec_type: Any, values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`values` with every "key=value" set, in order. Raises UserError for a key that the description does not have."""
    known = flat(values)
    for override in overrides:
        key, value = parse_override(override)
        if key not in known:
            known |= flat(dataclasses.asdict(checked(name, spec_type, values)))  # what the values leave to defaults
        if of_section := [name for name in known if name.startswith(f"{key}.")]:
            raise UserError(f"{override}: {key} is a section of {name}; set one of its keys: {', '.join(of_section)}")
        if key not in known:
            raise UserError(f"{override}: {unknown(f'key of {name}:', key, known)}")
        section = values
        *parents, last = key.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    return values


def checked(name: str, spec_type: type[Spec], values: Mapping[str, Any]) -> Spec:
    """The values as `spec_type`. Raises UserError naming the first key that is wrong, and what it may be."""
    if not dataclasses.is_dataclass(spec_type):
        raise UserError(
            f"{name}: its `spec_type` is {shown(spec_type)}; it should be a frozen dataclass, such as a Machine"
        )
    try:
        adapter: TypeAdapter[Spec] = _adapter(cast(Any, spec_type))
        spec = adapter.validate_json(json.dumps(values, default=_plain), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] in ("missing", "missing_argument"):
            raise UserError(f"{name}: {key} is missing; the preset must have it, as it has no default") from None
        raise UserError(f"{name}: {key} = {first['input']!r}: {first['msg']}") from None
    for part in (getattr(spec, field.name) for field in dataclasses.fields(cast(Any, spec))):
        if dataclasses.is_dataclass(part) and hasattr(part, "__dict__"):
            object.__setattr__(part, _OF_A_DESIGN, True)
    return spec


def _plain(value: Any) -> Any:
    """What JSON has no word for: numpy's numbers; anything else is refused by its place, as text."""
    return value.item() if hasattr(value, "item") else repr(value)


def parse_override(text: str, such_as: str = "array.height=16") -> tuple[str, Any]:
    """ "array.height=16" -> ("array.height", 16). A value that is no TOML value is taken as a string."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip() or not value.strip():
        raise UserError(f"{text!r}: expected key=value, such as {such_as}")
    if re.fullmatch(r"[+-]?\.\d+", value.strip()):
        return key.strip(), float(value)  # .5, which TOML wants written 0.5
    if any(letter in text for letter in "\n\r\0"):
        raise UserError(f"{text!r}: a value is one line, and has no null bytes")
    try:
        parsed = parse_toml(f"value = {value}")["value"]
    except ValueError as error:
        if not isinstance(error, tomllib.TOMLDecodeError):
            raise UserError(f"{text[:60]}: {error}") from None
        return key.strip(), value.strip()
    if isinstance(parsed, int) and abs(parsed) > MAX_WHOLE:
        raise UserError(f"{text[:60]}: whole numbers go up to 2^53")
    return key.strip(), value.strip() if holds_dates(parsed) else parsed


def keys_set(overrides: Sequence[str]) -> list[str]:
    """The keys of "key=value" texts, in order."""
    return [override.partition("=")[0].strip() for override in overrides]


def holds_dates(value: Any) -> bool:
    """Whether a TOML value is, or has in it, a date or a time. No setting is one: they are taken as the text they
    are."""
    if isinstance(value, dict | list):
        return any(holds_dates(item) for item in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, datetime.date | datetime.time)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"array": {"width": 64}} -> {"array.width": 64}."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return result


def without_keys(values: Mapping[str, Any], keys: Sequence[str], prefix: str = "") -> dict[str, Any]:
    """A copy of `values` that lacks the dotted `keys`."""
    return {
        key: without_keys(value, keys, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in values.items()
        if f"{prefix}{key}" not in keys
    }


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What `after` has otherwise than `before`, as "key=value" in the order of `after`."""
    known = flat(before)
    changed = {key: value for key, value in flat(after).items() if key not in known or known[key] != value}
    return [
        f"{key}={value if isinstance(value, str) else json.dumps(value, default=_plain)}"
        for key, value in changed.items()
    ]


def of_models(spec_type: Any) -> dict[str, Any]:
    """The keys that layers do not depend on, with their defaults (machine/whole.py)."""
    sections = [each for each in dataclasses.fields(spec_type) if each.metadata.get("of_models")]
    return flat({each.name: dataclasses.asdict(cast(Any, each.default)) for each in sections})


def spec_sha256(name: str, spec: Any, of_models: bool = False) -> str:
    """Of what a layer depends on; with `of_models` of all that a whole model does (machine/whole.py)."""
    whole = dataclasses.asdict(spec)
    heard = [each.name for each in dataclasses.fields(spec) if of_models or not each.metadata.get("of_models")]
    return sha256_of({"accelerator": name, "spec": {key: whole[key] for key in heard}})
