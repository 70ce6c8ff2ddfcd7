"""A model with all its weights in memory, as masks leave them."""

from transformers import PreTrainedModel

from checkpoints.checkpoint import Checkpoint
from pruning.applied import apply_bundle
from pruning.evaluation.perplexity import check_predicts
from pruning.forward.blockwise import BlockwiseModel
from workloads.bundle import MaskBundle


def whole_model(checkpoint: Checkpoint, masks: MaskBundle | None) -> PreTrainedModel:
    """The checkpoint's model with all its weights in memory, and `masks` applied if given; without what they take out,
    where they do.

    Raises UserError if the masks are not of this model, or a weight is missing.
    """
    check_predicts(checkpoint)
    if masks is not None:
        apply_bundle(checkpoint, masks)
    gone = checkpoint.removal.blocks
    blockwise = BlockwiseModel(checkpoint) if gone else None
    checkpoint.load_rest()
    for number in range(len(checkpoint.blocks)):
        block = checkpoint.load_block(number)
        if blockwise is not None and number in gone:
            block.forward = blockwise.hand_through(number)  # type: ignore[method-assign]
    return checkpoint.model
