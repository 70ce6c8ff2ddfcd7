"""prunesim eval"""

from pathlib import Path

from studies.cli.output import Whole, check_format, emit
from studies.progress import ProgressLine


def eval(
    model: str,
    /,
    *,
    text: Path,
    seq_len: Whole = 2048,
    windows: Whole | None = None,
    masks: Path | None = None,
    dtype: str = "float32",
    format: str = "table",
    out: Path | None = None,
) -> None:
    """Perplexity of MODEL per token over whole, separate windows of a text.

    Parameters
    ----------
    text
        UTF-8 text, or .npy token ids (windows, seq_len).
    seq_len
        Tokens a window.
    windows
        Only the first so many windows (default: all).
    masks
        A mask bundle to apply first.
    dtype
        What the model computes in.
    format
        json, csv or table.
    out
        Write to this file instead of stdout.
    """
    check_format(format)
    from studies.evaluate import evaluate
    from studies.prune import open_checkpoint
    from workloads.bundle import MaskBundle

    bundle = MaskBundle.open(masks) if masks else None
    progress = ProgressLine()
    frame = evaluate(open_checkpoint(model, dtype), model, bundle, text, seq_len, windows, progress)
    progress.close()
    emit(frame, format, out, columns=tuple(frame.columns))
