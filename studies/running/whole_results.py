"""What a study found of whole models, with all that their report needs beside it."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from measurement.published import OPERATORS, WHOLE_MODELS
from measurement.published_models import rows_beside
from studies.configurations import Configuration
from studies.names import whole_name
from studies.operators_beside import operators_beside
from studies.roofs import roofs_of
from studies.running.execute import Results
from studies.running.plan import Plan
from studies.running.rows_tasks import QualityTask
from studies.running.whole_tasks import WholeTask
from studies.treatments import DENSE
from workloads.columns.inference import INFERENCE_COLUMNS
from workloads.decoder.dimensions import Decoder
from workloads.rows import to_frame
from workloads.whole_models import WholeModels

ONE = [
    "model", "method", "target", "settings", "dtype", "kv_bits", "tensor_parallel", "host", "batch", "prompt",
    "generate", "source",
]  # fmt: skip


def whole_models(plan: Plan, results: Results, measured: Sequence[pd.DataFrame]) -> WholeModels | None:
    """None where a study asks for none."""
    found = [made for task, made in results.found.items() if isinstance(task, WholeTask)]
    if not found and not measured:
        return None
    made = [each.rows for each in found]
    records = {record.record for record in plan.study.file.measured}
    if made and WHOLE_MODELS in records:
        beside = rows_beside(pd.concat(made, ignore_index=True), nearest=False)
        made += [to_frame(beside, INFERENCE_COLUMNS)] if beside else []
    return WholeModels(
        _joined([*made, *measured], ONE),
        _joined([each.operations for each in found], [*ONE, "phase", "operation"]),
        roofs_of(plan.study.file.accelerators),
        pd.DataFrame(_perplexities(plan, results), columns=["model", "method", "perplexity"]),
        operators_beside(_dense(results)) if OPERATORS in records else pd.DataFrame(),
    )


def _dense(results: Results) -> Iterator[tuple[str, Decoder, Sequence[Configuration]]]:
    for task in results.found:
        if isinstance(task, WholeTask) and task.method is None:
            asked, wanted = task.asked()
            yield task.model.name, asked.dense, wanted


def _joined(frames: Sequence[pd.DataFrame], one: list[str]) -> pd.DataFrame:
    """Without what two entries of a study ask for alike, such as a treatment in a type of its own."""
    if not frames:
        return pd.DataFrame()
    rows = pd.concat(frames, ignore_index=True)
    steps = rows["prefill_ms"].isna() if "prefill_ms" in rows else rows["phase"] == "decode"
    return rows[~rows.assign(_step=steps).duplicated([*one, "_step"])].reset_index(drop=True)


def _perplexities(plan: Plan, results: Results) -> list[dict[str, Any]]:
    rows = []
    for task, frame in results.found.items():
        if isinstance(task, QualityTask):
            named = whole_name(task.method, plan.methods_of(task.model)) if task.method else DENSE
            rows += [{"model": task.model.name, "method": named, "perplexity": each} for each in frame["perplexity"]]
    return rows
