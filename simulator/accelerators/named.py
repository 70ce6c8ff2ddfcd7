"""Accelerators by any name a user may give: ours, those of installed packages, of files, and machine files based on any
of these."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from simulator.accelerators import ACCELERATORS
from simulator.accelerators.accelerator import Accelerator, preset_of
from simulator.machine.files import Described, described_by, is_machine_file
from simulator.machine.spec import checked
from workloads.errors import UserError
from workloads.plugins import Wanted, find

Design = type[Accelerator] | Accelerator


def find_accelerator(name: str) -> Design:
    """The class of that name, or a design that a file holds (`small = Vitcod(array=Array(16, 16))`). Raises
    UserError."""
    if name in ACCELERATORS:
        return ACCELERATORS[name]
    found: Design = find(Wanted("accelerators", Accelerator, ACCELERATORS, instances=True), name)
    return found


def open_accelerator(name: str, overrides: Sequence[str] = ()) -> Accelerator:
    """The accelerator of that name with "key=value" overrides. Raises UserError for unknown names (naming the nearest)
    and keys."""
    if is_machine_file(name):
        label, (design, spec_type, values) = described_by(Path(name), described)
        checked(name, spec_type, values)
        made: Accelerator = design(*overrides, preset=values, name=label)
        if label in ACCELERATORS and ACCELERATORS[label](*overrides, preset=label) != made:
            raise UserError(
                f"{name} describes another {label!r} than ours, and its rows could not be told apart; rename the file, "
                "or give it a `name`"
            )
        return made
    found = find_accelerator(name)
    if isinstance(found, Accelerator):
        return found.changed(*overrides)
    return found(*overrides, preset=name if name in ACCELERATORS else "")


def described(name: str) -> Described:
    """What a machine file can be based on."""
    found = find_accelerator(name)
    if isinstance(found, Accelerator):
        return type(found), found.spec_type, dataclasses.asdict(found.spec)
    return found, found.spec_type, preset_of(found, name if name in ACCELERATORS else "")
