"""A model with all its weights in memory, as masks leave them."""

from transformers import PreTrainedModel

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs, shared_refs
from pruning.evaluation.perplexity import apply_masks, check_masks, check_predicts
from workloads.bundle import MaskBundle


def whole_model(checkpoint: Checkpoint, masks: MaskBundle | None) -> PreTrainedModel:
    """The checkpoint's model with all its weights in memory, and `masks` applied if given.

    Raises UserError if the masks are not of this model, or a weight is missing.
    """
    check_predicts(checkpoint)
    refs = all_refs(checkpoint)
    if masks is not None:
        check_masks(refs, masks)
    checkpoint.load_rest()
    for number in range(len(checkpoint.blocks)):
        block = checkpoint.load_block(number)
        if masks is not None:
            apply_masks(checkpoint, block, [*refs[number], *shared_refs(checkpoint, number)], masks)
    return checkpoint.model
