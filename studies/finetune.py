"""Fine-tuning, from names and settings to a trained bundle and, on request, a checkpoint."""

import math
from pathlib import Path

from checkpoints.checkpoint import Checkpoint
from checkpoints.opened import OpenModel
from pruning.block_job import Warn
from pruning.forward.hidden_states import Progress
from pruning.recovery.finetune import finetune, read_history
from pruning.recovery.plan import Plan
from pruning.saving.dense import check_ordinary, check_target
from pruning.saving.packed_smaller import packable_form
from studies.prune import SAVE_FORMATS, check_form, check_network_form, save_of
from workloads.bundle import MaskBundle
from workloads.errors import UserError, unknown
from workloads.files import check_writable_folder
from workloads.locking import writing
from workloads.patterns import SMALLER


def run_finetune(
    checkpoint: OpenModel, masks: MaskBundle, plan: Plan, out: Path, save_model: Path | None, save_format: str,
    progress: Progress, warn: Warn,
) -> MaskBundle:  # fmt: skip
    """Writes the trained bundle and, if `save_model` is given, the checkpoint in one of SAVE_FORMATS."""
    if save_format not in SAVE_FORMATS:
        raise unknown("`save_format`", save_format, SAVE_FORMATS)
    check_form(save_format, SMALLER if masks.is_smaller else masks.header.pattern, masks.header.method)
    if save_format == "packed" and masks.is_smaller and isinstance(checkpoint, Checkpoint):
        packable_form(checkpoint, masks)
    if save_model is None:
        if save_format != "dense":
            raise UserError(f"`save_format={save_format}` needs a folder: `save_model`")
        return finetune(checkpoint, masks, plan, out, progress, warn)
    check_network_form(checkpoint, save_format)
    if save_model.resolve() == out.resolve():
        raise UserError(f"`out` and `save_model` are both {out}; masks and checkpoint need folders of their own")
    check_target(save_model, checkpoint.folder)
    if save_format != "dense" and isinstance(checkpoint, Checkpoint):
        check_ordinary(checkpoint.folder)
    with writing(save_model):
        check_writable_folder(save_model)
        bundle = finetune(checkpoint, masks, plan, out, progress, warn)
        save_of(checkpoint, bundle, save_model, save_format, progress)
    return bundle


def result_text(bundle: MaskBundle, warn: Warn) -> str:
    """ "held-out loss 2.1000 -> 1.5000 (perplexity 8.17 -> 4.48) in 200 steps"; warns where nothing was gained."""
    looks = read_history(bundle)
    kept = looks[-1]
    if bundle.header.parameters["finetune"][-1].get("patience") is not None:
        kept = min(looks, key=lambda look: look.held_out_loss)
    before, after = looks[0].held_out_loss, kept.held_out_loss
    if after >= before:
        warn(f"the held-out loss did not fall: {before:.4f} before, {after:.4f} after; try another `lr` or more text")
    if "samples" in bundle.header.parameters["finetune"][-1]["text"]:  # no language model
        return f"held-out distance from the unpruned network {before:.4g} -> {after:.4g} in {kept.step} steps"
    perplexities = " -> ".join(f"{math.exp(min(loss, 700.0)):.4g}" for loss in (before, after))
    return f"held-out loss {before:.4f} -> {after:.4f} (perplexity {perplexities}) in {kept.step} steps"
