"""What the entries of a study ask for: targets, prune settings, and whether they can be had at all."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

from simulator.machine.spec import flat
from studies.designs import combined, parse_sweep
from studies.method_entry import GENERATED, StudyMethod
from studies.once import check_once
from studies.phase_rows import phase_of, tokens_of
from studies.settings import density_of
from studies.simulate import check_traceable
from studies.study import StudyAccelerator
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.files import pretty_json
from workloads.operations import Attention, Linear, Operation
from workloads.phases import Phase
from workloads.targets import Target
from workloads.treatment import check_fallback

MOST_TRIED = 1000  # designs of a sweep that are made before anything runs, some 0.5 s; of more each value alone


def targets_of(accelerator: StudyAccelerator, span: slice = slice(None)) -> list[Target]:
    """The accelerator or GPU, once for every combination of the values it sweeps; `span`: of these of them alone.
    Raises UserError for what it does not have."""
    return combined(accelerator.name, overrides(accelerator.set), swept(accelerator.sweep), accelerator.dtype, span)


def first_of(accelerator: StudyAccelerator) -> Target:
    """The first of `targets_of`. Raises UserError for what it does not have."""
    return targets_of(accelerator, slice(1))[0]


def design_count(accelerator: StudyAccelerator) -> int:
    return math.prod(len(choice) for choice in swept(accelerator.sweep))


def tried_of(accelerator: StudyAccelerator) -> list[Target]:
    """`targets_of`, where they are few; of a large sweep every value once, beside the first of the other keys. Raises
    UserError for what it does not have."""
    if design_count(accelerator) <= MOST_TRIED:
        return targets_of(accelerator)
    sets, choices = overrides(accelerator.set), swept(accelerator.sweep)
    found = [first_of(accelerator)]
    for place, choice in enumerate(choices):
        one = [[other[0]] for other in choices]
        one[place] = choice[1:]
        if choice[1:]:
            found += combined(accelerator.name, sets, one, accelerator.dtype)
    return found


def key_of(accelerator: StudyAccelerator) -> list[Any]:
    """All that tells its targets apart from others."""
    if design_count(accelerator) <= MOST_TRIED:
        return [target.key for target in targets_of(accelerator)]
    return [first_of(accelerator).key, overrides(accelerator.set), swept(accelerator.sweep), accelerator.dtype]


def swept(values: Mapping[str, Any]) -> list[list[str]]:
    """{"array.height": [16, 32], "array.width": "16:64:x2"} -> the "key=value" of every key. Raises UserError."""
    choices = []
    for key, each in flat(dict(values)).items():
        several = each if isinstance(each, list | tuple) else [each]
        ranged = isinstance(each, str)
        choices.append(parse_sweep(f"{key}={each}") if ranged else [_set_to("sweep", key, one) for one in several])
    return choices


def passes_of(accelerator: StudyAccelerator) -> list[tuple[int, Phase | None]]:
    """(tokens that pass through each layer together, the phase that they follow from, if any). Raises UserError for
    sizes of no phase, or not of this one."""
    on, none = accelerator, (None,)
    for name in ("tokens", "batch", "prompt", "context"):
        check_once(name, getattr(on, name) or ())
    each = itertools.product(on.batch or none, on.prompt or none, on.context or none)
    phases = [phase_of(on.phase, *sizes) for sizes in each]
    if on.phase and on.tokens:
        tokens_of(phases[0], on.tokens[0])
    if not on.phase:
        return [(tokens, None) for tokens in on.tokens or (1,)]
    return [(tokens_of(phase, None), phase) for phase in phases]


def measure_of(accelerator: StudyAccelerator) -> str:
    """What its rows hold: "cycles" or "times"."""
    return "cycles" if first_of(accelerator).source == "simulated" else "times"


def check_place(accelerator: StudyAccelerator, targets: list[Target], conditions: Conditions) -> None:
    """Raises UserError for what the targets cannot run, and what they cannot show."""
    for target in targets:
        target.check(conditions)
    if accelerator.trace:
        check_traceable(targets)
    if accelerator.published and targets[0].source != "predicted":
        raise UserError("`published` is for GPUs, whose rows are predicted; leave it out")


def executed(method: StudyMethod) -> type[Operation]:
    """The kind of operation that a method's masks are of."""
    return Attention if method.of_attention else Linear


def check_method(method: StudyMethod) -> None:
    """Raises UserError for settings that cannot be, as far as they can be known without a model."""
    if method.masks or method.treat:
        return
    if method.method == GENERATED:
        density_of(method.pattern, None if method.sparsity is None else 1 - method.sparsity)
        check_fallback(method.fallback, ":" in method.pattern)
        if method.bits is not None or method.allocation:
            raise UserError(f"{method.title}: generated masks come without weights: leave `bits` and `allocation` out")
        return
    from pruning.run.make_recipe import make_recipe

    make_recipe(method.known)


def needs_calibration(method: StudyMethod) -> bool:
    if method.method == GENERATED or method.masks or method.treat:
        return False
    from pruning.run.make_recipe import make_recipe

    return method.speedup is not None or make_recipe(method.known).needs_calibration


def overrides(values: Mapping[str, Any]) -> list[str]:
    """{"array.height": 16} -> ["array.height=16"], for keys as `--set` takes them."""
    flat = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat += [f"{key}.{inner}" for inner in overrides(value)]
        else:
            flat.append(_set_to("set", key, value))
    keys = [text.partition("=")[0] for text in flat]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise UserError(f"`set` gives {twice} twice; leave one out")
    return flat


def _set_to(where: str, key: str, value: Any) -> str:
    """ "key=value" as `--set` takes it. Raises UserError for a value that no file of settings could hold."""
    try:
        if value is None:
            raise TypeError
        return f"{key}={pretty_json(value).strip()}"
    except (TypeError, ValueError):
        raise UserError(
            f"`{where}` {key} = {value!r}: expected a number, a text, True, False or a list of these"
        ) from None
