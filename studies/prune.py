"""One pruning run, from names and numbers to a bundle and, on request, a checkpoint."""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.coverage import coverage
from checkpoints.network import Network
from checkpoints.opened import OpenModel
from pruning.applied import refs_of
from pruning.block_job import Warn
from pruning.config import CalibrationConfig, PruneConfig
from pruning.data.calibration import Calibration
from pruning.families import family_of, find_family
from pruning.forward.hidden_states import Progress
from pruning.networks import is_network
from pruning.run.base import Base, check_base
from pruning.run.driver import prune
from pruning.run.estimate import estimate, runs_whole
from pruning.run.make_recipe import make_recipe
from pruning.run.recipe import Recipe
from pruning.saving.dense import check_ordinary, check_target, save_pruned
from pruning.saving.factored import save_factored
from pruning.saving.network import save_network
from pruning.saving.packed import check_packable, save_packed
from pruning.saving.packed_smaller import packable_form, save_packed_smaller
from pruning.saving.smaller import save_smaller
from studies.ahead import prune_work, span_of
from studies.progress import duration
from workloads.bundle import MaskBundle
from workloads.errors import UserError, unknown
from workloads.files import check_writable_folder
from workloads.locking import writing
from workloads.patterns import FACTORED, SMALLER

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SAVE_FORMATS = ("dense", "padded", "factored", "packed")


def open_checkpoint(model: str, dtype: str, device: str = "cpu") -> Checkpoint:
    """Raises UserError for what is no model of transformers."""
    if is_network(model):
        raise UserError(
            f"{model} is no model of transformers, which this needs; it can be pruned, evaluated and simulated"
        )
    opened = open_model(model, dtype, device)
    assert isinstance(opened, Checkpoint)
    return opened


def open_model(model: str, dtype: str, device: str = "cpu") -> OpenModel:
    """Of any family (docs/networks.md)."""
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    family, text = find_family(model)
    return family.open(text, DTYPES[dtype], device)


def model_name(model: str) -> str:
    """A folder's name, a GGUF file's without its ending, or a hub id as it is."""
    path = Path(model)
    return path.resolve().name if path.is_dir() else path.stem if path.is_file() else model


def recipe_for(model: str, checkpoint: OpenModel, asked: PruneConfig, data: CalibrationConfig | Calibration) -> Recipe:
    """Checks every setting before anything runs; `data` may be drawn already. Raises UserError for the first that
    cannot be."""
    recipe = make_recipe(asked)
    if asked.after is not None:
        base = MaskBundle.open(asked.after)
        refs_of(checkpoint, base)
        recipe = replace(recipe, base=Base(base))
    recipe.treatment([ref.layer for block in recipe.refs(checkpoint) for ref in block])
    drawn: Calibration | None = None
    if recipe.needs_calibration:
        if isinstance(data, Calibration):
            drawn = data
        else:
            drawn = family_of(checkpoint).calibration(checkpoint, data, recipe.seed)
        if drawn is None:
            raise UserError(
                f"{needy_part(recipe)} needs `calibration`: a text, JSON lines, .npy token ids or a data set name"
            )
    return replace(recipe, model_id=model_name(model), calibration=drawn)


def needy_part(recipe: Recipe) -> str:
    """Which part of a recipe asks for calibration data."""
    if recipe.method.needs or recipe.method.trains:
        return recipe.method.name
    if recipe.quantization is not None and recipe.quantization.quantizer.needs:
        return f"the quantizer {recipe.quantization.quantizer.name}"
    assert recipe.allocation is not None
    return f"the allocation {recipe.allocation.name}"


def run_prune(
    checkpoint: OpenModel,
    recipe: Recipe,
    out: Path,
    save_model: Path | None,
    save_format: str,
    progress: Progress,
    warn: Warn,
) -> MaskBundle:
    """Writes the bundle and, if `save_model` is given, the checkpoint in one of SAVE_FORMATS."""
    if save_format not in SAVE_FORMATS:
        raise unknown("`save_format`", save_format, SAVE_FORMATS)
    if left := family_of(checkpoint).left_dense(checkpoint):
        warn(left)
    if save_model is not None:
        check_network_form(checkpoint, save_format)
        if save_model.resolve() == out.resolve():
            raise UserError(f"`out` and `save_model` are both {out}; masks and checkpoint need folders of their own")
        check_target(save_model, checkpoint.folder)
        with writing(save_model):
            check_writable_folder(save_model)
            return prune_and_save(checkpoint, recipe, out, save_model, save_format, progress, warn)
    if save_format != "dense":
        raise UserError(f"`save_format={save_format}` needs a folder: `save_model`")
    return prune(checkpoint, recipe, out, progress, warn)


