"""How long what a study has still to make will take, said before it starts where that is minutes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from studies.entries import design_count
from studies.masks import model_config, model_layers
from studies.progress import tell_long
from studies.running.masks_tasks import PrunedMasks
from studies.running.rows_tasks import LayersTask, QualityTask
from studies.running.task import Task
from workloads.errors import UserError

if TYPE_CHECKING:
    from pruning.run.work import Work

ROW_S = (0.0002, 0.01)  # a design on a layer: from systolic to vitcod with many tokens on large matrices
TOKEN_BYTES = 4  # of a text


def tell_study(tasks: Sequence[Task], workers: int) -> None:
    """`tasks`: those whose results are not there; `workers` share this machine. What nobody can know before, as the
    work of methods that search, is not in it, and said to be missing."""
    products = [task for task in tasks if isinstance(task, PrunedMasks | QualityTask)]
    least, most, why, unknown = of_products(products) if products else (0.0, 0.0, "", 0)
    rows = sum(rows_of_task(task) for task in tasks if isinstance(task, LayersTask))
    least, most = least + ROW_S[0] * rows / workers, most + ROW_S[1] * rows / workers
    parts = [why, f"{rows:,} rows of machines" if rows else "", f"and {unknown} steps unforeseen" if unknown else ""]
    tell_long(least, most, ", ".join(part for part in parts if part))


def of_products(tasks: Sequence[PrunedMasks | QualityTask]) -> tuple[float, float, str, int]:
    """(least, most) seconds of what prunes and evaluates, what they rest on, and of how many nobody knows."""
    import torch

    from pruning.run.work import Work
    from studies.ahead import span_of

    total, unknown = Work(), 0
    for task in tasks:
        try:
            work = work_of_task(task)
        except UserError:  # said when its turn comes
            continue
        total += work or Work()
        unknown += work is None
    return *span_of(total, torch.device("cpu"), torch.float32), unknown


def work_of_task(task: PrunedMasks | QualityTask) -> "Work | None":
    """Matrix products of a step; None where nobody knows them. Raises UserError where the step would."""
    from pruning.data.calibration import DEFAULT_SAMPLES, DEFAULT_SEQ_LEN
    from pruning.run.make_recipe import make_recipe
    from pruning.run.work import Work, work_of

    if task.model.is_network:
        return None
    if isinstance(task, PrunedMasks):
        model = task.model
        if task.method.for_speed:
            return None  # masks are tried until they are fast enough
        samples, seq_len = model.samples or DEFAULT_SAMPLES, model.seq_len or DEFAULT_SEQ_LEN
        name = task.place.beside_or_name(model.path)
        return work_of(model_layers(name), model_config(name), samples, samples * seq_len, make_recipe(task.method))
    name = task.place.beside_or_name(task.model.path)
    config, layers = model_config(name), model_layers(name)
    weights = sum(layer.n_weights for layer in layers) + _head(config)
    return Work(max(min(layer.shape) for layer in layers), 2.0 * _tokens(task, DEFAULT_SEQ_LEN) * weights)


def rows_of_task(task: LayersTask) -> int:
    """Of all its layers and designs, those that are there too."""
    name = task.place.beside_or_name(task.model.path or task.model.shapes)
    if task.method.of_attention or task.model.is_network:
        return design_count(task.accelerator)
    return len(model_layers(name)) * design_count(task.accelerator)


def _head(config: dict) -> int:
    text = config.get("text_config", config)
    return int(text.get("vocab_size") or 0) * int(text.get("hidden_size") or 0)


def _tokens(task: QualityTask, seq_len: int) -> float:
    """That are evaluated: those of the windows, or of the whole text by its size."""
    model = task.model
    text = task.place.beside(model.text)
    whole = text.stat().st_size / TOKEN_BYTES if text.is_file() else float("inf")
    asked = (model.eval_windows or 0) * (model.eval_seq_len or seq_len) or float("inf")
    tokens = min(whole, asked)
    return tokens if tokens < float("inf") else 300_000.0  # of a data set: wikitext2's test split
