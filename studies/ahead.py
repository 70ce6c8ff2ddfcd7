"""What a command says before it starts, where that will take minutes: how long, between which bounds, and by what."""

from pathlib import Path

import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.opened import OpenModel
from pruning.run.recipe import Recipe
from pruning.run.work import Work, rate_flop_s, seconds_of, work_of
from studies.progress import tell_long

WIDEST = 2048  # of the products that are timed


def tell_prune(checkpoint: OpenModel, recipe: Recipe, out: Path) -> None:
    """Says how long a run takes, from its first block on; nothing of one that is done, of a network that is no
    transformer, and of a method whose work nobody knows before."""
    if (out / "bundle.json").exists():
        return
    work = prune_work(checkpoint, recipe)
    if work is not None:
        tell_long(*span_of(work, checkpoint.device, checkpoint.dtype))


def prune_work(checkpoint: OpenModel, recipe: Recipe) -> Work | None:
    """None where nobody knows it before."""
    if not isinstance(checkpoint, Checkpoint):
        return None
    layers = [ref.layer for block in recipe.refs(checkpoint) for ref in block]
    ids = None if recipe.calibration is None else recipe.calibration.ids
    samples, tokens = (0, 0) if ids is None else (len(ids), ids.numel())
    return work_of(layers, checkpoint.config.to_dict(), samples, tokens, recipe)


def span_of(work: Work, device: torch.device, dtype: torch.dtype) -> tuple[float, float, str]:
    """(least, most) seconds and what they rest on. What is quickly done is not measured."""
    if not work.flop:
        return 0.0, 0.0, ""
    rate = rate_flop_s(min(work.width, WIDEST), device, dtype)
    why = (
        f"{work.flop / 1e12:,.1f} T operations in matrix products, of which this machine makes {rate / 1e9:,.0f} G a "
        "second just now"
    )
    return *seconds_of(work, rate), why
