"""prunesim eval"""

from pathlib import Path
from typing import Any, Literal

from studies.cli.output import Whole, check_format, emit
from studies.progress import ProgressLine, warn
from workloads.errors import UserError

TASK_TABLE = ("model", "method", "pattern", "sparsity", "task", "metric", "value", "stderr", "samples", "num_fewshot")


def eval(
    model: str,
    /,
    *,
    text: str | None = None,
    tasks: str | None = None,
    seq_len: Whole | None = None,
    windows: Whole | None = None,
    task_folder: Path | None = None,
    limit: Whole | None = None,
    num_fewshot: Whole | None = None,
    fewshot_seed: Whole | None = None,
    special_tokens: Literal["off", "tokenizer"] | None = None,
    masks: Path | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    format: str = "table",
    out: Path | None = None,
) -> None:
    """Perplexity of MODEL per token over whole, separate windows of a text (--text), or its scores on tasks (--tasks).

    Parameters
    ----------
    text
        A text, JSON lines or a JSON array of documents, Parquet (also packed: .gz, .zst, .bz2), .npy token ids (windows,
        seq_len), wikitext2, c4, or NAME:CONFIG:SPLIT of a data set (extra `datasets`).
    tasks
        Tasks, groups or tags of lm_eval, with commas between them (extra `eval`); wanda-7 and besa-6 are the papers' sets.
    seq_len
        With --text, tokens a window (default 2048); with --tasks, the longest sequence (default: the model's maximum).
    windows
        With --text: only the first so many windows (default: all).
    task_folder
        Tasks of your own: lm_eval's .yaml files, their data beside them. Python functions that they name are run.
    limit
        Only the first so many documents of each task (default: all).
    num_fewshot
        Solved examples in front of every question (default: what the task states, else 0).
    fewshot_seed
        Draws them (default 1234, as lm_eval).
    special_tokens
        off (default): the texts alone, as in the pruning papers; tokenizer: with what it adds, as lm_eval does.
    masks
        A mask bundle to apply first.
    dtype
        What the model computes in: float32, float16, bfloat16.
    device
        cpu, cuda or cuda:N.
    format
        json, csv or table.
    out
        Write to this file instead of stdout.
    """
    check_format(format)
    of_text = {"--windows": windows}
    of_tasks: dict[str, Any] = {
        "--task-folder": task_folder,
        "--limit": limit,
        "--num-fewshot": num_fewshot,
        "--fewshot-seed": fewshot_seed,
        "--special-tokens": special_tokens,
    }
    if (text is None) == (tasks is None):
        raise UserError("give one of --text (perplexity per token) and --tasks (lm_eval's tasks)")
    for option, value in (of_tasks if tasks is None else of_text).items():
        if value is not None:
            raise UserError(f"{option} has no meaning with {'--text' if tasks is None else '--tasks'}; leave it out")
    from studies.prune import open_checkpoint
    from workloads.bundle import MaskBundle

    bundle = MaskBundle.open(masks) if masks else None
    progress = ProgressLine()
    if text is not None:
        from studies.evaluate import evaluate

        frame = evaluate(
            open_checkpoint(model, dtype, device),
            model,
            bundle,
            text,
            2048 if seq_len is None else seq_len,
            windows,
            progress,
        )
        shown = tuple(frame.columns)
    else:
        from studies.harness import TaskSettings, evaluate_tasks

        asked = TaskSettings(
            names=[name.strip() for name in (tasks or "").split(",") if name.strip()],
            folder=task_folder,
            limit=limit,
            num_fewshot=num_fewshot,
            fewshot_seed=1234 if fewshot_seed is None else fewshot_seed,
            seq_len=seq_len,
            special_tokens=special_tokens == "tokenizer",
        )
        frame = evaluate_tasks(open_checkpoint(model, dtype, device), model, bundle, asked, progress, warn)
        shown = TASK_TABLE
    progress.close()
    emit(frame, format, out, columns=shown)
