"""Tasks of lm_eval as result rows: zero-shot accuracies, perplexities per word and byte (methods 19.4; extra `eval`).

These perplexities follow lm_eval's protocol (documents, per word) and are not comparable with studies/evaluate.py,
which follows the papers' (windows of one stream, per token).
"""

import hashlib
import io
import json
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from checkpoints.checkpoint import Checkpoint
from pruning.block_job import Warn
from pruning.config import EvaluationConfig
from pruning.data.tokenizer import load_tokenizer
from pruning.evaluation.harness import HarnessModel, cannot_write, longest_context
from pruning.evaluation.whole_model import whole_model
from pruning.forward.hidden_states import Progress
from pruning.parallel import one_thread_per_operation
from studies.harness_tasks import expand, load_tasks
from studies.prune import model_name
from workloads import __version__
from workloads.bundle import MaskBundle
from workloads.columns.harness import HARNESS_COLUMNS
from workloads.errors import UserError, one_line
from workloads.rows import to_frame

BOOTSTRAP_DRAWS = 1000  # for standard errors without a closed form; lm_eval's own default, 100000, takes minutes
FEWSHOT_SEED = 1234  # lm_eval's
# What lm_eval raises on documents that do not fit their task.
BAD_DOCUMENTS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError, jinja2.TemplateError,
)  # fmt: skip


def evaluate_tasks(
    checkpoint: Checkpoint,
    model: str,
    masks: MaskBundle | None,
    asked: EvaluationConfig,
    progress: Progress,
    warn: Warn,
) -> pd.DataFrame:
    """One row per task (or group of tasks) and metric, in HARNESS_COLUMNS, for the model with the bundle applied if
    given.

    The same settings give the same numbers, whatever the number of threads. Raises UserError for tasks that cannot be
    found, loaded or scored by log-likelihood, settings that do not fit them, and masks of another model.
    """
    from lm_eval.evaluator import evaluate

    names = expand([name.strip() for name in (asked.tasks or "").split(",") if name.strip()])
    if not names:
        raise UserError("`tasks` names no task")
    if asked.limit is not None and asked.limit < 1:
        raise UserError(f"`limit` must be at least 1, not {asked.limit}")
    if asked.num_fewshot is not None and asked.num_fewshot < 0:
        raise UserError(f"`num_fewshot` must be at least 0, not {asked.num_fewshot}")
    seq_len = longest_context(checkpoint, asked.seq_len)
    tokenizer = load_tokenizer(checkpoint.folder, "tasks are texts and need one")
    seed = FEWSHOT_SEED if asked.fewshot_seed is None else asked.fewshot_seed
    special = asked.special_tokens == "tokenizer"
    progress = aloud(progress)
    with TemporaryDirectory(ignore_cleanup_errors=True) as cache, steady():
        progress("loading tasks", 0, 0)
        loaded = load_tasks(names, asked.task_folder, Path(cache).resolve())
        for name, task in loaded["tasks"].items():
            set_fewshot(name, task, asked, seed)
        lm = HarnessModel(whole_model(checkpoint, masks), tokenizer, seq_len, special, progress)
        try:
            results = evaluate(
                lm=lm, task_dict=loaded, limit=asked.limit, bootstrap_iters=BOOTSTRAP_DRAWS, log_samples=False
            )
        except BAD_DOCUMENTS as error:
            raise UserError(f"tasks {', '.join(names)} cannot be scored: {one_line(error)}") from None
        hashes = {name: prompts_sha256(task) for name, task in loaded["tasks"].items()}
    if lm.truncated:
        warn(f"{lm.truncated} texts are longer than {seq_len} tokens and lost their first ones")
    checkpoint.release(checkpoint.model)
    bits = {entry.weight_bits for entry in masks.layers} if masks else {None}
    shared = {
        "model": model_name(model),
        "method": masks.header.method if masks else "dense",
        "pattern": masks.header.pattern if masks else "unstructured",
        "target_sparsity": masks.header.target_sparsity if masks else None,
        "sparsity": masks.sparsity if masks else None,
        "weight_bits": bits.pop() if len(bits) == 1 else None,
        "seed": masks.header.seed if masks else None,
        "fewshot_seed": seed,
        "limit": asked.limit,
        "seq_len": seq_len,
        "special_tokens": "tokenizer" if special else "off",
        "dtype": str(checkpoint.model.dtype).removeprefix("torch."),
        "masks_sha256": masks.sha256 if masks else "",
        "harness_version": f"lm_eval {version('lm_eval')}",
        "tool_version": __version__,
    }
    rows = [shared | row | {"prompts_sha256": hashes.get(row["task"], "")} for row in metric_rows(results)]
    return to_frame(rows, HARNESS_COLUMNS)


def metric_rows(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The metrics in lm_eval's results, whose keys are "metric,filter" and "metric_stderr,filter"."""
    for name, metrics in results["results"].items():
        for key, value in metrics.items():
            metric, comma, answers = key.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            stderr = metrics.get(f"{metric}_stderr,{answers}")
            stated = str(results["versions"].get(name, ""))
            yield {
                "task": name,
                "task_version": "" if stated in ("Yaml", "N/A", "None") else stated,
                "metric": metric if answers == "none" else key,
                "value": value,
                "stderr": None if isinstance(stderr, str) else stderr,
                "samples": metrics["sample_len"],
                "num_fewshot": results["n-shot"].get(name),
            }


def set_fewshot(name: str, task: Any, asked: EvaluationConfig, seed: int) -> None:
    """Number and seed of a task's solved examples. Raises UserError if the task cannot have them, or cannot be
    scored."""
    if task.OUTPUT_TYPE == "generate_until":
        raise cannot_write(name)
    stated = task.get_config("num_fewshot")
    if asked.num_fewshot and (stated == 0 or task.OUTPUT_TYPE == "loglikelihood_rolling"):
        raise UserError(
            f"task {name} takes no solved examples, `num_fewshot` is {asked.num_fewshot}; evaluate it in a run of its "
            "own"
        )
    task.set_config("num_fewshot", (stated or 0) if asked.num_fewshot is None else asked.num_fewshot)
    task.set_fewshot_seed(seed)


def prompts_sha256(task: Any) -> str:
    """Hash of the contexts and continuations of a task that was run, in order."""
    texts = [list(request.args) for request in task.instances]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


@contextmanager
def steady() -> Iterator[None]:
    """Runs lm_eval to the same numbers every time, and in silence: it prints, logs and draws bars as it likes.

    Some tasks shuffle with the global random generators; they start from lm_eval's own seeds and are put back
    afterwards.
    """
    states = random.getstate(), np.random.get_state()
    os.environ.setdefault("DISABLE_MULTIPROC", "1")  # its bootstrap would fork a process that has threads
    random.seed(0)
    np.random.seed(1234)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), one_thread_per_operation():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def aloud(progress: Progress) -> Progress:
    """Progress that is seen in the midst of the silence."""
    stderr = sys.stderr

    def speak(what: str, done: int, of: int) -> None:
        with redirect_stderr(stderr):
            progress(what, done, of)

    return speak
