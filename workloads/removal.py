"""What structured pruning takes out of a decoder, and the shapes that are left.

Axes are coupled: a kv group is its rows of k and v, its query heads' rows of q and their columns of o; an FFN neuron is
its row of gate and up and its column of down; a block is everything in it. The model's output without them is that with
their part of o's or down's input at zero."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from workloads.errors import UserError
from workloads.layers import Layer

NOTHING: frozenset[int] = frozenset()
ATTENTION = ("q", "k", "v", "qkv", "o")
FFN_ROWS = {"gate": 1, "up": 1, "fc1": 1, "gate_up": 2}  # how many runs of neurons the outputs are
FFN_COLUMNS = ("down", "fc2")


@dataclass(frozen=True)
class Heads:
    """Of the attention of every block; `heads` / `kv_heads` query heads share a key and value head."""

    heads: int
    kv_heads: int
    head_features: int

    def __post_init__(self) -> None:
        if min(self.heads, self.kv_heads, self.head_features) < 1 or self.heads % self.kv_heads:
            raise UserError(f"{self.heads} heads do not share {self.kv_heads} key and value heads evenly")


@dataclass(frozen=True)
class Removal:
    """Numbers of whole blocks, and by block of kv groups and of FFN neurons."""

    blocks: frozenset[int] = NOTHING
    kv_groups: Mapping[int, frozenset[int]] = field(default_factory=dict)
    neurons: Mapping[int, frozenset[int]] = field(default_factory=dict)

    def kept(self, layer: Layer, heads: Heads) -> tuple[np.ndarray, np.ndarray]:
        """(out_features,) and (in_features,) bool, True = stays. Raises UserError for a matrix that the heads do not
        fit, numbers that the block does not have, and nothing that would stay."""
        rows, cols = np.ones(layer.out_features, dtype=bool), np.ones(layer.in_features, dtype=bool)
        if layer.block in self.blocks:
            return ~rows, ~cols
        groups, neurons = self.kv_groups.get(layer.block, NOTHING), self.neurons.get(layer.block, NOTHING)
        if groups and layer.role in ATTENTION:
            key = np.repeat(_stays(layer, groups, heads.kv_heads, "kv group"), heads.head_features)
            query = np.repeat(key.reshape(heads.kv_heads, -1), heads.heads // heads.kv_heads, axis=0).ravel()
            parts = {"q": query, "k": key, "v": key, "qkv": np.concatenate([query, key, key])}
            if layer.role == "o":
                cols = _fits(layer, query, layer.in_features, "inputs")
            else:
                rows = _fits(layer, parts[layer.role], layer.out_features, "outputs")
        elif neurons and layer.role in FFN_ROWS:
            times = FFN_ROWS[layer.role]
            rows = np.tile(_stays(layer, neurons, layer.out_features // times, "neuron"), times)
        elif neurons and layer.role in FFN_COLUMNS:
            cols = _stays(layer, neurons, layer.in_features, "neuron")
        elif neurons and layer.role.startswith(("expert_", "shared_")):
            raise UserError(f"{layer.name}: neurons of experts are not removed; leave out block {layer.block}")
        return rows, cols

    def shapes(self, layers: Sequence[Layer], heads: Heads) -> list[Layer]:
        """The layers that are left, in order, with the sizes that are left. Raises UserError as `kept`."""
        left = []
        for layer in layers:
            if layer.block not in self.blocks:
                rows, cols = self.kept(layer, heads)
                left.append(replace(layer, out_features=int(rows.sum()), in_features=int(cols.sum())))
        return left


def _stays(layer: Layer, removed: frozenset[int], count: int, what: str) -> np.ndarray:
    if min(removed) < 0 or max(removed) >= count:
        wrong = min(removed) if min(removed) < 0 else max(removed)
        raise UserError(f"{layer.name}: there is no {what} {wrong} to remove, the block has {count}")
    if len(removed) == count:
        raise UserError(f"{layer.name}: all {count} of its block's {what}s would go; remove the block, or leave one")
    stays = np.ones(count, dtype=bool)
    stays[list(removed)] = False
    return stays


def _fits(layer: Layer, stays: np.ndarray, size: int, what: str) -> np.ndarray:
    if len(stays) != size:
        raise UserError(f"{layer.name} has {size} {what}, its heads {len(stays)}; correct the heads")
    return stays
