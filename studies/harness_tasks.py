"""Finds and loads lm_eval's tasks: its own by name, those of a local folder, and the sets the pruning papers report.

A local folder holds lm_eval's YAML files, and their data beside them; nothing of it is looked for in the network, and
the copies that the datasets library makes of the data go to a folder of the caller's.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import yaml
from lm_eval.api.registry import metric_registry
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import Entry, Kind
from lm_eval.tasks._yaml_loader import load_yaml

from pruning.evaluation.harness import cannot_write
from workloads.errors import UserError, one_line, unknown

_SHARED = ("hellaswag", "winogrande", "arc_easy", "arc_challenge")
TASK_SETS = {  # methods 19.4
    "wanda-7": ("boolq", "rte", *_SHARED, "openbookqa"),
    "besa-6": ("piqa", "boolq", *_SHARED),
}
WRITES_TEXT = "generate_until"  # lm_eval's name, and what a task is that states no output_type
NEAREST = 3  # names shown beside an unknown one


def expand(names: Sequence[str]) -> list[str]:
    """Task names, each once, with the papers' sets spelt out."""
    return list(dict.fromkeys(task for name in names for task in TASK_SETS.get(name, (name,))))


def load_tasks(names: Sequence[str], folder: Path | None, cache: Path) -> dict[str, dict[str, Any]]:
    """{"tasks": name -> task, "groups": name -> group} of lm_eval; tasks of `folder` go before lm_eval's own.

    Raises UserError for an unknown name, a folder without task files, YAML that cannot be read, and data that are
    missing or do not fit their task.
    """
    manager = find_tasks(names, folder)
    for entry in entries_of(manager, names, folder) if folder is not None else ():
        try:
            config = load_yaml(entry.yaml_path)
        except Exception as error:  # runs the Python functions that the file names
            raise UserError(f"{entry.yaml_path}: {one_line(error)}; correct the task file") from None
        entry.cfg, entry.yaml_path = with_data(config, entry.yaml_path, cache), None
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # else it reports every use of its readers to a server
    tasks: dict[str, Any] = {}
    groups: dict[str, Any] = {}
    for name in names:
        entry = manager.task_index[name]
        if entry.kind is Kind.TASK and (entry.cfg or {}).get("output_type", WRITES_TEXT) == WRITES_TEXT:
            raise cannot_write(name)  # before its data are fetched
        try:
            found = manager.load([name])
        except Exception as error:  # data sets, templates and task code raise many kinds; all mean the same to the user
            reason = one_line(error.__cause__ if isinstance(error.__cause__, Exception) else error)
            raise UserError(
                f"task {name} cannot be loaded: {reason}; correct its file, go online once, or give a copy by "
                "`task_folder`"
            ) from None
        tasks |= found["tasks"]
        groups |= found["groups"]
    return {"tasks": tasks, "groups": groups}


def find_tasks(names: Sequence[str], folder: Path | None) -> TaskManager:
    """An index that knows every name; lm_eval's own thousands of files are read only if the folder's do not suffice."""
    here: list[str] = []
    if folder is not None:
        check_folder(folder)
        manager = TaskManager(include_path=folder.resolve(), include_defaults=False)
        here = manager.all_tasks
        if set(names) <= set(here) - set(manager.all_groups):  # a group may name tasks of lm_eval
            return manager
    manager = TaskManager(include_path=None if folder is None else folder.resolve())
    for name in names:
        if name not in manager.task_index:
            near = difflib.get_close_matches(name, [*manager.all_tasks, *TASK_SETS], n=NEAREST)
            hint = f"nearest: {', '.join(near)}; " if near else ""
            held = f"{folder} holds {', '.join(here)}; " if here else ""
            raise UserError(
                f"unknown task {name!r}; {hint}{held}sets: {', '.join(TASK_SETS)}; lm-eval ls tasks lists all"
            )
    return manager


def check_folder(folder: Path) -> None:
    """Raises UserError for what lm_eval passes over in silence: no task files, broken ones, a name used twice."""
    if not folder.is_dir():
        raise UserError(f"`task_folder` {folder}: no such folder")
    files = sorted(folder.resolve().rglob("*.yaml"))
    if not files:
        raise UserError(f"`task_folder` {folder} holds no .yaml task files")
    places: dict[str, Path] = {}
    for file in files:
        try:
            config = load_yaml(file, resolve_func=False)
        except (yaml.YAMLError, ValueError, OSError) as error:
            raise UserError(f"{file} is not a readable task file: {one_line(error)}") from None
        name = config.get("group") or config.get("task")
        if isinstance(name, str) and places.setdefault(name, file) != file:
            raise UserError(f"task {name!r} is in {places[name]} and in {file}; rename one")


def entries_of(manager: TaskManager, names: Sequence[str], folder: Path) -> list[Entry]:
    """What the folder holds of all that loading `names` may come to; with a group among them, anything may be a
    member."""
    asked = [manager.task_index[name] for name in names]
    wanted = {*names, *(task for tag in asked if tag.kind is Kind.TAG for task in tag.tags)}
    anything = any(entry.kind is Kind.GROUP for entry in asked)
    return [
        entry
        for name, entry in manager.task_index.items()
        if (anything or name in wanted) and entry.yaml_path and entry.yaml_path.is_relative_to(folder.resolve())
    ]


def check_metrics(config: dict[str, Any], file: Path) -> None:
    """Raises UserError for metrics that lm_eval does not have itself: it would fetch their code, or go on without
    them."""
    for entry in config.get("metric_list") or ():
        metric = entry.get("metric")
        if isinstance(metric, str) and config.get("process_results") is None:
            if metric not in metric_registry:
                raise UserError(f"{file}: {unknown('metric', metric, sorted(metric_registry.keys()))}")
            if entry.get("hf_evaluate"):
                raise UserError(f"{file}: hf_evaluate of metric {metric} runs code from the network; leave it out")


def with_data(config: Any, file: Path, cache: Path) -> Any:
    """A task's or group's config whose data lie beside its file: absolute paths, copies in `cache`.

    Raises UserError for a data file that is missing, and for metrics that lm_eval does not have.
    """
    check_metrics(config, file)
    config = dict(config)
    if isinstance(config.get("task"), list):
        config["task"] = [
            with_data(member, file, cache) if isinstance(member, dict) else member for member in config["task"]
        ]
    kwargs = dict(config.get("dataset_kwargs") or {})
    if "data_files" in kwargs:
        kwargs |= {"data_files": absolute(kwargs["data_files"], file), "cache_dir": str(cache)}
    elif isinstance(path := config.get("dataset_path"), str) and (file.parent / path).is_dir():
        config["dataset_path"] = str(file.parent / path)
        kwargs["cache_dir"] = str(cache)
    return config | ({"dataset_kwargs": kwargs} if kwargs else {})


def absolute(files: Any, file: Path) -> Any:
    """Data files as load_dataset takes them (one, a list, a list per split), looked for beside the task file."""
    if isinstance(files, dict):
        return {split: absolute(some, file) for split, some in files.items()}
    if isinstance(files, list):
        return [absolute(one, file) for one in files]
    if not isinstance(files, str) or "://" in files:
        return files
    path = file.parent / files
    if not path.is_file() and not any(sign in files for sign in "*?["):
        raise UserError(f"{file}: its data file {files} is missing; it belongs beside the task file")
    return str(path)
