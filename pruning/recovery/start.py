"""What training starts from: the model as the bundle leaves it, and the numbers behind its weights."""

import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import LinearRef
from checkpoints.network import Network
from checkpoints.opened import OpenModel
from checkpoints.prunable import all_refs, block_weights, parameter_name
from pruning.applied import apply_bundle
from pruning.bundle_values import read_factors, read_quantized
from pruning.evaluation.perplexity import check_predicts
from pruning.evaluation.whole_model import whole_model
from pruning.forward.blockwise import BlockwiseModel
from pruning.quantization_grid import Quantized
from pruning.recovery.factored_weights import FactoredWeight
from pruning.recovery.masked_adapters import MaskedAdapter
from pruning.recovery.masked_weights import FullWeight, MaskedWeight
from pruning.recovery.network_objective import OutputObjective
from pruning.recovery.objective import Objective
from pruning.recovery.plan import HIDDEN, KEPT, Plan
from pruning.recovery.ranks import ranks_by_importance, read_importance
from pruning.recovery.text_objective import TextObjective
from workloads.bundle import MaskBundle
from workloads.errors import NotForThisModel, UserError

OF_NETWORKS = 41  # the hidden size for whose default rate, 1e-3, networks that are no language models are trained


def load_student(checkpoint: OpenModel, masks: MaskBundle, recompute: bool) -> None:
    """The whole model with its masks and their weights. Raises UserError as `whole_model`, NotForThisModel where
    activations cannot be recomputed."""
    load_whole(checkpoint, masks)
    if recompute and isinstance(checkpoint, Checkpoint):
        recompute_activations(checkpoint)


def hidden_of(checkpoint: OpenModel) -> int:
    """The hidden size of a language model, HIDDEN where its config has none, OF_NETWORKS of other networks."""
    if not isinstance(checkpoint, Checkpoint):
        return OF_NETWORKS
    return getattr(checkpoint.config.get_text_config(), "hidden_size", HIDDEN)


def load_whole(checkpoint: OpenModel, masks: MaskBundle | None = None) -> None:
    """The whole model as its blocks are loaded, with `masks` if given, shared matrices one parameter. Raises UserError
    as `whole_model`."""
    if isinstance(checkpoint, Checkpoint):
        whole_model(checkpoint, masks).requires_grad_(False)
        tie_shared(checkpoint)
        return
    if masks is not None:
        apply_bundle(checkpoint, masks)
    for number in range(len(checkpoint.blocks)):
        checkpoint.load_block(number)


def put_away(checkpoint: OpenModel) -> None:
    """After training: gives the model's memory back, and takes back what loading it whole put into it."""
    for block in checkpoint.blocks:
        vars(block).pop("forward", None)
        block.requires_grad_(False)
    checkpoint.release(checkpoint.model)


def check_learns(checkpoint: OpenModel) -> None:
    """Raises UserError for a type that gradients vanish in, NotForThisModel for a language model that predicts no next
    token."""
    if checkpoint.dtype == torch.float16:
        raise UserError("small gradients vanish in float16; use `dtype=float32` or bfloat16")
    if not isinstance(checkpoint, Checkpoint):
        return
    check_predicts(checkpoint)
    if not BlockwiseModel(checkpoint).causal:
        raise NotForThisModel(f"{checkpoint.folder}: its tokens see later tokens, so it predicts none to be trained on")
    checkpoint.release(checkpoint.model)


def load_teacher(checkpoint: Checkpoint) -> Checkpoint:
    """The dense model, a second time in memory."""
    teacher = Checkpoint(checkpoint.folder, checkpoint.model.dtype, str(checkpoint.device))
    whole_model(teacher, None)
    return teacher


def objective_of(checkpoint: OpenModel, distill: str | None, weight: float) -> Objective:
    """What is lowered; with the dense model a second time in memory where a language model follows it."""
    if isinstance(checkpoint, Network):
        return OutputObjective(checkpoint)
    assert isinstance(checkpoint, Checkpoint)
    teacher = load_teacher(checkpoint) if distill is not None else None
    return TextObjective(checkpoint, teacher, distill, weight)


