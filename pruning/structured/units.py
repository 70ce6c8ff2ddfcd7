"""The units of a block that structured pruning takes out whole: kv groups of its attention, neurons of its FFNs.

A unit is rows of some matrices and the columns of one, the output (o or down), that its rows feed. Which rows, in
matrices that families fuse, is one of a few layouts; pruning/structured/layouts.py finds out which.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import nn

from checkpoints.discovery import LinearRef
from workloads.removal import KV_GROUP, NEURON, Cut, Units

HEAD_SIZES = ("head_dim", "head_size", "attention_head_size")
CONCATENATED, INTERLEAVED = "concatenated", "interleaved"  # of fused matrices: [q|k|v] and [gate|up], or by group, row
LAYOUTS = (CONCATENATED, INTERLEAVED)
FUSED = ("qkv", "gate_up")


@dataclass(frozen=True)
class UnitGroup:
    """The units of one attention or FFN. members: by matrix the unit of every row, or None; output: the matrix whose
    columns are theirs, `features` consecutive ones each."""

    kind: str
    block: int
    module: str
    count: int
    output: LinearRef
    features: int
    members: tuple[tuple[LinearRef, np.ndarray], ...]

    @property
    def key(self) -> str:
        return f"{self.module}.{self.kind}"

    @property
    def unit_weights(self) -> int:
        """Of one unit, biases not counted."""
        rows = sum(ref.layer.n_weights for ref, _ in self.members)
        return (rows + self.output.layer.n_weights) // self.count

    @property
    def columns(self) -> np.ndarray:
        """(inputs of `output`,) the unit of every column."""
        return np.repeat(np.arange(self.count), self.features)

    def cuts(self, kept: np.ndarray) -> Iterator[tuple[str, Cut]]:
        """What `kept` (count,) bool leaves of every matrix, by name."""
        for ref, unit in self.members:
            yield ref.layer.name, Cut(kept[unit], np.ones(ref.layer.in_features, dtype=bool))
        rows = np.ones(self.output.layer.out_features, dtype=bool)
        yield self.output.layer.name, Cut(rows, kept[self.columns])

    def units(self, kept: np.ndarray) -> Units:
        """Raises UserError if all of them would go."""
        return Units(self.kind, self.block, self.module, kept)


def groups_of(block: nn.Module, path: str, refs: list[LinearRef], layout: str = CONCATENATED) -> list[UnitGroup]:
    """The attention and the FFNs of a block whose matrices fit together; others have no units."""
    families: dict[str, list[LinearRef]] = {}
    for ref in refs:
        parent = ref.module_path.rpartition(".")[0] if ref.expert is None else f"{ref.module_path}.{ref.expert}"
        families.setdefault(parent, []).append(ref)
    found = []
    for parent, members in families.items():
        module = f"{path}.{parent}" if parent else path
        roles = {ref.layer.role: ref for ref in members}
        by_end = {role.removeprefix("expert_").removeprefix("shared_"): ref for role, ref in roles.items()}
        attention = _attention(block, parent, module, roles, layout) if "o" in roles else None
        ffn = _ffn(module, by_end, layout)
        found += [group for group in (attention, ffn) if group is not None]
    return found


def has_fused(refs: list[LinearRef]) -> bool:
    return any(ref.layer.role.endswith(FUSED) for ref in refs)


def _attention(
    block: nn.Module, parent: str, module: str, roles: dict[str, LinearRef], layout: str
) -> UnitGroup | None:
    output = roles["o"]
    size = _head_size(block.get_submodule(parent), output.layer.in_features)
    heads, odd = divmod(output.layer.in_features, size) if size else (0, 1)
    if odd:
        return None
    if "qkv" in roles:
        rows = roles["qkv"].layer.out_features
        groups, odd = divmod(rows - heads * size, 2 * size)
    elif {"q", "k", "v"} <= set(roles):
        rows = heads * size
        groups, odd = divmod(roles["k"].layer.out_features, size)
        odd = odd or roles["q"].layer.out_features != rows or roles["v"].layer.shape != roles["k"].layer.shape
    else:
        return None
    if odd or groups < 1 or heads % groups:
        return None
    shared = heads // groups
    query, key = np.repeat(np.arange(groups), shared * size), np.repeat(np.arange(groups), size)
    if "qkv" in roles:
        together = np.concatenate([query, key, key])
        by_group = np.repeat(np.arange(groups), (shared + 2) * size)
        members = [(roles["qkv"], together if layout == CONCATENATED else by_group)]
    else:
        members = [(roles["q"], query), (roles["k"], key), (roles["v"], key)]
    return UnitGroup(KV_GROUP, output.layer.block, module, groups, output, shared * size, tuple(members))


def _head_size(module: nn.Module, features: int) -> int:
    """Of an attention module, 0 if it says nothing."""
    for owner in (module, getattr(module, "config", None)):
        for name in HEAD_SIZES:
            size = getattr(owner, name, None)
            if isinstance(size, int) and size > 0:
                return size
    config = getattr(module, "config", None)
    heads = getattr(module, "num_heads", None) or getattr(config, "num_attention_heads", None)
    return features // heads if isinstance(heads, int) and heads > 0 else 0


def _ffn(module: str, roles: dict[str, LinearRef], layout: str) -> UnitGroup | None:
    output = roles.get("down") or roles.get("fc2")
    if output is None:
        return None
    count = output.layer.in_features
    one = np.arange(count)
    if "gate_up" in roles:
        both = np.tile(one, 2) if layout == CONCATENATED else np.repeat(one, 2)
        members = [(roles["gate_up"], both)]
    else:
        members = [(roles[role], one) for role in ("gate", "up", "fc1") if role in roles]
    if not members or any(ref.layer.out_features != len(unit) for ref, unit in members):
        return None
    return UnitGroup(NEURON, output.layer.block, module, count, output, 1, tuple(members))
