"""prunesim simulate"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from studies.cli.output import Whole, check_format, emit
from studies.progress import ProgressLine


def simulate(
    bundle: Path | None = None,
    /,
    *,
    on: str,
    mask: Path | None = None,
    model: str | None = None,
    pattern: str = "unstructured",
    density: float | None = None,
    seed: Whole = 0,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    tokens: Whole = 1,
    format: str = "table",
    out: Path | None = None,
) -> None:
    """Cycles of every layer of BUNDLE (or of --mask, or of generated masks for --model) on an accelerator.

    Parameters
    ----------
    on
        The accelerator (prunesim ls accelerators).
    mask
        One .npy mask (out_features, in_features), boolean or 0/1, 1 = kept.
    model
        A catalog name, config.json or model folder; its masks are generated with --pattern, --density and --seed.
    set_
        key=value of the accelerator, e.g. array.height=16 (prunesim show NAME).
    tokens
        Tokens that pass through each layer together: 1 for decoding one sequence, more for batches and prefill.
    format
        json, csv or table.
    out
        Write to this file instead of stdout.
    """
    check_format(format)
    from studies.simulate import open_source, simulate_frame

    source = open_source(bundle, mask, model, pattern, density, seed)
    progress = ProgressLine()
    frame = simulate_frame(source, on, set_ or [], tokens, progress)
    progress.close()
    emit(frame, format, out)
