"""What can be known to be wrong with the [[accelerators]] of a study, each by itself and beside the others."""

from collections.abc import Iterator, Sequence
from typing import Any

from checkpoints.decoders import decoder_of
from simulator.runners import runner_of
from studies.entries import check_place, passes_of, tried_of
from studies.masks import model_config
from studies.phase_rows import checked_included
from studies.running.plan import Plan
from studies.running.rows_tasks import conditions_of
from studies.study import StudyAccelerator, StudyModel
from workloads.errors import NotForThisModel, UserError
from workloads.operations.moves import MOVES
from workloads.plugins import shown
from workloads.targets import Target


def check_accelerators(plan: Plan) -> None:
    """Raises UserError, which names the study file."""
    for on in plan.study.file.accelerators:
        try:
            targets = tried_of(on)
            for tokens, phase in passes_of(on):
                check_place(on, targets, conditions_of(plan.place, on, tokens))
                roles = checked_included(on.include, phase)
            _check_models(plan, on, roles, targets)
        except UserError as error:
            raise UserError(f"{plan.study.path}: {on.name}: {error}") from None
    _check_apart(plan)


def _check_models(plan: Plan, on: StudyAccelerator, roles: Sequence[str], targets: Sequence[Target]) -> None:
    """What some models of a study have only is left out for the others; raises UserError for what none has."""
    models = [model for model in plan.study.models if on.runs(model)]
    if on.halo_reuse and not any(model.is_network for model in models):
        raise UserError(
            "`halo_reuse` is of convolutions whose windows overlap, and no model here is a network with such"
        )
    if not roles:
        return
    for target in targets:
        runner_of(target)
    refusals = [_refusal(plan, model, roles) for model in models]
    if models and all(refusals):
        raise UserError(f"`include` {', '.join(roles)}: {refusals[0]}; leave it out")


def _refusal(plan: Plan, model: StudyModel, roles: Sequence[str]) -> str:
    """Why a model has no rows of them, "" where it may have."""
    if MOVES in roles:
        return "" if model.is_network else f"{model.name} is no network, whose gathers and scatters they are"
    if model.is_network:
        return f"{model.name} is a network, which has no prefill and no decode"
    if not (model.path or model.shapes):
        return f"{model.name} has neither `path` nor `shapes`, which say how its attention is made"
    try:
        decoder_of(model_config(plan.place.beside_or_name(model.path or model.shapes)))
    except NotForThisModel as error:
        return str(error)
    return ""


def _check_apart(plan: Plan) -> None:
    """Raises UserError for two entries whose rows a report could not tell apart, before they are made."""
    seen: dict[tuple[Any, ...], str] = {}
    for number, on in enumerate(plan.study.file.accelerators):
        for key, text in _rows_of(plan, on):
            here = f"accelerators.{number}, {text}"
            if key in seen:
                raise UserError(
                    f"{plan.study.path}: {seen[key]} and {here} would give rows that nothing tells apart; give one of "
                    "both other tokens, or run it as a study of its own"
                )
            seen[key] = here


def _rows_of(plan: Plan, on: StudyAccelerator) -> Iterator[tuple[tuple[Any, ...], str]]:
    """(what a report tells its rows apart by, what they are of)."""
    every = [model for model in plan.study.models if on.runs(model)]
    models = [model for model in every if not all(method.treat for method in plan.methods_of(model))]
    for tokens, phase in passes_of(on):
        text = f"{phase.name} of {phase.batch} x {phase.new}, context {phase.context}" if phase else f"tokens {tokens}"
        routing = conditions_of(plan.place, on, tokens).routing.text
        for target in plan.targets[id(on)]:
            run = (target.name, target.settings, tokens, on.activation_density, routing, on.halo_reuse)
            for model in models:
                yield (model.name, *run), f"{shown(on.name)}, {text}"
