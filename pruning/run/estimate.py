"""What a pruning run will need, before it starts."""

from dataclasses import dataclass

from checkpoints.checkpoint import Checkpoint
from pruning.evidence.needs import GRADIENTS, Need
from pruning.forward.hidden_states import BATCH_TOKENS
from pruning.methods.structured.method import StructuredMethod
from pruning.parallel import worker_count
from pruning.run.calibrated import spans
from pruning.run.recipe import Recipe
from workloads.layers import Layer
from workloads.patterns import FACTORED


@dataclass(frozen=True)
class Estimate:
    """Peak memory by part, in bytes, and what is written."""

    layers: int
    weights: int
    treated: int  # layers that the recipe is for
    treated_weights: int
    outside_bytes: int  # embeddings, norms, head
    block_bytes: int  # the largest block; all of them where the whole model is run
    hidden_bytes: int  # calibration states, old and new
    activation_bytes: int  # inside a block, all threads
    method_bytes: int  # what the method holds of a block beside its weights
    bundle_bytes: int  # on disk
    resume_bytes: int  # on disk while running

    @property
    def peak_bytes(self) -> int:
        return self.outside_bytes + self.block_bytes + self.hidden_bytes + self.activation_bytes + self.method_bytes


def estimate(checkpoint: Checkpoint, recipe: Recipe) -> Estimate:
    """From shapes alone; no weights are read. Activations are counted as 8 vectors of the widest layer a token, three
    times as many where a method trains."""
    refs = recipe.refs(checkpoint)
    layers = [ref.layer for block in refs for ref in block]
    treatment = recipe.treatment(layers)
    treated = [layer for layer in layers if layer.name in treatment.treated]
    by_block = [[ref.layer for ref in block if ref.layer.name in treatment.treated] for block in refs]
    itemsize = checkpoint.model.dtype.itemsize
    inside = {id(p) for block in checkpoint.blocks for p in block.parameters()}
    outside = sum(p.numel() for p in checkpoint.model.parameters() if id(p) not in inside)
    sizes = [sum(p.numel() for p in b.parameters()) for b in checkpoint.blocks]
    together = spans(0, len(sizes), [0], recipe.method.together)
    block = sum(sizes) if runs_whole(recipe) else max(sum(sizes[n] for n in numbers) for numbers in together)
    by_span = [[layer for n in numbers for layer in by_block[n]] for numbers in together]
    hidden = activations = 0
    learns = bool(recipe.needs & {Need.OUTPUTS, Need.DENSE})
    differentiates = bool(recipe.needs & GRADIENTS)
    if recipe.calibration is not None:
        tokens = recipe.calibration.ids.numel()
        hidden = tokens * checkpoint.config.get_text_config().hidden_size * itemsize
        width = max(max(layer.shape) for layer in layers)
        activations = (
            max(map(len, together))
            * 8
            * max(BATCH_TOKENS, recipe.calibration.ids.shape[1])
            * width
            * itemsize
            * worker_count()
        )
    weights = sum(layer.n_weights for layer in layers)
    streams = 2 + learns + 2 * (Need.DENSE in recipe.needs)
    resume = hidden * len(refs) + 4 * sum(layer.n_weights for layer in treated) if differentiates else 0
    return Estimate(
        layers=len(layers),
        weights=weights,
        treated=len(treated),
        treated_weights=sum(layer.n_weights for layer in treated),
        outside_bytes=outside * itemsize if recipe.calibration is not None else 0,
        block_bytes=block * itemsize,
        hidden_bytes=streams * hidden,
        activation_bytes=(3 if learns else 1) * activations,
        method_bytes=max(method_bytes(recipe, layers) for layers in by_span if layers)
        + training_bytes(recipe, checkpoint, treated),
        bundle_bytes=sum(layer.out_features * 8 * -(-layer.in_features // 64) for layer in layers)
        + values_bytes(recipe, treated, itemsize),
        resume_bytes=2 * hidden
        + resume
        + (13 * sum(layer.n_weights for layer in treated) if recipe.method.trains else 0),
    )


def runs_whole(recipe: Recipe) -> bool:
    """Whether the whole model is in memory at once."""
    return recipe.method.trains or (isinstance(recipe.method, StructuredMethod) and recipe.method.searches)


def method_bytes(recipe: Recipe, layers: list[Layer]) -> int:
    """Scores and sorting of the largest matrix (16 bytes a weight; 48 where it is factorized); Hessians in float32,
    summed up, one more a thread, and three of the largest while it is factorised; copies, ranks and gradients of a
    block's weights in training; gradient sums."""
    largest = max(layer.n_weights for layer in layers)
    total = (48 if recipe.method.leaves == FACTORED else 16) * largest
    if Need.HESSIAN in recipe.needs:
        inputs = {(layer.in_features, layer.role if layer.role in ("o", "down", "fc2") else "in") for layer in layers}
        squares = [4 * width * width for width, _ in inputs]
        total += (1 + worker_count()) * sum(squares) + 3 * max(squares)
    weights = sum(layer.n_weights for layer in layers)
    if recipe.needs & {Need.OUTPUTS, Need.DENSE}:
        total += (4 + 2) * weights + 12 * largest
    if recipe.needs & GRADIENTS:
        total += (1 + worker_count()) * 4 * weights
    return total


def training_bytes(recipe: Recipe, checkpoint: Checkpoint, treated: list[Layer]) -> int:
    """Of a method that trains: for every treated weight the number, its gradient and two moments in float32, its mask
    and its score, and a gradient more a thread; the dense model once more where it is followed."""
    if not recipe.method.trains:
        return 0
    weights = sum(layer.n_weights for layer in treated)
    dense = sum(p.numel() for p in checkpoint.model.parameters()) * checkpoint.model.dtype.itemsize
    follows = getattr(recipe.method, "distill", "none") != "none"
    return (21 + 4 * worker_count()) * weights + (dense if follows else 0)


def values_bytes(recipe: Recipe, layers: list[Layer], itemsize: int) -> int:
    """On disk, for weights the method makes: floats, or codes with a float32 scale and a zero point of a byte a
    group."""
    weights = sum(layer.n_weights for layer in layers)
    if recipe.quantization is None:
        return weights * itemsize if recipe.method.changes_weights else 0
    size = recipe.quantization.group_size
    groups = sum(layer.n_weights // (size or layer.in_features) for layer in layers)
    return 5 * groups + (weights // 2 if recipe.quantization.bits <= 4 else weights)
