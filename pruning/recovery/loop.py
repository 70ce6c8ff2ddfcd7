"""The one loop of training: steps, looks at held-out data, and a state on disk that a killed run goes on from.

It knows neither the model nor what the weights are held to: `Trainer` has both, and a hook (pruning/recovery/hook.py)
what happens between steps. What a step does depends on its number and the seed alone.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pruning.forward.hidden_states import Progress
from pruning.recovery.objective import Batch
from pruning.recovery.schedule import Schedule
from pruning.recovery.state import Look, RunState, read_state, save_best, save_state, take_best
from pruning.recovery.trainer import Trainer
from workloads.errors import UserError


class Diverged(UserError):
    """A loss that is not finite: going on would not help, so nothing of the run is kept."""


class Data(Protocol):
    """Samples to train on."""

    def __len__(self) -> int: ...

    def take(self, rows: list[int]) -> Batch: ...


@dataclass
class Loop:
    """One training run. Without `held_out` no looks are taken. guided: of products of factors (methods 8.3)."""

    trainer: Trainer
    schedule: Schedule
    training: Data
    held_out: Data | None
    folder: Path  # of the state, and of the best weights where there is `patience`
    progress: Progress
    what: str = "training"
    name: str = ""  # of the model, for messages
    eval_every: int = 0
    save_every: int = 100
    patience: int | None = None
    guided: bool = False
    started: float = 0.0  # seconds, of this process
    first: int = 0  # the step it began at
    left: str = ""  # time, in words

    def run(self) -> RunState:
        """To the end, from where a killed run was. Raises Diverged for a loss that is not finite."""
        state = read_state(self.folder, self.trainer) or RunState()
        self.started, self.first = time.monotonic(), state.step
        if not state.looks and self.held_out is not None:
            look(self, state)
        while not state.over:
            one_step(self, state)
        if self.patience is not None:
            take_best(self.folder, self.trainer)
        return state


def one_step(loop: Loop, state: RunState) -> None:
    number, steps = state.step, loop.schedule.steps
    loop.progress(told(loop, state), number, steps)
    if loop.guided:
        loop.trainer.guide(loop.schedule.guide_at(number))
    batch = loop.training.take(loop.schedule.sequences_at(number, len(loop.training)))
    loss = loop.trainer.step(batch, loop.schedule.lr_at(number), number)
    if not math.isfinite(loss):
        raise not_finite(f"step {number + 1}: the loss or its gradient is {loss}", loop)
    state.step, state.loss, state.since = number + 1, state.loss + loss, state.since + 1
    last = state.step == steps
    if loop.held_out is not None and (last or state.step % loop.eval_every == 0):
        look(loop, state)
    state.over = last or (loop.patience is not None and waited(loop, state) >= loop.patience)
    if state.over or state.step % loop.save_every == 0:
        save_state(loop.folder, loop.trainer, state)


def look(loop: Loop, state: RunState) -> None:
    """Measures the held-out loss of what would be stored; with `patience` the best weights are kept on disk."""
    assert loop.held_out is not None
    if loop.guided:
        loop.trainer.guide(0.0)
    loss = loop.trainer.held_out_loss(loop.held_out.take(list(range(len(loop.held_out)))))
    if not math.isfinite(loss) and state.step == 0:
        raise UserError(
            f"{loop.name}: its held-out loss is {loss} before anything was trained: its weights or activations "
            "overflow; use `dtype=float32` or repair it"
        )
    if not math.isfinite(loss):
        raise not_finite(f"after step {state.step} the held-out loss is {loss}", loop)
    state.looks.append(Look(state.step, state.loss / state.since if state.since else math.nan, loss))
    state.loss, state.since = 0.0, 0
    if state.step > loop.first:
        seconds = (time.monotonic() - loop.started) / (state.step - loop.first)
        loop.left = duration(seconds * (loop.schedule.steps - state.step))
    if loop.patience is not None and state.misses == 0:
        save_best(loop.folder, loop.trainer)


def waited(loop: Loop, state: RunState) -> int:
    """Looks since the best; of those with a guide only the ones after it is gone count."""
    alone = loop.schedule.steps / 2 if loop.guided else 0
    return min(state.misses, sum(look.step > alone for look in state.looks))


def not_finite(what: str, loop: Loop) -> Diverged:
    return Diverged(f"{what}; use a lower `lr` (it is {loop.schedule.lr:g}) or `dtype=float32`; nothing was written")


def told(loop: Loop, state: RunState) -> str:
    """What progress says: the last loss and, from the second look on, the time left as of then."""
    if state.looks:
        text = f"{loop.what}, held-out loss {state.looks[-1].held_out_loss:.4f}"
        return f"{text}, {loop.left} left" if loop.left else text
    return f"{loop.what}, loss {state.loss / state.since:.4f}" if state.since else loop.what


def duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )
