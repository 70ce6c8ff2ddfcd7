"""Everything about a search that can be known to be wrong before a mask is made."""

import itertools
from collections.abc import Sequence

from studies.entries import needs_calibration
from studies.method_entry import GENERATED
from studies.names import described
from studies.search.figures import Constraint, check_constraints, check_figures, parse_constraint
from studies.search.sampling import optuna_module
from studies.search.settings import ENUMERATE, MOST_ENUMERATED, MOST_UNNAMED, SAMPLED, StudySearch
from studies.search.space import Space
from studies.study import Study, StudyModel
from workloads.conditions import Conditions
from workloads.errors import UserError, unknown
from workloads.limits import shortened
from workloads.operations import Linear
from workloads.targets import kinds_text


def model_of(study: Study, search: StudySearch) -> StudyModel:
    """The one that is pruned. Raises UserError where none or several are meant."""
    names = [model.name for model in study.models]
    if search.model and search.model not in names:
        if any(search.model == model.name for model in study.absent):
            raise UserError(f"model {search.model!r} is not there; put its folder beside the study, or search another")
        raise unknown("model", search.model, names)
    if not search.model and len(names) > 1:
        raise UserError(f"say which `model` is pruned; there are {', '.join(names)}")
    found = next(model for model in study.models if model.name == (search.model or names[0]))
    if not (found.path or found.shapes):
        raise UserError(f"model {found.name!r} needs either `path` (weights) or `shapes` (a config)")
    return found


def check_search(study: Study, search: StudySearch) -> tuple[Space, list[Constraint]]:
    """Raises UserError, which names the study file and the table."""
    try:
        return _checked(study, search)
    except UserError as error:
        said = str(error)
        raise UserError(f"{study.path}: {'' if said.startswith('[search') else '[search] '}{said}") from None


def _checked(study: Study, search: StudySearch) -> tuple[Space, list[Constraint]]:
    model = model_of(study, search)
    constraints = [parse_constraint(text) for text in search.constraints]
    check_constraints(constraints)
    _check_passes(search)
    space = Space(search, study.path.parent)
    target = space.check()
    if Linear not in target.executes:
        raise UserError(f"{target.name} runs {kinds_text(target.executes)}; a search prunes linears")
    for tokens, _ in search.passes:
        target.check(Conditions(tokens, search.activation_density))
    check_figures(search.objectives, constraints, target, has_perplexity(model), model.name)
    _check_sampler(search, space)
    _check_model(model, space)
    return space, constraints


def has_perplexity(model: StudyModel) -> bool:
    return model.evaluated and not model.is_network


def _check_passes(search: StudySearch) -> None:
    if not isinstance(search.tokens, int):
        for tokens, times in search.tokens.items():
            if not tokens.isdigit() or times < 1:
                raise UserError(f"`tokens` {tokens} = {times}: expected tokens of a pass = how often, such as 512 = 1")
    if not search.passes or any(tokens < 1 for tokens, _ in search.passes):
        raise UserError("`tokens` is a whole number from 1, or passes by their tokens, such as { 512 = 1, 1 = 256 }")


def _check_sampler(search: StudySearch, space: Space) -> None:
    count = space.count
    if search.sampler in SAMPLED:
        if search.trials is None:
            raise UserError(f"`trials` is missing; {search.sampler} chooses so many designs")
        if not space.free:
            raise UserError("nothing is left to choose: every parameter has one value; give one of them several")
        optuna_module()
        return
    named = search.sampler == ENUMERATE
    if search.trials is not None:
        raise UserError(f"`trials` are of a sampler ({', '.join(SAMPLED)}); without one all designs are tried")
    if count is None:
        key = next(name for name, each in space.parameters.items() if each.count is None)
        raise UserError(
            f"{key} has no number of values, so all cannot be tried; name a `sampler` ({', '.join(SAMPLED)})"
        )
    most = MOST_ENUMERATED if named else MOST_UNNAMED
    if count > most:
        way_out = f"name a `sampler` ({', '.join(SAMPLED)}) and `trials`, or give fewer values"
        raise UserError(f"there are {shortened(count)} designs, and all are tried up to {most:,}; {way_out}")


def _check_model(model: StudyModel, space: Space) -> None:
    """Raises UserError for a choice of pruning that this model is not given for."""
    keys: Sequence[str] = [parameter.key for parameter in space.pruning]
    for values in itertools.product(*(parameter.values for parameter in space.pruning)):
        method = space.choices.of(dict(zip(keys, values, strict=True))).method
        if method is None:
            continue
        if model.shapes and method.method != GENERATED:
            raise UserError(
                f"{model.name!r} has shapes only; {method.method!r} needs weights (give `path`), or use "
                f"method = {GENERATED!r}"
            )
        if model.path and not model.is_network and not model.calibration and needs_calibration(method):
            raise UserError(f"model {model.name!r} has no `calibration`; {described(method)} needs it")
