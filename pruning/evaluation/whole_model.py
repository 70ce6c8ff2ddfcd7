"""A model with all its weights in memory, as masks leave them."""

from transformers import PreTrainedModel

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs, shared_refs
from pruning.bundle_values import read_biases
from pruning.evaluation.perplexity import apply_masks, check_masks, check_predicts, check_removal
from pruning.forward.blockwise import BlockwiseModel
from workloads.bundle import MaskBundle


def whole_model(checkpoint: Checkpoint, masks: MaskBundle | None) -> PreTrainedModel:
    """The checkpoint's model with all its weights in memory, and `masks` applied if given; without what they take out,
    where they do.

    Raises UserError if the masks are not of this model, or a weight is missing.
    """
    check_predicts(checkpoint)
    blockwise = None
    if masks is not None and masks.is_smaller:
        check_removal(checkpoint, masks)
        blockwise = BlockwiseModel(checkpoint)
        checkpoint.take_out(masks.removal, read_biases(masks))
    refs = all_refs(checkpoint)
    if masks is not None:
        check_masks(refs, masks)
    checkpoint.load_rest()
    for number in range(len(checkpoint.blocks)):
        block = checkpoint.load_block(number)
        if number in checkpoint.removal.blocks:
            assert blockwise is not None
            block.forward = blockwise.hand_through(number)  # type: ignore[method-assign]
            continue
        if masks is not None:
            apply_masks(checkpoint, block, [*refs[number], *shared_refs(checkpoint, number)], masks)
    return checkpoint.model