def trained_weights(
    checkpoint: OpenModel, masks: MaskBundle, plan: Plan, refs: list[list[LinearRef]], chosen: frozenset[str]
) -> list[MaskedWeight]:
    """Those of the chosen matrices, starting from what the loaded model has of them."""
    device = checkpoint.device
    guides = {}
    if plan.guide:
        assert isinstance(checkpoint, Checkpoint)
        guides = unpruned_weights(checkpoint, masks, chosen)
    ranks = ranks_of(masks, plan, refs, chosen) if plan.mode == "lora" else {}
    made: list[MaskedWeight] = []
    for number, block in enumerate(refs):
        for ref in block:
            if ref.layer.name not in chosen:
                continue
            name = ref.layer.name
            pair = read_factors(masks, name)
            if pair is not None:
                stored = checkpoint.stored_dtype(parameter_name(ref))
                own, other = (factor.to(device) for factor in pair)
                guide = guides[name].to(device) if plan.guide else None
                made.append(FactoredWeight(ref, (own, other), stored, guide))
                continue
            keep = torch.from_numpy(masks[name].to_dense()).to(device)
            grid = moved(read_quantized(masks, name), device)
            own = ref.matrix(checkpoint.blocks[number]).float() if grid is None else grid.dequantize()
            if plan.mode == "lora":
                made.append(MaskedAdapter(ref, keep, grid, own, ranks[number], plan.schedule.seed))
            else:
                made.append(FullWeight(ref, keep, grid, own))
    return made


def unpruned_weights(checkpoint: Checkpoint, masks: MaskBundle, chosen: frozenset[str]) -> dict[str, torch.Tensor]:
    """The model's own weights (rows, cols) float32 of the chosen products, by name."""
    dense = Checkpoint(checkpoint.folder, checkpoint.model.dtype)
    products = frozenset(name for name in chosen if masks.entry(name).factors is not None)
    return {
        layer.name: weight.clone()
        for number, block in enumerate(all_refs(dense))
        for layer, weight in block_weights(dense, [ref for ref in block if ref.layer.name in products], number)
    }


def moved(grid: Quantized | None, device: torch.device) -> Quantized | None:
    if grid is None:
        return None
    scaled = None if grid.input_scale is None else grid.input_scale.to(device)
    return Quantized(grid.grid, grid.codes.to(device), grid.scale.to(device), grid.zero.to(device), scaled)


def ranks_of(masks: MaskBundle, plan: Plan, refs: list[list[LinearRef]], chosen: frozenset[str]) -> dict[int, int]:
    """By the number of the block, of those with chosen matrices."""
    blocks = [number for number, block in enumerate(refs) if any(ref.layer.name in chosen for ref in block)]
    importance = [1.0] * len(blocks)
    if plan.importance == KEPT:
        entries = [[masks.entry(ref.layer.name) for ref in refs[n] if ref.layer.name in masks] for n in blocks]
        importance = [sum(e.nnz for e in found) / sum(e.unpruned.n_weights for e in found) for found in entries]
    elif plan.importance is not None:
        given = read_importance(plan.importance, len(refs))
        importance = [given[number] for number in blocks]
    return dict(zip(blocks, ranks_by_importance(plan.rank, importance), strict=True))


def tie_shared(checkpoint: Checkpoint) -> None:
    """Matrices that several blocks share become one parameter again, so that training moves all places at once."""
    for name, owner in checkpoint.shared.items():
        path, _, leaf = name.rpartition(".")
        checkpoint.model.get_submodule(path)._parameters[leaf] = checkpoint.model.get_parameter(owner)


def recompute_activations(checkpoint: Checkpoint) -> None:
    """Raises NotForThisModel where transformers cannot. Only the blocks themselves are told that they train, not what
    is in them, so that dropout stays off."""
    if not checkpoint.model.supports_gradient_checkpointing:
        raise NotForThisModel(
            f"{checkpoint.folder}: transformers cannot recompute activations of {type(checkpoint.model).__name__}; "
            "leave `recompute` out"
        )
    checkpoint.model.activation_checkpointing_enable({"use_reentrant": False})
    for block in checkpoint.blocks:
        block.training = True
