"""A machine in a TOML file of a user's: what it is based on, and only what differs.

    base = "sparten"                       # or a list; later ones win: ["sparten", "my_dram.toml"]
    name = "my-sparten"                    # as rows show it; the file's own name unless given

    [array]
    clusters = 16

A base is a name, file.py:Name, or another such file, relative to this one; a file within a list may lack a base of its
own.
"""

import copy
import dataclasses
import json
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from simulator.machine.parts import check_heard
from simulator.machine.spec import flat
from workloads.errors import UserError, one_line, unknown
from workloads.parsing import parse_toml
from workloads.plugins import check_name, located

Described = tuple[Any, type, dict[str, Any]]  # a class of machines, the type of its spec, and values of that


def is_machine_file(text: str) -> bool:
    return text.endswith(".toml")


def described_by(path: Path, find: Callable[[str], Described]) -> tuple[str, Described]:
    """(name, description) of the machine in a file; `find` gives those of names. Raises UserError naming file and
    key."""
    described = _composed(path, find, None, ())
    assert described is not None
    name = _read(path).get("name", path.stem)
    check_name(path, name)
    return name, described


def based_on(path: Path, within: tuple[Path, ...] = ()) -> Iterator[str]:
    """The names that are no files of machines, at the bottom of what a file is based on."""
    if path.resolve() in within:
        raise UserError(f"{path} is based on itself")
    for base in _bases(path, _read(path).get("base")):
        yield from based_on(Path(base), (*within, path.resolve())) if is_machine_file(base) else [base]


def _composed(
    path: Path, find: Callable[[str], Described], described: Described | None, within: tuple[Path, ...]
) -> Described | None:
    """What the machine is when this file has been laid over `described`."""
    if path.resolve() in within:
        raise UserError(f"{path} is based on itself")
    values = _read(path)
    values.pop("name", None)
    for base in _bases(path, values.pop("base", None)):
        if is_machine_file(base):
            described = _composed(Path(base), find, described, (*within, path.resolve()))
        else:
            try:
                found = find(base)
            except UserError as error:
                raise UserError(f"{path}: `base`: {error}") from None
            if described is not None and found[0] is not described[0]:
                raise UserError(
                    f"{path}: `base` mixes machines of different kinds; {base} is not of the kind of those before it"
                )
            described = found
    if described is None:
        if entries := [key for key, value in values.items() if isinstance(value, list) and dict in map(type, value)]:
            raise UserError(f"{path}: [[{entries[0]}]] is of a study, not of a machine; `prunesim run` runs studies")
        raise UserError(f'{path}: `base` is missing; say what the machine is based on, such as base = "vitcod"')
    kind, spec_type, known = described
    laid, before = overlaid(path, spec_type, known, values), flat(known)
    check_heard(path, spec_type, laid, [key for key, value in flat(values).items() if before.get(key) != value])
    return kind, spec_type, laid


def _read(path: Path) -> dict[str, Any]:
    try:
        return parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; give a machine's name or an existing TOML file") from None
    except ValueError as error:
        raise UserError(f"{path} is not a readable TOML file: {one_line(error)}") from None


def _bases(path: Path, given: Any) -> list[str]:
    bases = [given] if isinstance(given, str) else [] if given is None else given
    if not isinstance(bases, list) or not all(isinstance(base, str) and base for base in bases):
        raise UserError(f"{path}: base = {given!r}: expected a name or a list of names")
    return [located(base, path.parent) for base in bases]


def overlaid(where: object, spec_type: type, below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with what `above` states in place of its own. Raises UserError for a key that such a machine does not
    have."""
    known = dict.fromkeys([*flat(dict(below)), *keys_of(spec_type)])
    for key, value in flat(dict(above)).items():
        if key not in known and any(name.startswith(f"{key}.") for name in known):
            raise UserError(f"{where}: {key} = {value!r}: expected a section of keys, [{key}]")
        if key not in known:
            raise UserError(f"{where}: {unknown('key', key, known)}")
    return _merged(below, above)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(dict(below))
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if both else copy.deepcopy(value)
    return result


def keys_of(spec_type: Any, prefix: str = "") -> Iterator[str]:
    """Dotted keys of a spec's type."""
    hints = typing.get_type_hints(spec_type)
    for field in dataclasses.fields(spec_type):
        parts = [hints[field.name], *typing.get_args(hints[field.name])]
        inner = next((part for part in parts if dataclasses.is_dataclass(part)), None)
        yield from keys_of(inner, f"{prefix}{field.name}.") if inner is not None else [f"{prefix}{field.name}"]


def toml_text(values: Mapping[str, Any]) -> str:
    """Values as TOML, sections behind single keys."""
    single = [
        f"{key} = {_toml(value)}"
        for key, value in values.items()
        if not isinstance(value, Mapping) and value is not None
    ]
    return "\n".join([*single, *_sections(values, "")]) + "\n"


def _sections(values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, section in values.items():
        if isinstance(section, Mapping):
            plain = {
                name: value for name, value in section.items() if not isinstance(value, Mapping) and value is not None
            }
            yield f"\n[{prefix}{key}]"
            yield from (f"{name} = {_toml(value)}" for name, value in plain.items())
            yield from _sections(section, f"{prefix}{key}.")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return repr(value) if isinstance(value, int | float) else _quoted(str(value))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
