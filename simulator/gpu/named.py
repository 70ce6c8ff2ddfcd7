"""GPUs by any name a user may give: ours, and machine files based on one of ours or, by entry point, of an installed
package."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simulator.gpu.spec import GPUS, GpuSpec, with_basis
from simulator.machine.files import Described, based_on, described_by, is_machine_file
from simulator.machine.spec import checked, difference, last_of_each, preset_values, with_overrides
from workloads.errors import UserError, one_line, unknown
from workloads.plugins import installed


def is_gpu(name: str) -> bool:
    """Whether a name means a GPU; a machine file is what it is based on."""
    if is_machine_file(name):
        return any(is_gpu(base) for base in based_on(Path(name)))
    return name in GPUS or name in installed("gpus")


def find_gpu(name: str, overrides: Sequence[str] = ()) -> tuple[str, GpuSpec]:
    """(what rows call it, the GPU with "key=value" overrides); where it is not one of ours as it is, its error says
    that no data covers that. Raises UserError for unknown names, keys and bad values."""
    label, values, changed = gpu_values(name)
    spec = checked(label, GpuSpec, with_overrides(label, GpuSpec, values, overrides))
    return label, with_basis(spec, last_of_each([*changed, *overrides]))


def load_gpu(name: str, overrides: Sequence[str] = ()) -> GpuSpec:
    """As `find_gpu`, without what it is called."""
    return find_gpu(name, overrides)[1]


def gpu_values(name: str) -> tuple[str, dict[str, Any], list[str]]:
    """What it is called, its values, and in what these differ from ours. Raises UserError for an unknown name or
    key."""
    if name in GPUS:
        return name, preset_values(name), []
    path = Path(name) if is_machine_file(name) else _installed(name)
    if strange := [base for base in based_on(path) if not is_gpu(base)]:
        raise UserError(f"{path}: `base` mixes GPUs with {strange[0]}, which is none; name machines of one kind")
    ours: dict[str, Any] = {}

    def described(base: str) -> Described:
        ours.update(gpu_values(base)[1])
        return GpuSpec, GpuSpec, dict(ours)

    label, (_, _, values) = described_by(path, described)
    changed = difference(ours, values)
    checked(str(path), GpuSpec, values)
    if label in GPUS and difference(preset_values(label), values):
        raise UserError(f"{path} describes another {label!r} than ours; rename the file, or give it a `name`")
    return label, values, changed


def _installed(name: str) -> Path:
    """The machine file that an entry point of prunesim.gpus gives the path of."""
    points = installed("gpus")
    if name not in points:
        raise unknown("GPU", name, [*GPUS, *points])
    try:
        return Path(points[name].load())
    except Exception as error:
        raise UserError(f"GPU {name} cannot be loaded: {type(error).__name__}: {one_line(error)}") from None
