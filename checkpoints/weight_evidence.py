"""Whether masks keep the larger weights of their model, as every pruning method does: tells 1 = kept from 1 = pruned
(needs torch)."""

from collections.abc import Iterable
from pathlib import Path

import torch

from checkpoints.checkpoint import Checkpoint
from workloads.importers import Matrix
from workloads.layers import Layer


def kept_over_rest(folder: Path, masks: Iterable[tuple[Layer, Matrix]]) -> float:
    """Mean size of the weights that `masks` keep over that of the others, a mean over the layers that the files hold in
    one piece.

    Masks at random places give 1, and so does what cannot be compared; magnitude pruning of half of normal weights
    gives 3.9. Raises UserError for a folder that is no model.
    """
    checkpoint = Checkpoint(folder)
    ratios = []
    for layer, matrix in masks:
        name = f"{layer.name}.weight"
        if name not in checkpoint.sources or name in checkpoint.converted:
            continue
        (key,) = checkpoint.sources[name]
        size = checkpoint.raw([key])[key].float().abs()
        keep = torch.from_numpy(matrix.mask.to_dense())
        if size.shape != keep.shape:
            size = size.T  # as GPT-2 stores it
        if size.shape == keep.shape and 0 < int(keep.sum()) < keep.numel():
            ratios.append(float(size[keep].mean() / size[~keep].mean().clamp_min(1e-30)))
    return sum(ratios) / len(ratios) if ratios else 1.0
