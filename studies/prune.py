"""One pruning run, from names and numbers to a bundle and, on request, a checkpoint."""

from pathlib import Path

import torch

from pruning.calibration import read_calibration
from pruning.driver import Progress, Recipe, Warn, prune
from pruning.methods import choose_rule, find_method, method_parameters
from pruning.plan import estimate
from pruning.saving import check_target, save_pruned
from studies.masks import parse_values
from studies.settings import sparsity_of
from workloads.bundle import MaskBundle
from workloads.checkpoint import Checkpoint, find_model_folder
from workloads.errors import UserError, unknown

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def open_checkpoint(model: str, dtype: str) -> Checkpoint:
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    return Checkpoint(find_model_folder(model), DTYPES[dtype])


def model_name(model: str) -> str:
    """A folder's name, or a hub id as it is."""
    return Path(model).resolve().name if Path(model).is_dir() else model


def make_recipe(
    model: str,
    checkpoint: Checkpoint,
    method_name: str,
    sparsity: float | None,
    pattern: str,
    rule: str | None,
    sets: list[str],
    calibration: str | None,
    samples: int | None,
    seq_len: int | None,
    seed: int,
) -> Recipe:
    """Checks every setting before anything runs. Raises UserError for the first that cannot be."""
    method = find_method(method_name)
    parameters = method_parameters(method, parse_values(sets))
    nofm, target = sparsity_of(pattern, sparsity)
    chosen = choose_rule(method, rule)
    if nofm is not None and rule is not None:
        raise UserError(f"pattern {nofm} decides within runs of {nofm.m}; --rule {rule} has no meaning with it")
    drawn = None
    if method.needs_activations:
        if calibration is None:
            raise UserError(f"{method.name} needs --calibration: a text, .jsonl, .npy token ids or a data set name")
        drawn = read_calibration(calibration, checkpoint.folder, samples, seq_len, seed)
    return Recipe(model_name(model), method, parameters, target, chosen, nofm, drawn, seed)


def run_prune(
    checkpoint: Checkpoint, recipe: Recipe, out: Path, save_model: Path | None, progress: Progress, warn: Warn
) -> MaskBundle:
    if save_model is not None:
        if save_model.resolve() == out.resolve():
            raise UserError(f"--out and --save-model are both {out}; masks and checkpoint need folders of their own")
        check_target(save_model, checkpoint.folder)
    bundle = prune(checkpoint, recipe, out, progress, warn)
    if save_model is not None:
        save_pruned(checkpoint.folder, bundle, save_model, progress)
    return bundle


def print_estimate(checkpoint: Checkpoint, recipe: Recipe) -> None:
    """The dry run: needs in MB (1e6 bytes) on stdout."""
    needs = estimate(checkpoint, recipe)
    print(f"{recipe.model_id}: {needs.layers} linears, {needs.weights:,} weights in {len(checkpoint.blocks)} blocks")
    for what, size in {
        "memory: outside the blocks (embeddings, head)": needs.outside_bytes,
        "memory: largest block": needs.block_bytes,
        "memory: calibration states, before and after a block": needs.hidden_bytes,
        "memory: activations inside a block, all threads": needs.activation_bytes,
        "memory: scores and sorting of the largest matrix": needs.scoring_bytes,
        "memory: estimated peak (besides about 500 MB of libraries)": needs.peak_bytes,
        "disk: mask bundle": needs.bundle_bytes,
        "disk: calibration states while running": needs.resume_bytes,
    }.items():
        print(f"  {what:<60} {size / 1e6:>12,.1f} MB")
