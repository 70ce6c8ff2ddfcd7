"""Masks for a speed, or for a budget of what matrices cost on a machine, as a step of a study."""

from functools import partial
from pathlib import Path

from pruning.config import CalibrationConfig, PruneConfig
from studies.progress import ProgressLine, warn
from studies.prune import open_checkpoint, run_prune
from studies.speed.asked import SpeedConfig
from studies.speed.meet import Meeting
from studies.speed.priced import priced_recipe, spent_by
from workloads.bundle import MaskBundle


def masks_of_speed(
    name: str, model: str, dtype: str, asked: PruneConfig, data: CalibrationConfig, speed: SpeedConfig, out: Path,
    progress: ProgressLine,
) -> MaskBundle:  # fmt: skip
    """In `out`; `name` of the model in its bundle. Raises UserError where the speed cannot be met."""
    if speed.cost is not None:
        recipe = priced_recipe(name, open_checkpoint(model, dtype), asked, data, speed)
        bundle = run_prune(open_checkpoint(model, dtype), recipe, out, None, "dense", progress, warn)
        if excess := spent_by(recipe, bundle, speed).excess:
            warn(excess)
        return bundle
    meeting = Meeting(partial(open_checkpoint, model, dtype), name, asked, data, speed, progress, warn)
    return meeting.run(out)[0]
