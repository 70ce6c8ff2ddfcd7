"""A decoder under a bundle: what masks, bits and removed rows and columns make of its matrices."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from workloads.bundle import LayerEntry, MaskBundle
from workloads.decoder.dimensions import Block, Decoder, Mixture
from workloads.errors import UserError, unknown
from workloads.experts import expert_of
from workloads.layers import Layer
from workloads.operations.gemm import BITMAP, Matrix
from workloads.patterns import DENSE, GONE, WHOLE

FORMATS = (DENSE, "packed", BITMAP)
MASKS, UNPRUNED = "masks", "unpruned"
# Matrices of latent attention, which have no role of their own.
_OF_LATENTS = {"q_a_proj": "q_a", "q_b_proj": "q_b", "kv_a_proj_with_mqa": "kv_a", "kv_b_proj": "kv_b"}
_INPUTS = ("q", "qkv")
OF_ATTENTION = ("q", "k", "v", "qkv", "o", *_OF_LATENTS.values())


def bundled(decoder: Decoder, bundle: MaskBundle, weight_format: str = "packed") -> Decoder:
    """The decoder with the sizes and bits that a bundle leaves; blocks that it takes out are gone.

    weight_format: how masked matrices lie in memory. dense: with their zeros; packed: those of a pattern N:M as N of M
    and their places, others dense; bitmap: as packed, others as what is kept and a bit a place; masks: dense, each with
    what tells its mask apart (`content_of`), for machines that look at masks; unpruned: with the bundle's bits alone.
    Raises UserError where the bundle is of another model, or holds experts that are products of factors."""
    if weight_format not in (*FORMATS, MASKS, UNPRUNED):
        raise unknown("weight format", weight_format, FORMATS)
    by_block: dict[int, list[LayerEntry]] = {}
    for entry in bundle.entries:
        by_block.setdefault(entry.block, []).append(entry)
    if strange := sorted(set(by_block) - set(decoder.numbers)):
        raise UserError(
            f"{bundle.folder}: it has masks of block {strange[0]}, the config of its model has {len(decoder.blocks)} "
            "blocks; was it made for another model?"
        )
    blocks: list[Block] = []
    numbers: list[int] = []
    for number, block in zip(decoder.numbers, decoder.blocks, strict=True):
        entries = by_block.get(number, [])
        if entries and all(entry.pattern == GONE for entry in entries) and weight_format != UNPRUNED:
            continue
        made = _block(block, entries, weight_format, f"{bundle.folder}: block {number}") if entries else block
        blocks.append(blocks[-1] if blocks and blocks[-1] == made else made)
        numbers.append(number)
    return replace(decoder, blocks=tuple(blocks), numbers=tuple(numbers))


def _block(block: Block, entries: list[LayerEntry], weight_format: str, where: str) -> Block:
    known = {matrix.role for matrix in block.matrices}
    gone = [entry for entry in entries if entry.pattern == GONE]
    if gone and weight_format != UNPRUNED:
        block, entries = _without(block, gone), [entry for entry in entries if entry.pattern != GONE]
    routed = [entry for entry in entries if expert_of(entry.name) is not None]
    found = {role_in_block(entry): entry for entry in entries if expert_of(entry.name) is None}
    if strange := sorted(set(found) - known):
        raise UserError(
            f"{where}: {found[strange[0]].name} is a matrix ({strange[0]}) that the block, which has "
            f"{', '.join(sorted(known))}, is not known to have"
        )
    matrices = tuple(
        _changed(matrix, found[matrix.role], weight_format, where) if matrix.role in found else matrix
        for matrix in block.matrices
    )
    attention = block.attention
    for role in _INPUTS:
        before, after = block.matrix(role), next((m for m in matrices if m.role == role), None)
        if before is not None and after is not None and before.out_features != after.out_features:
            share = after.out_features / before.out_features  # whole kv groups go, with their queries
            heads, kv_heads = round(attention.heads * share), round(attention.kv_heads * share)
            attention = replace(attention, heads=heads, kv_heads=kv_heads)
    mixture = block.mixture
    if factored := next((entry for entry in routed if entry.factors is not None), None):
        raise UserError(f"{where}: {factored.name}: experts that are products of factors are not counted")
    if routed:
        if mixture is None:
            raise UserError(f"{where}: {routed[0].name} is an expert's, and the config has none in that block")
        mixture = _experts(mixture, routed, weight_format, where)
    return replace(block, attention=attention, matrices=matrices, mixture=mixture)


def _without(block: Block, gone: list[LayerEntry]) -> Block:
    """A whole attention or FFN, with its experts, is taken out."""
    names = {role_in_block(entry) for entry in gone}
    attention, ffn = not names & set(OF_ATTENTION), not names - set(OF_ATTENTION)
    left = tuple(m for m in block.matrices if (attention if m.role in OF_ATTENTION else ffn))
    mixture = block.mixture if ffn else None
    return replace(block, matrices=left, mixture=mixture, has_attention=attention, has_ffn=ffn)


def role_in_block(layer: Layer | LayerEntry) -> str:
    """By which a block has a matrix."""
    return _OF_LATENTS.get(layer.name.rpartition(".")[2], layer.role)


def _experts(mixture: Mixture, entries: Iterable[LayerEntry], weight_format: str, where: str) -> Mixture:
    """Experts that are alike counted together, but where each has a count of its own."""
    by_number: dict[int, dict[str, LayerEntry]] = {}
    for entry in entries:
        by_number.setdefault(expert_of(entry.name) or 0, {})[entry.role] = entry
    (ups, down, count), *_ = mixture.kinds
    whole = ups[0]
    halves = tuple(
        replace(whole, role=role, out_features=whole.out_features // 2) for role in ("expert_gate", "expert_up")
    )
    every: list[tuple[tuple[Matrix, ...], Matrix]] = []
    for number in range(count):
        found = by_number.get(number, {})
        own = halves if "expert_gate" in found else ups
        made = [
            _changed(matrix, found[matrix.role], weight_format, where) if matrix.role in found else matrix
            for matrix in (*own, down)
        ]
        every.append((tuple(made[:-1]), made[-1]))
    kinds = Counter(every)
    if mixture.counts and len(kinds) > 1:
        return replace(mixture, kinds=tuple((ups, down, 1) for ups, down in every))
    return replace(mixture, kinds=tuple((ups, down, n) for (ups, down), n in kinds.items()))


def _changed(matrix: Matrix, entry: LayerEntry, weight_format: str, where: str) -> Matrix:
    if entry.unpruned.shape != (matrix.out_features, matrix.in_features):
        raise UserError(
            f"{where}: {entry.name} is of {entry.unpruned.out_features} x {entry.unpruned.in_features} weights, by the "
            f"config of {matrix.out_features} x {matrix.in_features}; was it made for another model?"
        )
    if weight_format == UNPRUNED:
        group = None if entry.group_size == entry.in_features else entry.group_size
        return replace(matrix, weight_bits=entry.weight_bits, group_size=group)
    stored, nnz, mask = DENSE, None, ""
    if weight_format == MASKS:
        mask = "" if entry.pattern in WHOLE else content_of(entry)
    elif weight_format != DENSE and entry.pattern not in WHOLE:
        if ":" in entry.pattern:
            stored = entry.pattern
        elif weight_format == BITMAP:
            stored, nnz = BITMAP, entry.nnz
    return replace(
        matrix, out_features=entry.out_features, in_features=entry.in_features, stored=stored, nnz=nnz,
        weight_bits=entry.weight_bits, group_size=entry.group_size, mask=mask,
        factors=entry.factors,
    )  # fmt: skip


class Masked(Protocol):
    """An entry of a bundle, or the weights of a linear."""

    @property
    def sha256(self) -> str: ...
    @property
    def values_sha256(self) -> str: ...
    @property
    def weight_bits(self) -> int | None: ...
    @property
    def group_size(self) -> int | None: ...


def content_of(weights: Masked) -> str:
    """Of two that are alike the same: mask, values, bits and groups."""
    return f"{weights.sha256} {weights.values_sha256} {weights.weight_bits} {weights.group_size}"
