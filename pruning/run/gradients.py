"""The weight gradients that a run's method needs, gathered before anything is scored."""

from pruning.evidence.gradients import gradient_file, write_gradients
from pruning.evidence.needs import GRADIENTS, gradient_sums
from pruning.evidence.network_gradients import write_network_gradients
from pruning.forward.network_walk import SAMPLES, NetworkWalk
from pruning.forward.walk import Walk
from pruning.run.context import Run


def gather_gradients(run: Run, model: Walk) -> None:
    """Of the treated matrices; nothing where none are needed, or those of an unfinished run are there."""
    if not run.recipe.needs & GRADIENTS:
        return
    assert run.recipe.calibration is not None
    which = gradient_sums(run.recipe.needs)
    calibration, folder = run.recipe.calibration, run.writer.folder
    if isinstance(model, NetworkWalk):
        write_network_gradients(model, run.treated, calibration.arrays[SAMPLES], which, folder, run.progress)
    else:
        write_gradients(model, run.treated, calibration.ids, which, folder, run.progress)


def drop_gradients(run: Run) -> None:
    for number in range(len(run.refs)):
        gradient_file(run.writer.folder, number).unlink(missing_ok=True)
