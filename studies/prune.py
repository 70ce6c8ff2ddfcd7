"""One pruning run, from names and numbers to a bundle and, on request, a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.coverage import coverage
from checkpoints.model_folder import find_model
from checkpoints.prunable import all_refs
from pruning.allocations import Allocation, find_allocation
from pruning.block_job import Warn
from pruning.data.calibration import read_calibration
from pruning.forward.hidden_states import Progress
from pruning.methods import choose_rule, find_method
from pruning.methods.method import PruningMethod
from pruning.quantizers import Quantization, check_bits, find_quantizer
from pruning.run.driver import prune
from pruning.run.estimate import estimate
from pruning.run.recipe import Recipe
from pruning.saving.dense import check_target, save_pruned
from pruning.saving.packed import check_packable, save_packed
from studies.masks import parse_values
from studies.settings import sparsity_of
from workloads.bundle import MaskBundle
from workloads.errors import UserError, unknown
from workloads.files import check_writable_folder
from workloads.locking import writing
from workloads.patterns import NofM
from workloads.selectors import EVERYTHING, Selection
from workloads.treatment import check_fallback

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SAVERS = {"dense": save_pruned, "packed": save_packed}


@dataclass(frozen=True)
class PruneSettings:
    """What to prune with, as the command line and study files say it. sets: "key=value" of the method's parameters,
    "quantizer.key=value" and "allocation.key=value" of the other two. quantizer None: the method's default; allocation None:
    the same sparsity everywhere."""

    method: str
    sparsity: float | None = None
    pattern: str = "unstructured"
    rule: str | None = None
    sets: Sequence[str] = ()
    bits: int | None = None
    group_size: int = 0
    quantizer: str | None = None
    allocation: str | None = None
    seed: int = 0
    selection: Selection = EVERYTHING
    fallback: str = "refuse"


def open_checkpoint(model: str, dtype: str, device: str = "cpu") -> Checkpoint:
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    return Checkpoint(find_model(model), DTYPES[dtype], device)


def model_name(model: str) -> str:
    """A folder's name, a GGUF file's without its ending, or a hub id as it is."""
    path = Path(model)
    return path.resolve().name if path.is_dir() else path.stem if path.is_file() else model


def check_settings(settings: PruneSettings) -> Recipe:
    """A recipe without model and calibration. Raises UserError for the first setting that cannot be."""
    kind = find_method(settings.method)
    if settings.seed < 0:
        raise UserError(f"--seed must not be negative, it is {settings.seed}")
    own, of_quantizer, of_allocation = split_values(parse_values(list(settings.sets)))
    method = kind.with_settings(own)
    pattern, sparsity = target_of(method, settings)
    rule = choose_rule(method, settings.rule)
    loose = settings.fallback == "unstructured"
    if pattern is not None and settings.rule is not None and (not loose or rule == "global"):
        raise UserError(f"pattern {pattern} decides within runs of {pattern.m}; --rule {rule} has no meaning with it")
    if pattern is None or loose:
        method.check(sparsity)
    check_fallback(settings.fallback, pattern is not None or settings.group_size > 0)
    quantization = quantization_of(method, settings, of_quantizer)
    allocation = allocation_of(method, rule, settings, of_allocation)
    return Recipe(
        "", method, sparsity, rule, pattern, None, settings.seed, allocation, quantization, settings.selection,
        settings.fallback,
    )  # fmt: skip


def split_values(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The method's, the quantizer's and the allocation's values, the last two without their prefixes."""
    parts: dict[str, dict[str, Any]] = {"": {}, "quantizer": {}, "allocation": {}}
    for key, value in values.items():
        prefix, _, rest = key.partition(".")
        if rest and prefix in parts:
            parts[prefix][rest] = value
        else:
            parts[""][key] = value
    return parts[""], parts["quantizer"], parts["allocation"]


def target_of(method: PruningMethod, settings: PruneSettings) -> tuple[NofM | None, float]:
    if method.prunes:
        return sparsity_of(settings.pattern, settings.sparsity)
    if settings.sparsity or settings.pattern != "unstructured":
        raise UserError(
            f"method {method.name} prunes nothing; leave --sparsity and --pattern out, or choose another method"
        )
    if settings.bits is None:
        raise UserError(f"method {method.name} prunes nothing; say how to quantize: --bits 4")
    return None, 0.0


def quantization_of(method: PruningMethod, settings: PruneSettings, values: dict[str, Any]) -> Quantization | None:
    if settings.bits is None:
        given = (
            "--quantizer"
            if settings.quantizer
            else "--group-size"
            if settings.group_size
            else values and "--set quantizer.KEY"
        )
        if given:
            raise UserError(f"{given} has no meaning without --bits: say how many, for example --bits 4")
        return None
    check_bits(settings.bits, settings.group_size)
    quantizer = find_quantizer(settings.quantizer or method.default_quantizer).with_settings(values)
    if method.changes_weights and quantizer.order == "quantize-first":
        raise UserError(f"{method.name} changes weights, quantize-first would lose that; use order=prune-first")
    return Quantization(quantizer, settings.bits, settings.group_size)


