"""A search, from the table of a study to what its report shows."""

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reports.tables.fronts import nondominated
from simulator.targets import find_target
from studies.progress import ProgressLine
from studies.running.plan import Plan
from studies.running.store import Store
from studies.search.checks import check_search, model_of
from studies.search.evaluation import Evaluator
from studies.search.figures import Constraint
from studies.search.importance import ESTIMATED, EXACT, TOO_FEW, estimated, of_all
from studies.search.machine_files import machine_file
from studies.search.sampling import Sampling
from studies.search.settings import SAMPLED, StudySearch
from studies.search.walk import Trial, Walk, enumerated, meets
from studies.study import Study
from workloads import __version__
from workloads.columns.column import Column
from workloads.columns.search import TRIAL_COLUMNS
from workloads.errors import NothingRan
from workloads.files import canonical_json, write_text
from workloads.rows import to_frame
from workloads.searched import Searched

MOST_FILES = 200  # machine files of designs on the front


def run_search(plan: Plan, store: Store, executor: Executor, progress: ProgressLine) -> Searched:
    """Of the study's table [search], with all masks and figures that are not there made. Raises UserError."""
    study, search = plan.study, plan.study.file.search
    assert search is not None
    space, constraints = check_search(study, search)
    model = model_of(study, search)
    evaluator = Evaluator(search, plan.place, model, store, executor, study.file.executor.tries)
    sampling = None
    if search.sampler in SAMPLED:
        sampling = Sampling(search, space.free, constraints, store.folder / "search")
        trials = Walk(space, evaluator, sampling, constraints, progress).go(search.trials or 0)
    else:
        trials = enumerated(space, evaluator, progress)
    target = find_target(search.on, space.fixed, search.dtype)
    frame = trial_frame(trials, search, constraints, model.name, target.name, list(space.free))
    if sampling is None:
        importance, said = of_all(frame, list(space.free), search.objectives), EXACT
    else:
        importance = estimated(sampling, search.objectives)
        said = TOO_FEW if importance.empty else ESTIMATED
    machines = _machine_files(study, search, trials, frame, store.folder / "machines")
    return Searched(
        f"{model.name} on {target.name}", search.passes_text, tuple(search.objectives),
        [each.text for each in constraints], list(space.free), search.sampler or "enumerate",
        search.seed if sampling else None, space.count, frame, importance, said, machines,
    )  # fmt: skip


def trial_frame(
    trials: Sequence[Trial], search: StudySearch, constraints: Sequence[Constraint], model: str, target: str,
    parameters: Sequence[str],
) -> pd.DataFrame:  # fmt: skip
    """The columns of workloads/columns/search.py and those of the parameters, a line a trial."""
    lines: list[dict[str, Any]] = []
    for trial in trials:
        method, outcome = trial.design.choice.method, trial.outcome
        made = {"pattern": method.pattern, "target_sparsity": method.sparsity} if method else {}
        lines.append(
            {
                "trial": trial.number, "model": model, "target": target,
                "settings": " ".join(" ".join(trial.design.settings).split()),
                "method": method.title if method else str(trial.values.get("pruning.method", "")), **made,
                **outcome.figures, "feasible": bool(outcome.figures), "meets": meets(trial, constraints),
                "front": False, "repeats": trial.repeats, "reason": outcome.reason,
                "mask_sha256": outcome.mask_sha256, "spec_sha256": outcome.spec_sha256,
                "seed": method.seed if method else None, "tool_version": __version__,
            }
        )  # fmt: skip
    own = [Column(name, _kind([trial.values[name] for trial in trials])) for name in parameters]
    for line, trial in zip(lines, trials, strict=True):
        line.update({name: _plain(trial.values[name]) for name in parameters})
    frame = to_frame(lines, TRIAL_COLUMNS, own)
    return _with_front(frame, search.objectives)


def _kind(values: Sequence[Any]) -> Any:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return ("int" if all(isinstance(value, int) for value in values) else "float") if numbers else "text"


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else canonical_json(value)


def _with_front(frame: pd.DataFrame, objectives: Sequence[str]) -> pd.DataFrame:
    """With `front` and the numbers of its designs; a design that was tried again is the earlier one."""
    able = frame["meets"] & frame["repeats"].isna()
    points = frame[list(objectives)].to_numpy(np.float64, na_value=np.nan)
    front = nondominated(np.where(able.to_numpy()[:, None], points, np.nan))
    order = frame[front].sort_values([*objectives, "trial"], kind="stable").index
    numbers = pd.Series(range(1, len(order) + 1), index=order, dtype="Int64")
    return frame.assign(front=front, design=numbers.reindex(frame.index))


def _machine_files(
    study: Study, search: StudySearch, trials: Sequence[Trial], frame: pd.DataFrame, folder: Path
) -> dict[int, str]:
    """Written and returned, for the first designs on the front; those of an earlier run are removed."""
    if folder.is_dir():
        for old in folder.glob("design-*.toml"):
            old.unlink()
    on = frame[frame["front"]].sort_values("design").head(MOST_FILES)
    texts: dict[int, str] = {}
    for place in on.index:
        number, trial = int(frame.at[place, "design"]), trials[place]
        figures = {name: trial.outcome.figures[name] for name in search.objectives}
        named = f"{study.path.stem}-{number}"
        text = machine_file(named, search.on, trial.design.settings, trial.design.choice.method, figures)
        write_text(folder / f"design-{number}.toml", text)
        texts[number] = text
    return texts


def check_any_met(searched: Searched) -> None:
    """Raises NothingRan where no design ran, or none meets the constraints."""
    trials = searched.trials
    ran = trials[trials["feasible"]]
    if ran.empty:
        first = trials.iloc[0]
        raise NothingRan(f"none of {len(trials):,} designs of the search can run; the first: {first['reason']}")
    if not trials["meets"].any():
        said = []
        for text in searched.constraints:
            figure, sign, _ = text.split()
            best = ran[figure].min() if sign == "<=" else ran[figure].max()
            said.append(f"{text} ({'least' if sign == '<=' else 'most'} found: {best:.6g})")
        raise NothingRan(f"none of {len(ran):,} designs that run meets all constraints: {', '.join(said)}; loosen one")
