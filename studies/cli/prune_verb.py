"""prunesim prune"""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from studies.cli.output import Whole
from studies.progress import ProgressLine, warn
from workloads.selectors import Selection


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
    bits: Whole | None = None,
    group_size: Whole = 0,
    quantizer: str | None = None,
    allocation: str | None = None,
    only: Annotated[list[str] | None, Parameter(negative="")] = None,
    skip: Annotated[list[str] | None, Parameter(negative="")] = None,
    fallback: str = "refuse",
    seed: Whole = 0,
    save_model: Path | None = None,
    save_format: str = "dense",
    dtype: str = "float32",
    device: str = "cpu",
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Prune MODEL (a folder or a hub id) and write its masks to --out. Repeat a killed command to continue it.

    Parameters
    ----------
    method
        magnitude, wanda, gblm, sparsegpt, besa, none (prunesim ls methods).
    out
        Folder of the mask bundle.
    sparsity
        Share of weights to prune, in [0, 1). Left out with an N:M pattern, which fixes it.
    pattern
        "unstructured", or N:M: at most N kept in each run of M inputs.
    rule
        What is compared, e.g. row, layer or global. Default: the method's own (prunesim show METHOD).
    set_
        key=value of the method's parameters, quantizer.key=value, allocation.key=value (prunesim show NAME).
    calibration
        A text, JSON lines or a JSON array of documents, Parquet (also packed: .gz, .zst, .bz2), .npy token ids (samples,
        seq_len), wikitext2, c4, or NAME:CONFIG:SPLIT of a data set (extra `datasets`).
    samples
        Calibration sequences (default 128; all of a .npy file).
    seq_len
        Tokens a sequence (default 2048; those of a .npy file).
    bits
        Also quantize the weights to so many bits, 2 to 8 (method none: only that).
    group_size
        Consecutive inputs that share a scale; 0 = the whole row.
    quantizer
        rtn, gptq, lwc, awq (prunesim ls quantizers). Default: the method's own, in the same optimisation, else rtn.
    allocation
        er, erk, owl, alpha, depth: a sparsity of its own for every block or matrix (prunesim ls allocations).
    only
        Layers to prune: roles (q or gate,up), blocks:0-15, blocks:2-, names (*.mlp.*). Commas widen, another --only narrows.
        The others stay dense: sparsity, bits and allocation are of the chosen ones.
    skip
        Layers to leave dense, in the same words.
    fallback
        Where N:M or a group does not divide a matrix's inputs: refuse the model; unstructured at the same sparsity (one scale
        a row for groups); or skip the matrix, which stays dense.
    save_model
        Also write the pruned checkpoint to this folder.
    save_format
        dense: ordinary weights with zeros; packed: quantized weights as compressed-tensors pack-quantized.
    dtype
        What the model computes in: float32, float16, bfloat16 (weights are saved in their own type).
    device
        cpu, cuda or cuda:N.
    dry_run
        Only estimate memory and disk.
    """
    from checkpoints.coverage import coverage
    from studies.masks import contents_text
    from studies.prune import PruneSettings, make_recipe, open_checkpoint, print_estimate, run_prune

    progress = ProgressLine()
    settings = PruneSettings(
        method, sparsity, pattern, rule, tuple(set_ or ()), bits, group_size, quantizer, allocation, seed,
        Selection(tuple(only or ()), tuple(skip or ())), fallback,
    )  # fmt: skip
    checkpoint = open_checkpoint(model, dtype, device)
    recipe = make_recipe(model, checkpoint, settings, calibration, samples, seq_len)
    if dry_run:
        print_estimate(checkpoint, recipe)
        return
    covered = coverage(checkpoint).line  # before the run takes the model apart: a tied head is then another tensor
    bundle = run_prune(checkpoint, recipe, out, save_model, save_format, progress, warn)
    progress.close()
    sys.stderr.write(f"wrote {out}: {contents_text(bundle)}\n{covered}\n")