def allocation_of(
    method: PruningMethod, rule: str, settings: PruneSettings, values: dict[str, Any]
) -> Allocation | None:
    if settings.allocation is None:
        if values:
            raise UserError("--set allocation.KEY has no meaning without --allocation: say which, for example owl")
        return None
    kind = find_allocation(settings.allocation)
    if not method.prunes or rule == "global":
        what = f"the rule {rule}" if rule == "global" else f"method {method.name}"
        raise UserError(f"{what} leaves nothing to allocate; leave --allocation out")
    return kind.with_settings(values)


def make_recipe(
    model: str,
    checkpoint: Checkpoint,
    settings: PruneSettings,
    calibration: str | None,
    samples: int | None,
    seq_len: int | None,
) -> Recipe:
    """Checks every setting before anything runs. Raises UserError for the first that cannot be."""
    recipe = check_settings(settings)
    recipe.treatment([ref.layer for block in all_refs(checkpoint) for ref in block])
    drawn = None
    if recipe.needs_calibration:
        if calibration is None:
            raise UserError(
                f"{needy_part(recipe)} needs --calibration: a text, JSON lines, .npy token ids or a data set name"
            )
        drawn = read_calibration(calibration, checkpoint.folder, samples, seq_len, settings.seed)
    return replace(recipe, model_id=model_name(model), calibration=drawn)


def needy_part(recipe: Recipe) -> str:
    """Which part of a recipe asks for calibration data."""
    if recipe.method.needs:
        return recipe.method.name
    if recipe.quantization is not None and recipe.quantization.quantizer.needs:
        return f"the quantizer {recipe.quantization.quantizer.name}"
    assert recipe.allocation is not None
    return f"the allocation {recipe.allocation.name}"


def run_prune(
    checkpoint: Checkpoint,
    recipe: Recipe,
    out: Path,
    save_model: Path | None,
    save_format: str,
    progress: Progress,
    warn: Warn,
) -> MaskBundle:
    """Writes the bundle and, if `save_model` is given, the checkpoint in the format "dense" or "packed"."""
    if save_format not in SAVERS:
        raise unknown("format of --save-model", save_format, SAVERS)
    if save_model is not None:
        if save_model.resolve() == out.resolve():
            raise UserError(f"--out and --save-model are both {out}; masks and checkpoint need folders of their own")
        check_target(save_model, checkpoint.folder)
        with writing(save_model):
            check_writable_folder(save_model)
            return prune_and_save(checkpoint, recipe, out, save_model, save_format, progress, warn)
    if save_format != "dense":
        raise UserError(f"--save-format {save_format} needs a folder: --save-model DIR")
    return prune(checkpoint, recipe, out, progress, warn)


def prune_and_save(
    checkpoint: Checkpoint,
    recipe: Recipe,
    out: Path,
    save_model: Path,
    save_format: str,
    progress: Progress,
    warn: Warn,
) -> MaskBundle:
    if save_format == "packed":
        if recipe.quantization is None:
            raise UserError("--save-format packed holds quantized weights; say how many bits, for example --bits 4")
        scaled = getattr(recipe.quantization.quantizer, "scale_search", False)
        treatment = recipe.treatment([ref.layer for block in all_refs(checkpoint) for ref in block])
        if treatment.ungrouped and recipe.quantization.group_size:
            raise UserError(
                f"a packed checkpoint has one grid, but {len(treatment.ungrouped)} matrices cannot take groups of "
                f"{recipe.quantization.group_size}; choose a divisor, --fallback skip, or save the dense checkpoint instead"
            )
        check_packable(checkpoint, recipe.quantization.grid(torch.float32), scaled, treatment.treated)
    bundle = prune(checkpoint, recipe, out, progress, warn)
    SAVERS[save_format](checkpoint.folder, bundle, save_model, progress)
    return bundle


def print_estimate(checkpoint: Checkpoint, recipe: Recipe) -> None:
    """The dry run: needs in MB (1e6 bytes) on stdout."""
    needs = estimate(checkpoint, recipe)
    print(f"{recipe.model_id}: {needs.layers} linears, {needs.weights:,} weights in {len(checkpoint.blocks)} blocks")
    if needs.treated < needs.layers:
        print(f"  {needs.treated} linears are chosen, {needs.treated_weights:,} weights; the others stay dense")
    print(f"  {coverage(checkpoint).line}")
    for what, size in {
        "memory: outside the blocks (embeddings, head)": needs.outside_bytes,
        "memory: largest block": needs.block_bytes,
        "memory: calibration states, before and after a block": needs.hidden_bytes,
        "memory: activations inside a block, all threads": needs.activation_bytes,
        "memory: scores, Hessians or training of the largest block": needs.method_bytes,
        "memory: estimated peak (besides about 500 MB of libraries)": needs.peak_bytes,
        "disk: mask bundle": needs.bundle_bytes,
        "disk: states and gradients while running": needs.resume_bytes,
    }.items():
        print(f"  {what:<60} {size / 1e6:>12,.1f} MB")
