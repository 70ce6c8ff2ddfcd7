"""prunesim prune"""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from studies.cli.output import Whole
from studies.progress import ProgressLine, warn


def prune(
    model: str,
    /,
    *,
    method: str,
    out: Path,
    sparsity: float | None = None,
    pattern: str = "unstructured",
    rule: str | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    calibration: str | None = None,
    samples: Whole | None = None,
    seq_len: Whole | None = None,
    seed: Whole = 0,
    save_model: Path | None = None,
    dtype: str = "float32",
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Prune MODEL (a folder or a hub id) and write its masks to --out. Repeat a killed command to continue it.

    Parameters
    ----------
    method
        magnitude, wanda (prunesim ls methods).
    out
        Folder of the mask bundle.
    sparsity
        Share of weights to prune, in [0, 1). Left out with an N:M pattern, which fixes it.
    pattern
        "unstructured", or N:M: at most N kept in each run of M inputs.
    rule
        What is compared: row, layer or global. Default: the method's own.
    set_
        key=value of the method's parameters (prunesim show METHOD).
    calibration
        Text, .jsonl, .npy token ids (samples, seq_len), or a data set name.
    samples
        Calibration sequences (default 128; all of a .npy file).
    seq_len
        Tokens a sequence (default 2048; those of a .npy file).
    save_model
        Also write the pruned checkpoint to this folder.
    dtype
        What the model computes in: float32, float16, bfloat16 (weights are saved in their own type).
    dry_run
        Only estimate memory and disk.
    """
    from studies.prune import make_recipe, open_checkpoint, print_estimate, run_prune

    progress = ProgressLine()
    checkpoint = open_checkpoint(model, dtype)
    recipe = make_recipe(
        model, checkpoint, method, sparsity, pattern, rule, set_ or [], calibration, samples, seq_len, seed
    )
    if dry_run:
        print_estimate(checkpoint, recipe)
        return
    bundle = run_prune(checkpoint, recipe, out, save_model, progress, warn)
    progress.close()
    sys.stderr.write(f"wrote {out}: {len(bundle)} layers, sparsity {bundle.sparsity:.4f}\n")
