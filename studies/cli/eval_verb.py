"""prunesim eval"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pruning.config import EvaluationConfig
from studies.cli.output import check_format, emit
from studies.cli.settings import options
from studies.progress import ProgressLine, warn

if TYPE_CHECKING:
    from pruning.config import EvaluationConfig as Asked
else:
    Asked = options(EvaluationConfig)

TASK_TABLE = ("model", "method", "pattern", "sparsity", "task", "metric", "value", "stderr", "samples", "num_fewshot")
NETWORK_TABLE = ("model", "method", "pattern", "sparsity", "metric", "value", "better", "samples")
COMPARED = ("kl_divergence", "top1_agreement", "block_errors")


def eval(
    model: str,
    /,
    *,
    asked: Annotated[Asked, Parameter(name="*")] = Asked(),  # noqa: B008
    masks: Path | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    format: str = "table",
    out: Path | None = None,
) -> None:
    """Perplexity of MODEL per token over whole, separate windows of a text (--text), or its scores on tasks
    (--tasks; cloze and continuation are made of --text); of a network (prunesim ls families) its own number.

    Parameters
    ----------
    model
        A model folder, a GGUF file, or a hub id such as meta-llama/Llama-2-7b-hf that is on this machine.
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
    from pruning.networks import is_network
    from studies.prune import open_checkpoint, open_model

    network = is_network(model)
    if network:
        asked.check_network(model)
    else:
        asked.check()
    from workloads.bundle import MaskBundle

    bundle = MaskBundle.open(masks) if masks else None
    progress = ProgressLine()
    if network:
        from studies.evaluate import evaluate

        frame = evaluate(open_model(model, dtype, device), model, bundle, asked, progress)
        shown: tuple[str, ...] = NETWORK_TABLE
    elif asked.offline_tasks:
        from studies.offline_tasks import evaluate_offline

        frame = evaluate_offline(open_checkpoint(model, dtype, device), model, bundle, asked, progress)
        shown = TASK_TABLE
    elif asked.text is not None:
        from studies.evaluate import evaluate

        frame = evaluate(open_checkpoint(model, dtype, device), model, bundle, asked, progress)
        shown = tuple(name for name in frame.columns if asked.compare or name not in COMPARED)
        shown = NETWORK_TABLE if "metric" in frame else shown
    else:
        from studies.harness import evaluate_tasks

        frame = evaluate_tasks(open_checkpoint(model, dtype, device), model, bundle, asked, progress, warn)
        shown = TASK_TABLE
    progress.close()
    emit(frame, format, out, columns=shown)