def prune_and_save(
    checkpoint: OpenModel,
    recipe: Recipe,
    out: Path,
    save_model: Path,
    save_format: str,
    progress: Progress,
    warn: Warn,
) -> MaskBundle:
    if not isinstance(checkpoint, Checkpoint):
        bundle = prune(checkpoint, recipe, out, progress, warn)
        save_of(checkpoint, bundle, save_model, save_format, progress)
        return bundle
    masks = recipe.base.masks
    is_smaller = masks is not None and masks.is_smaller
    check_form(save_format, SMALLER if is_smaller else recipe.method.leaves, recipe.method.name)
    if save_format != "dense":
        check_ordinary(checkpoint.folder)
    if save_format == "packed":
        if recipe.quantization is None:
            raise UserError("`save_format=packed` holds quantized weights; say how many bits, for example `bits=4`")
        scaled = getattr(recipe.quantization.quantizer, "scale_search", False)
        refs = [ref for block in recipe.refs(checkpoint) for ref in block]
        treatment = recipe.treatment([ref.layer for ref in refs])
        if treatment.ungrouped and recipe.quantization.group_size:
            raise UserError(
                f"a packed checkpoint has one grid, but {len(treatment.ungrouped)} matrices cannot take groups of "
                f"{recipe.quantization.group_size}; choose a divisor, `fallback=skip`, or save the dense checkpoint "
                "instead"
            )
        check_packable(checkpoint, refs, recipe.quantization.grid(torch.float32), scaled, treatment.treated)
        if masks is not None and is_smaller:
            packable_form(checkpoint, masks)
    bundle = prune(checkpoint, recipe, out, progress, warn)
    save(checkpoint.folder, bundle, save_model, save_format, progress)
    return bundle


def check_form(save_format: str, leaves: str, method: str) -> None:
    """Raises UserError for padding where nothing is taken out (`leaves`: the pattern of what is left), and for factors
    where there are none."""
    if save_format == "padded" and leaves != SMALLER:
        raise UserError(
            f"`save_format=padded` is for what structured pruning leaves; {method} takes nothing out, save the dense "
            "checkpoint"
        )
    if save_format == "factored" and leaves != FACTORED:
        raise UserError(f"`save_format=factored` is for factors; {method} makes none, save the dense checkpoint")


def check_network_form(checkpoint: OpenModel, save_format: str) -> None:
    """Raises UserError for a network in another form than the one there is, and for what is no torch module."""
    if isinstance(checkpoint, Checkpoint):
        return
    if not isinstance(checkpoint, Network):
        raise UserError(f"`save_model`: {checkpoint.folder} is no torch module whose weights can be saved")
    if save_format != "dense":
        raise UserError(f"`save_format={save_format}` is of models of transformers; {checkpoint.folder} is saved dense")


def save_of(checkpoint: OpenModel, bundle: MaskBundle, folder: Path, save_format: str, progress: Progress) -> None:
    """Writes what a bundle makes of an open model."""
    if isinstance(checkpoint, Checkpoint):
        save(checkpoint.folder, bundle, folder, save_format, progress)
    else:
        assert isinstance(checkpoint, Network)
        save_network(checkpoint, bundle, folder)


def save(source: Path, bundle: MaskBundle, folder: Path, save_format: str, progress: Progress) -> None:
    """Writes the pruned checkpoint, and on stderr what structured pruning's became."""
    if save_format == "packed":
        (save_packed_smaller if bundle.is_smaller else save_packed)(source, bundle, folder, progress)
    elif save_format == "factored":
        save_factored(source, bundle, folder, progress)
        sys.stderr.write(f"wrote {folder}: a folder for ps.load_pruned, not for AutoModel (it has no such layers)\n")
    elif bundle.is_smaller:
        became = save_smaller(source, bundle, folder, progress, save_format == "padded")
        sys.stderr.write(f"wrote {folder}: {became}\n")
    else:
        save_pruned(source, bundle, folder, progress)


def print_estimate(checkpoint: OpenModel, recipe: Recipe) -> None:
    """The dry run: needs in MB (1e6 bytes) on stdout. Raises UserError for a base bundle that the run would refuse."""
    if not isinstance(checkpoint, Checkpoint):
        raise UserError(f"{checkpoint.folder} is whole in memory; memory is estimated of models of transformers alone")
    check_base(recipe.base, checkpoint, recipe.method)
    needs = estimate(checkpoint, recipe)
    print(f"{recipe.model_id}: {needs.layers} linears, {needs.weights:,} weights in {len(checkpoint.blocks)} blocks")
    if needs.treated < needs.layers:
        print(f"  {needs.treated} linears are chosen, {needs.treated_weights:,} weights; the others stay dense")
    print(f"  {coverage(checkpoint).line}")
    for what, size in {
        "memory: outside the blocks (embeddings, head)": needs.outside_bytes,
        "memory: all blocks" if runs_whole(recipe) else "memory: largest block": needs.block_bytes,
        "memory: calibration states, before and after a block": needs.hidden_bytes,
        "memory: activations inside a block, all threads": needs.activation_bytes,
        "memory: scores, Hessians or training of the largest block": needs.method_bytes,
        "memory: estimated peak (besides about 500 MB of libraries)": needs.peak_bytes,
        "disk: mask bundle": needs.bundle_bytes,
        "disk: states and gradients while running": needs.resume_bytes,
    }.items():
        print(f"  {what:<60} {size / 1e6:>12,.1f} MB")
    work = prune_work(checkpoint, recipe)
    if work is None:
        print(f"  time: {recipe.method.name} shows it as it goes")
        return
    least_s, most_s, why = span_of(work, checkpoint.device, checkpoint.dtype)
    print(f"  time: {f'{duration(least_s)} to {duration(most_s)} ({why})' if why else 'seconds'}")
