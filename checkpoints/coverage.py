"""How many of a model's matrices the tool prunes, and what becomes of the others. Needs torch and transformers."""

from collections import Counter
from dataclasses import dataclass, replace

from torch import nn
from transformers import PreTrainedModel

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import find_refs, find_stacks, is_router, shared_parameters

# Kinds of matrices that are left alone, and why.
WHY = {
    "embeddings": "looked up, not multiplied",
    "head": "its outputs are read one by one; pruned heads are not usual",
    "routers": "they choose experts, and are small",
    "convolutions": "not linears",
    "tables": "parameters that no linear multiplies: biases, states, gains",
    "outside the blocks": "towers of images or sounds, poolers, projections, classifiers",
}


@dataclass(frozen=True)
class Coverage:
    """Matrices counted singly, experts one by one, shared ones once. left: kind -> (matrices, weights), kinds of
    WHY."""

    handled: int
    handled_weights: int
    left: dict[str, tuple[int, int]]
    unused: tuple[str, ...] = ()  # keys of the files that the model has no place for

    @property
    def matrices(self) -> int:
        return self.handled + sum(count for count, _ in self.left.values())

    @property
    def facts(self) -> dict[str, object]:
        """What a bundle records of it."""
        left = {kind: count for kind, (count, _) in self.left.items()}
        return {
            "handled": self.handled,
            "in_model": self.matrices,
            "left": left,
            "tensors_not_in_model": len(self.unused),
        }

    @property
    def line(self) -> str:
        """One line for people."""
        left = "; ".join(f"{count} {kind} ({WHY[kind]})" for kind, (count, _) in self.left.items())
        unused = (
            f"; {len(self.unused)} tensors of the files are not in the model, e.g. {self.unused[0]}"
            if self.unused
            else ""
        )
        alone = f"; left alone: {left}" if left else ""
        return f"{self.handled} of {self.matrices} matrices are linears of its blocks{alone}{unused}"


def coverage(checkpoint: Checkpoint) -> Coverage:
    """What of a checkpoint the tool can prune."""
    return replace(model_coverage(checkpoint.model), unused=tuple(checkpoint.unused))


def model_coverage(model: PreTrainedModel) -> Coverage:
    """From shapes alone."""
    refs = [ref for block in find_refs(model) for ref in block]
    paths = [f"{stack.path}.{n}" for stack in find_stacks(model) for n in range(len(stack.blocks))]
    handled = {f"{paths[ref.layer.block]}.{ref.module_path}.{ref.parameter}" for ref in refs}
    shared, head = shared_parameters(model), model.get_output_embeddings()
    counts: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    seen: set[int] = set()
    for path, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            name = f"{path}.{leaf}"
            if parameter.ndim < 2 or name in handled or name in shared or id(parameter) in seen:
                continue
            seen.add(id(parameter))  # a head tied to the embeddings counts once
            kind = _kind(name, module, module is head, name.startswith(tuple(f"{path}." for path in paths)))
            counts[kind] += 1
            weights[kind] += parameter.numel()
    left = {kind: (counts[kind], weights[kind]) for kind in WHY if counts[kind]}
    return Coverage(len(refs), sum(ref.layer.n_weights for ref in refs), left)


def _kind(name: str, module: nn.Module, is_head: bool, inside: bool) -> str:
    if is_head:
        return "head"
    if isinstance(module, nn.Embedding):
        return "embeddings"
    if isinstance(module, nn.modules.conv._ConvNd):
        return "convolutions"
    if inside:
        return "routers" if is_router(name.rpartition(".")[0]) else "tables"
    return "outside the blocks" if isinstance(module, nn.Linear) else "tables"
