"""What structured pruning saves: parameters, their bytes and those of the KV cache, before and after."""

from dataclasses import dataclass

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import LinearRef, find_refs
from checkpoints.prunable import parameter_name
from pruning.bundle_values import read_biases
from workloads.bundle import MaskBundle
from workloads.layers import Layer
from workloads.removal import Removal


@dataclass(frozen=True)
class Size:
    """`weight_bytes` in the types the files hold, `kv_bytes` of the keys and values of one token in all blocks, in the
    type of the weights that make them; 0 where the model has no known ones. Biases of zeros that a plain folder may
    need besides are not counted."""

    parameters: int
    weight_bytes: int
    kv_bytes: int


@dataclass(frozen=True)
class Sizes:
    """`matrix_sparsity`: zeros and what was taken out / weights of the pruned matrices; `sparsity`: / all parameters,
    embeddings included, a tied head and its embeddings counted once."""

    before: Size
    after: Size
    matrix_sparsity: float
    sparsity: float

    @property
    def line(self) -> str:
        """One line for people; MB are 1e6 bytes."""
        one, other = self.before, self.after
        kv = f", KV cache {one.kv_bytes:,} -> {other.kv_bytes:,} B a token" if one.kv_bytes else ""
        return (
            f"{one.parameters:,} -> {other.parameters:,} parameters, {one.weight_bytes / 1e6:,.1f} -> "
            f"{other.weight_bytes / 1e6:,.1f} MB{kv}; sparsity {self.matrix_sparsity:.1%} of the pruned matrices, "
            f"{self.sparsity:.1%} of all parameters"
        )


def sizes(checkpoint: Checkpoint, masks: MaskBundle) -> Sizes:
    """Of a checkpoint of which nothing was taken out yet. Raises UserError if the bundle is of another model."""
    refs = find_refs(checkpoint.model)
    removal = masks.removal
    before = _size(checkpoint, refs, Removal(), frozenset())
    added = frozenset(name for name in read_biases(masks) if f"{name}.bias" not in checkpoint.sources)
    after = _size(checkpoint, refs, removal, added)
    zeros = sum(entry.layer.n_weights - entry.nnz for entry in masks.layers)
    return Sizes(before, after, masks.sparsity, 1 - (after.parameters - zeros) / before.parameters)


def _size(checkpoint: Checkpoint, refs: list[list[LinearRef]], removal: Removal, added: frozenset[str]) -> Size:
    counts = _counts(checkpoint)
    gone = tuple(f"{checkpoint.block_paths[number]}." for number in removal.blocks)
    gone += tuple(f"{path}." for path in removal.sublayers)
    counts = {name: count for name, count in counts.items() if not (gone and name.startswith(gone))}
    kv = 0
    for block in refs:
        left = {ref.layer.name: removal.left(ref.layer) for ref in block}
        for ref in block:
            layer = left[ref.layer.name]
            if layer is None:
                continue
            counts[parameter_name(ref)] -= ref.layer.n_weights - layer.n_weights
            bias = f"{ref.layer.name}.bias" if ref.expert is None else f"{parameter_name(ref)}_bias"
            if bias in counts:
                counts[bias] -= ref.layer.out_features - layer.out_features
            elif ref.layer.name in added:
                counts[bias] = layer.out_features
        item = _bytes(checkpoint, parameter_name(block[0])) if block else 0
        kv += item * _kv_values([layer for layer in left.values() if layer is not None])
    size = sum(count * _bytes(checkpoint, name) for name, count in counts.items())
    return Size(sum(counts.values()), size, kv)


def _counts(checkpoint: Checkpoint) -> dict[str, int]:
    """Numbers of values by parameter, those that share memory under the name that the files know."""
    tied = getattr(checkpoint.model, "all_tied_weights_keys", {})
    found: dict[str, int] = {}
    seen: set[int] = set()
    for name, parameter in checkpoint.model.named_parameters(remove_duplicate=False):
        if id(parameter) in seen or name in checkpoint.shared or name in tied:
            continue
        seen.add(id(parameter))
        found[name] = parameter.numel()
    return found


def _bytes(checkpoint: Checkpoint, name: str) -> int:
    """Of one value, as the files hold it: of a new bias as its weight is."""
    for known in (name, f"{name.removesuffix('bias')}weight"):
        if known in checkpoint.sources:
            return checkpoint.stored_dtype(known).itemsize
    return checkpoint.model.dtype.itemsize


def _kv_values(layers: list[Layer]) -> int:
    """Of one token in one block: the rows of k and v."""
    by_role = {layer.role: layer for layer in layers}
    if {"k", "v"} <= by_role.keys():
        return by_role["k"].out_features + by_role["v"].out_features
    if {"qkv", "o"} <= by_role.keys():
        return by_role["qkv"].out_features - by_role["o"].in_features
    return 0
