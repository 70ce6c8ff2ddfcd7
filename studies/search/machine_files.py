"""A design of a search as a machine file, with its pruning beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simulator.machine.files import is_machine_file, toml_text
from simulator.machine.spec import parse_override
from studies.method_entry import StudyMethod
from studies.names import described
from workloads.plugins import is_file_name

SHOWN = ("method", "sparsity", "pattern", "rule", "bits", "group_size", "quantizer", "allocation", "seed")


def machine_file(
    name: str, on: str, settings: Sequence[str], method: StudyMethod | None, figures: Mapping[str, float]
) -> str:
    """What `on` and the settings are, in TOML; the path of a file of a user's in full."""
    values: dict[str, Any] = {"base": _base(on), "name": name}
    for text in settings:
        key, value = parse_override(text)
        section = values
        *parents, last = key.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    pruned = [] if method is None else [f"# masks: {described(method)}", *_method_lines(method)]
    said = ", ".join(f"{figure} {value:.6g}" for figure, value in figures.items())
    return "\n".join([f"# {said}", *pruned, "", toml_text(values)])


def _base(on: str) -> str:
    return str(Path(on).absolute()) if is_machine_file(on) or is_file_name(on) else on


def _method_lines(method: StudyMethod) -> list[str]:
    """As an entry of a study has it."""
    entry = {name: value for name in SHOWN if (value := getattr(method, name)) not in (None, "")}
    if entry.get("pattern") == "unstructured":
        entry.pop("pattern")
    lines = toml_text(entry | ({"set": dict(method.set)} if method.set else {})).splitlines()
    return ["# [[methods]]", *(f"# {line}" for line in lines if line)]
