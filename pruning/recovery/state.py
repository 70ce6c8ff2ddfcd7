"""Where a training run is: what was measured so far, and on disk all that it needs to go on to the same bytes."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pruning.forward.hidden_states import read_tensors, write_tensors
from pruning.recovery.trainer import Trainer

STATE_FILE = "training-00000.safetensors"
BEST_FILE = "training-00001.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")  # as torch.optim.Adam calls them
OF_HOOK = "hook."  # before the names of what a hook knows


@dataclass(frozen=True)
class Look:
    """The losses at a step: mean over the steps since the look before, NaN at step 0; and of the held-out text."""

    step: int
    training_loss: float
    held_out_loss: float


@dataclass
class RunState:
    """`step` steps are done, the looks `looks` were taken, `since` losses were summed up to `loss` after the last."""

    step: int = 0
    looks: list[Look] = field(default_factory=list)
    loss: float = 0.0
    since: int = 0
    over: bool = False

    @property
    def best(self) -> Look:
        return min(self.looks, key=lambda look: look.held_out_loss)

    @property
    def misses(self) -> int:
        """Looks since the best."""
        return len(self.looks) - 1 - self.looks.index(self.best)


def save_state(folder: Path, trainer: Trainer, state: RunState) -> None:
    tensors = {
        "step": torch.tensor([state.step, state.since, state.over]),
        "loss": torch.tensor([state.loss], dtype=torch.float64),
        "looks": torch.tensor(
            [[look.step, look.training_loss, look.held_out_loss] for look in state.looks], dtype=torch.float64
        ).reshape(-1, 3),
    }
    tensors |= adam_tensors(trainer.trained, trainer.optimizer)
    tensors |= {f"{OF_HOOK}{name}": tensor.cpu() for name, tensor in trainer.hook.tensors().items()}
    write_tensors(folder / STATE_FILE, tensors)


def adam_tensors(leaves: Iterable[torch.Tensor], optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Values and moments, by the leaves' numbers."""
    tensors = {}
    for number, leaf in enumerate(leaves):
        own = optimizer.state.get(leaf) or {}
        tensors[f"{number:06d}.value"] = leaf.detach().cpu()
        tensors |= {f"{number:06d}.{name}": own[name].cpu() for name in MOMENTS if name in own}
    return tensors


def take_adam(
    tensors: Mapping[str, torch.Tensor], leaves: Iterable[torch.Tensor], optimizer: torch.optim.Optimizer, step: int
) -> None:
    """What `adam_tensors` gave after `step` steps of this optimizer."""
    for number, leaf in enumerate(leaves):
        leaf.data.copy_(tensors[f"{number:06d}.value"])
        if f"{number:06d}.{MOMENTS[0]}" in tensors:
            moments: dict[str, Any] = {name: tensors[f"{number:06d}.{name}"].to(leaf.device) for name in MOMENTS}
            optimizer.state[leaf] = {"step": torch.tensor(float(step)), **moments}


def has_state(folder: Path) -> bool:
    return (folder / STATE_FILE).exists()


def read_state(folder: Path, trainer: Trainer) -> RunState | None:
    """What an unfinished run left, taken up by the trainer; None where it left nothing. Raises UserError for a damaged
    file."""
    if not has_state(folder):
        return None
    tensors = read_tensors(folder / STATE_FILE)
    step, since, over = tensors["step"].tolist()
    take_adam(tensors, trainer.trained, trainer.optimizer, step)
    trainer.hook.take({n.removeprefix(OF_HOOK): each for n, each in tensors.items() if n.startswith(OF_HOOK)})
    trainer.write()
    looks = [Look(int(row[0]), row[1], row[2]) for row in tensors["looks"].tolist()]
    return RunState(step, looks, float(tensors["loss"][0]), since, bool(over))


def save_best(folder: Path, trainer: Trainer) -> None:
    write_tensors(folder / BEST_FILE, {f"{n:06d}": leaf.detach().cpu() for n, leaf in enumerate(trainer.trained)})


def take_best(folder: Path, trainer: Trainer) -> None:
    """Raises UserError for a damaged file."""
    tensors = read_tensors(folder / BEST_FILE)
    for number, leaf in enumerate(trainer.trained):
        leaf.data.copy_(tensors[f"{number:06d}"])
    trainer.write()


def forget(folder: Path) -> None:
    for name in (STATE_FILE, BEST_FILE):
        (folder / name).unlink(missing_ok=True)


def plain_looks(looks: list[Look]) -> list[dict[str, Any]]:
    """As JSON."""
    return [
        {**vars(look), "training_loss": None if math.isnan(look.training_loss) else look.training_loss}
        for look in looks
    ]
