"""What a reader must know of layers that pruning left dense."""

import pandas as pd

from workloads.layers import role_rank
from workloads.patterns import DENSE
from workloads.rows import beside, unpruned_weights


def left_dense_notes(rows: pd.DataFrame) -> list[str]:
    """For every method that left layers dense: how many, and the sparsity of the others beside that of all."""
    notes = []
    own = rows[~beside(rows)].drop_duplicates(["model", "method", "pattern", "target_sparsity", "seed", "layer"])
    for (model, method), layers in own.groupby(["model", "method"], sort=False):
        once = layers.drop_duplicates("layer")
        left = once["layer_pattern"] == DENSE
        if not left.any():
            continue
        roles = ", ".join(sorted(set(once.loc[left, "role"]), key=role_rank))
        blocks = sorted(set(once.loc[left, "block"]))
        if len(blocks) < once["block"].nunique():
            roles += f"; in {len(blocks)} of {once['block'].nunique()} blocks, {blocks[0]} to {blocks[-1]}"
        others = layers[layers["layer_pattern"] != DENSE]
        every, pruned = (f"{100 * _sparsity(part):.1f} %" for part in (layers, others))
        notes.append(
            f"{method}: {left.sum()} of {len(once)} layers of {model} are left dense ({roles}). They run as the "
            f"unpruned layers do and count in every sum: sparsity is {every} of all layers, {pruned} of the others, "
            "which its target is for."
        )
    return notes


def _sparsity(rows: pd.DataFrame) -> float:
    weights = unpruned_weights(rows)
    return float((rows["sparsity"] * weights).sum() / weights.sum())
