"""What the entries of a study ask for: targets, prune settings, and whether they can be had at all."""

from typing import Any

from simulator.accelerators import Accelerator
from simulator.gpu import GPUS
from simulator.gpu.layers import GpuTarget
from simulator.gpu.prediction import MAX_SIZE
from simulator.machine.spec import flat, spec_sha256
from studies.method_entry import GENERATED, StudyMethod
from studies.settings import density_of
from studies.simulate import combined, open_any
from studies.study import StudyAccelerator
from workloads.errors import UserError
from workloads.files import pretty_json
from workloads.treatment import check_fallback


def targets_of(accelerator: StudyAccelerator) -> list[Accelerator] | GpuTarget:
    """The accelerator, once for every combination of the values it sweeps; or the GPU."""
    if accelerator.name in GPUS or not accelerator.sweep:
        return open_any(accelerator.name, overrides(accelerator.set), [], accelerator.dtype)
    sweeps = [
        [f"{key}={pretty_json(value).strip()}" for value in values] for key, values in flat(accelerator.sweep).items()
    ]
    return combined(accelerator.name, overrides(accelerator.set), sweeps)


def described_by(targets: list[Accelerator] | GpuTarget) -> tuple[str, list[Any]]:
    """("cycles" or "times", all that tells these targets apart from others)."""
    if isinstance(targets, GpuTarget):
        return "times", [spec_sha256(targets.name, targets.spec), targets.dtype]
    return "cycles", [[target.sha256, target.source_sha256] for target in targets]


def check_place(accelerator: StudyAccelerator, tokens: int) -> None:
    """Raises UserError for what the accelerator or GPU does not have, or cannot run."""
    if accelerator.name in GPUS:
        density = accelerator.activation_density != 1
        asked = {"trace": bool(accelerator.trace), "sweep": bool(accelerator.sweep), "activation_density": density}
        for key in (key for key, given in asked.items() if given):
            raise UserError(f"a GPU, whose times are predicted, has no `{key}`; leave it out")
        targets_of(accelerator)
        if not 1 <= tokens <= MAX_SIZE:
            raise UserError(f"cannot run tokens = {tokens}; 1 to {MAX_SIZE:,}")
        return
    for key in (key for key in ("dtype", "published") if getattr(accelerator, key)):
        raise UserError(f"`{key}` is for GPUs ({', '.join(GPUS)}); leave it out")
    targets = targets_of(accelerator)
    assert isinstance(targets, list)
    if tokens < 1 or targets[0].only_tokens not in (None, tokens):
        raise UserError(f"cannot run tokens = {tokens}")
    if accelerator.trace and len(targets) > 1:
        raise UserError("`trace` shows one design; leave `sweep` out")


def check_method(method: StudyMethod) -> None:
    """Raises UserError for settings that cannot be, as far as they can be known without a model."""
    if method.masks:
        return
    if method.method == GENERATED:
        density_of(method.pattern, None if method.sparsity is None else 1 - method.sparsity)
        check_fallback(method.fallback, ":" in method.pattern)
        if method.bits is not None or method.allocation:
            raise UserError(f"{method.title}: generated masks come without weights: leave `bits` and `allocation` out")
        return
    from pruning.run.make_recipe import make_recipe

    make_recipe(method)


def needs_calibration(method: StudyMethod) -> bool:
    if method.method == GENERATED or method.masks:
        return False
    from pruning.run.make_recipe import make_recipe

    return make_recipe(method).needs_calibration


def overrides(values: dict[str, Any]) -> list[str]:
    """{"array.height": 16} -> ["array.height=16"], for keys as `--set` takes them."""
    flat = []
    for key, value in values.items():
        if isinstance(value, dict):
            flat += [f"{key}.{inner}" for inner in overrides(value)]
        else:
            flat.append(f"{key}={pretty_json(value).strip()}")
    keys = [text.partition("=")[0] for text in flat]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise UserError(f"`set` gives {twice} twice; leave one out")
    return flat
