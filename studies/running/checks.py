"""Everything about a study that can be known to be wrong before its first task runs."""

from pathlib import Path

from measurement.published import TABLES
from simulator.accelerators.vitcod.attention.masks import AttentionMasks
from studies.end_to_end import is_end_to_end, whole_rows
from studies.entries import check_method, needs_calibration
from studies.executors.named import check_executor
from studies.masks import check_model, model_layers
from studies.measured_here import check_measured
from studies.method_entry import GENERATED, StudyMethod
from studies.names import described
from studies.phases import configurations_of, runs_whole_models, types_of
from studies.records import study_rows
from studies.running.accelerator_checks import check_accelerators
from studies.running.plan import Plan
from studies.running.rows_tasks import routing_of
from studies.study import StudyModel
from workloads.errors import NotForThisModel, UserError


def check_study(plan: Plan) -> None:
    """Raises UserError, which names the study file."""
    study = plan.study
    try:
        check_executor(study.file.executor)
    except UserError as error:
        raise UserError(f"{study.path}: {error}") from None
    check_accelerators(plan)
    for record in study.file.measured:
        path = study.beside(record.record)
        if record.on:
            check_measured(study, record)
        elif record.record in TABLES and not study.file.phases:
            raise UserError(
                f"{study.path}: {record.record} stand beside whole models; say in [[phases]] what these run"
            )
        elif record.record in TABLES:
            continue
        else:
            whole_rows(path) if is_end_to_end(path) else study_rows(study, record)
    if study.file.search is not None:
        from studies.search.checks import check_search

        check_search(study, study.file.search)
    _check_phases(plan)
    for method in study.methods:
        try:
            check_method(method)
        except UserError as error:
            raise UserError(f"{study.path}: {described(method)}: {error}") from None
    _check_selections(plan)
    for model in study.models:
        _check_model(plan, model)


def _check_phases(plan: Plan) -> None:
    """Raises UserError for one that cannot be, and where nothing runs whole models."""
    study = plan.study
    targets = [on for on in study.file.accelerators if runs_whole_models(on)]
    if study.file.phases and not targets:
        raise UserError(
            f"{study.path}: [[phases]] are of whole models, which none of its [[accelerators]] runs; add a GPU, or "
            "vitcod"
        )
    for number, phase in enumerate(study.file.phases):
        try:
            for on in targets or study.file.accelerators:
                configurations_of(phase, on, types_of(on), routing_of(plan.place, on))
        except UserError as error:
            raise UserError(f"{study.path}: phases.{number}: {error}") from None


def _check_selections(plan: Plan) -> None:
    """A selection may fit some models of a study only; raises UserError for one that fits none."""
    study = plan.study
    for method in study.methods:
        refusals: list[NotForThisModel] = []
        models = [m for m in study.models if method.runs_for(m.name) and not method.selection.everything]
        for model in models:
            try:
                method.selection.names(model_layers(plan.place.beside_or_name(model.path or model.shapes)))
            except NotForThisModel as error:
                refusals.append(error)
        if refusals and len(refusals) == len(models):
            raise UserError(f"{study.path}: {described(method)}: {refusals[0]}")


def _check_model(plan: Plan, model: StudyModel) -> None:
    study = plan.study
    for name in (model.text, model.calibration):
        if name and Path(name).suffix and not study.beside(name).is_file():
            raise UserError(f"{study.path}: model {model.name!r}: no such file: {study.beside(name)}")
    if model.is_network:
        _check_family(plan, model)
    methods = plan.methods_of(model)
    if not methods and study.file.search is None:
        raise UserError(f"{study.path}: model {model.name!r} has no [[methods]]; leave it out or give it one")
    for method in methods:
        if method.treat:
            continue
        if method.masks:
            _check_masks(plan, model, method)
        elif model.path and not model.is_network and not model.calibration and needs_calibration(method):
            raise UserError(f"{study.path}: model {model.name!r} has no `calibration`; {method.title} needs it")
        elif model.shapes and method.method != GENERATED:
            raise UserError(
                f"{study.path}: {model.name!r} has shapes only; {method.method!r} needs weights (give `path`), or use "
                f"method = {GENERATED!r}"
            )


def _check_family(plan: Plan, model: StudyModel) -> None:
    from pruning.families import find_family

    try:
        find_family(plan.place.beside_or_name(model.path))[0].check()
    except UserError as error:
        raise UserError(f"{plan.study.path}: model {model.name!r}: {error}") from None


def _check_masks(plan: Plan, model: StudyModel, method: StudyMethod) -> None:
    """Raises UserError where masks that were given are not of this model, and where nothing runs masks of attention."""
    study = plan.study
    try:
        if method.of_attention:
            AttentionMasks.open(study.beside(method.masks or ""))
            if not plan.places_of(model, method):
                raise UserError("no accelerator of the study runs masks of attention; add vitcod-attention")
            return
        check_model(study.beside(method.masks or ""), plan.place.beside_or_name(model.path or model.shapes))
    except UserError as error:
        raise UserError(f"{study.path}: {method.title} for model {model.name!r}: {error}") from None
