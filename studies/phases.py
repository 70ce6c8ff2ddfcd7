"""The `[[phases]]` of a study: what whole models run, on each of its targets."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

from simulator.runners import find_runner
from studies.asked import Asked, open_model
from studies.configurations import Configuration, configurations
from studies.entries import overrides, swept
from studies.inference import treated_as
from studies.once import check_once
from studies.study import StudyAccelerator, StudyPhase
from studies.treatments import parse_treatment
from workloads.errors import UserError, unknown
from workloads.phases import Generation, decode
from workloads.routing import Routing

NEEDS = {"generate": ("prompt", "generate"), "prefill": ("prompt",), "decode": ("context",)}  # by kind
USUAL = {"prompt": (2048,), "generate": (256,), "context": (2048,)}


def runs_whole_models(on: StudyAccelerator) -> bool:
    """Whether it does: what runs attention alone, or by a paper's formula, does not."""
    try:
        find_runner(on.name, overrides(on.set))
    except UserError:
        return False
    return True


def sizes_of(phase: StudyPhase) -> dict[str, tuple[int, ...]]:
    """Of what its kind needs. Raises UserError for a kind that is none, and for a size that its kind has not."""
    if phase.kind not in NEEDS:
        raise unknown("kind", phase.kind, NEEDS)
    for name in USUAL:
        if getattr(phase, name) is not None and name not in NEEDS[phase.kind]:
            raise UserError(f"{phase.kind} has no `{name}`; it takes {' and '.join(NEEDS[phase.kind])}")
    for name in ("batch", *NEEDS[phase.kind], "tensor_parallel"):
        check_once(name, getattr(phase, name) or ())
    return {name: getattr(phase, name) or USUAL[name] for name in NEEDS[phase.kind]}


def configurations_of(
    phase: StudyPhase, on: StudyAccelerator, dtypes: Sequence[str], routing: Routing
) -> list[Configuration]:  # fmt: skip
    """On the target, once for every combination of the values that it sweeps. Raises UserError."""
    sizes = sizes_of(phase)
    before, new = sizes.get("prompt") or sizes["context"], sizes.get("generate", (1,))
    found: list[Configuration] = []
    for chosen in itertools.product(*swept(on.sweep)):
        found += configurations(
            [on.name], phase.batch, before, new, dtypes, phase.tensor_parallel, phase.kv_bits, phase.host, routing,
            phase.reserve_gib, [*overrides(on.set), *chosen],
        )  # fmt: skip
    return [_step(one) for one in found] if phase.kind == "decode" else found


def types_of(on: StudyAccelerator) -> list[str]:
    """[]: its own."""
    return [on.dtype] if on.dtype else []


def asked_of(
    place: str, treatment: str, phase: StudyPhase, on: StudyAccelerator, routing: Routing
) -> tuple[Asked, list[Configuration]]:  # fmt: skip
    """A model or a bundle with what it runs, the model under a treatment ("": as it is). Raises UserError."""
    treatments = [parse_treatment(treatment)] if treatment else []
    asked = open_model(place).routed(routing)
    [one] = treated_as(
        asked, treatments, types_of(on), lambda dtypes: configurations_of(phase, on, dtypes, routing)
    )  # fmt: skip
    return one


def _step(one: Configuration) -> Configuration:
    assert isinstance(one.work, Generation)
    return replace(one, work=decode(one.work.batch, one.work.prompt))
