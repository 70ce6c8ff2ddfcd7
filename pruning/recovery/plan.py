"""From what was asked to a plan: every setting checked and filled in, before a model is opened."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pruning.config import FinetuneConfig
from pruning.data import calibration
from pruning.recovery.schedule import Schedule
from workloads.errors import UserError
from workloads.limits import check_seed
from workloads.selectors import Selection

MODES = ("full", "lora")
HELD_OUT = 0.05  # of the sequences
KEPT = "kept"  # importance of a block by the share of its weights that are left
SAMPLES = 512  # of networks, to train on and held out
OF_TEXTS = ("text", "seq_len", "distill", "distill_weight", "recompute", "guide")
OF_ADAPTERS = ("rank", "importance")
LR, HIDDEN = 1e-4, 4096  # the default rate of a model of that hidden size, of every weight
MORE_OF_ADAPTERS = 3.0


@dataclass(frozen=True)
class Plan:
    """What decides the trained weights of a given model, bundle and text, looked up and checked."""

    text: str
    seq_len: int | None  # None: not asked for
    held_out: str | float  # a file, or a share of the sequences
    schedule: Schedule
    mode: str
    rank: int
    importance: str | None
    selection: Selection
    distill: str | None
    distill_weight: float
    eval_every: int
    patience: int | None
    save_every: int
    recompute: bool
    guide: bool = False
    samples: int = SAMPLES  # of networks that read no text
    lr_given: bool = True

    def for_hidden(self, size: int) -> "Plan":
        """With the rate that a model of that hidden size gets where none was asked for."""
        if self.lr_given:
            return self
        return replace(self, schedule=replace(self.schedule, lr=default_lr(size, self.mode)))

    @property
    def facts(self) -> dict[str, Any]:
        """What a bundle records of it: whatever moves the weights, or what is noted of them."""
        facts: dict[str, Any] = {"mode": self.mode, **vars(self.schedule), "eval_every": self.eval_every}
        if self.mode == "lora":
            facts |= {"rank": self.rank, "importance": self.importance or "equal"}
        if self.distill is not None:
            facts |= {"distill": self.distill, "distill_weight": self.distill_weight}
        if self.patience is not None:
            facts["patience"] = self.patience
        if self.guide:
            facts["guide"] = True
        if not self.selection.everything:
            facts |= {"only": self.selection.only, "skip": self.selection.skip}
        return facts


def make_plan(asked: FinetuneConfig, network: str = "") -> Plan:
    """network: what the user calls one that is no language model; "" for those that are. Raises UserError for the first
    setting that is missing or cannot be."""
    if network:
        check_network(asked, network)
    elif asked.text is None:
        raise UserError("say what to train on: `text`, a file or the name of a data set")
    elif asked.samples is not None:
        raise UserError("`samples` is of networks that read no text; leave it out, `steps` says how much is read")
    if asked.steps is None:
        raise UserError("say how long to train: `steps=200`, for example")
    for name in ("steps", "rank", "batch", "eval_every", "patience", "save_every", "samples"):
        value = getattr(asked, name)
        if value is not None and value < 1:
            raise UserError(f"`{name}` must be at least 1, not {value}")
    mode = asked.mode or "full"
    if mode not in MODES:
        raise UserError(f"`mode` is full or lora, not {mode!r}")
    if mode == "full" and (given := next((name for name in OF_ADAPTERS if getattr(asked, name) is not None), None)):
        raise UserError(f"`{given}` is of adapters; say `mode=lora`, or leave it out")
    if asked.distill_weight is not None and asked.distill is None:
        raise UserError("`distill_weight` has no meaning without `distill`: say logits or layers")
    if asked.seq_len is not None and asked.seq_len < 2:
        raise UserError(f"`seq_len` must be at least 2 to predict anything, not {asked.seq_len}")
    return Plan(
        text=asked.text or "",
        seq_len=asked.seq_len,
        held_out=held_out_of(asked.held_out),
        schedule=schedule_of(asked, asked.steps),
        mode=mode,
        rank=asked.rank or 8,
        importance=asked.importance,
        selection=asked.selection,
        distill=distill_of(asked.distill),
        distill_weight=positive("distill_weight", asked.distill_weight, 1.0),
        eval_every=asked.eval_every or max(1, asked.steps // 10),
        patience=asked.patience,
        save_every=asked.save_every or 100,
        recompute=bool(asked.recompute),
        guide=bool(asked.guide),
        samples=asked.samples or SAMPLES,
        lr_given=asked.lr is not None,
    )


def check_network(asked: FinetuneConfig, network: str) -> None:
    """Raises UserError for settings of language models."""
    for name in OF_TEXTS:
        if getattr(asked, name) is not None:
            raise UserError(
                f"`{name}` is of language models; {network} is trained on samples of its own, by the outputs of the "
                "unpruned network; leave it out"
            )
    if asked.samples is not None and asked.samples < 2:
        raise UserError(f"`samples` must be at least 2, one to train on and one held out, not {asked.samples}")
    if isinstance(held_out_of(asked.held_out), str):
        raise UserError(f"`held_out` is a share of the samples of {network}, in (0, 1); not {asked.held_out}")


def default_lr(hidden: int, mode: str) -> float:
    """LR sqrt(HIDDEN / hidden), to two digits: smaller models learn at higher rates (methods 19.6)."""
    rate = LR * math.sqrt(HIDDEN / hidden) * (MORE_OF_ADAPTERS if mode == "lora" else 1.0)
    return float(f"{rate:.1e}")


def schedule_of(asked: FinetuneConfig, steps: int) -> Schedule:
    warmup = steps // 20 if asked.warmup is None else asked.warmup
    if not 0 <= warmup < steps:
        raise UserError(f"`warmup` must be at least 0 and less than the {steps} steps, not {warmup}")
    seed = check_seed(asked.seed or 0)
    return Schedule(steps, positive("lr", asked.lr, LR), warmup, asked.batch or 8, seed)


def positive(name: str, value: float | None, default: float) -> float:
    value = default if value is None else value
    if not (value > 0 and math.isfinite(value)):
        raise UserError(f"`{name}` must be a number above 0, not {value}")
    return value


def distill_of(name: str | None) -> str | None:
    if name not in (None, "logits", "layers"):
        raise UserError(f"`distill` is logits or layers, not {name!r}")
    return name


def held_out_of(text: str | None) -> str | float:
    """A share, or what names a file or a data set."""
    if text is None:
        return HELD_OUT
    try:
        share = float(text)
    except ValueError:
        calibration.file_of(text, "`held_out`")
        return text
    if Path(text).is_file():
        return text
    if not 0 < share < 1:
        raise UserError(f"`held_out` is a share in (0, 1), or a file; not {text}")
    return share
