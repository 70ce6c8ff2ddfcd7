"""What a pruning run will need, before it starts."""

from dataclasses import dataclass

from pruning.driver import BATCH_TOKENS, Recipe, all_refs
from pruning.parallel import worker_count
from workloads.checkpoint import Checkpoint


@dataclass(frozen=True)
class Estimate:
    """Peak memory by part, in bytes, and what is written."""

    layers: int
    weights: int
    outside_bytes: int  # embeddings, norms, head
    block_bytes: int  # the largest block
    hidden_bytes: int  # calibration states, old and new
    activation_bytes: int  # inside a block, all threads
    scoring_bytes: int  # scores, sort and mask of the largest matrix
    bundle_bytes: int  # on disk
    resume_bytes: int  # on disk while running

    @property
    def peak_bytes(self) -> int:
        return self.outside_bytes + self.block_bytes + self.hidden_bytes + self.activation_bytes + self.scoring_bytes


def estimate(checkpoint: Checkpoint, recipe: Recipe) -> Estimate:
    """From shapes alone; no weights are read. Activations are counted as 8 vectors of the widest layer a token."""
    refs = all_refs(checkpoint)
    layers = [ref.layer for block in refs for ref in block]
    itemsize = checkpoint.model.dtype.itemsize
    inside = {id(p) for p in checkpoint.blocks.parameters()}
    outside = sum(p.numel() for p in checkpoint.model.parameters() if id(p) not in inside)
    block = max(sum(p.numel() for p in b.parameters()) for b in checkpoint.blocks)
    widest = max(layers, key=lambda layer: layer.n_weights)
    hidden = activations = 0
    if recipe.calibration is not None:
        tokens = recipe.calibration.ids.numel()
        hidden = tokens * checkpoint.config.get_text_config().hidden_size * itemsize
        width = max(max(layer.shape) for layer in layers)
        activations = 8 * max(BATCH_TOKENS, recipe.calibration.ids.shape[1]) * width * itemsize * worker_count()
    return Estimate(
        layers=len(layers),
        weights=sum(layer.n_weights for layer in layers),
        outside_bytes=outside * itemsize if recipe.calibration is not None else 0,
        block_bytes=block * itemsize,
        hidden_bytes=2 * hidden,
        activation_bytes=activations,
        scoring_bytes=16 * widest.n_weights,
        bundle_bytes=sum(layer.out_features * 8 * -(-layer.in_features // 64) for layer in layers),
        resume_bytes=2 * hidden,
    )
