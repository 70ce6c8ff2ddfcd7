"""What was asked of a run that prunes for a speed, checked: choices, machine, phase, data and recipes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.decoders import decoder_of
from checkpoints.prunable import refs_left
from pruning.block_job import Warn
from pruning.config import CalibrationConfig, PruneConfig
from pruning.data.calibration import DEFAULT_SAMPLES, Calibration, read_calibration
from pruning.data.texts import holds_ids
from pruning.forward.hidden_states import Progress
from pruning.plan import Plan
from pruning.run.base import Base
from pruning.run.error_table import Kind, learns
from pruning.run.recipe import Recipe
from studies.phase_rows import phase_of
from studies.prune import recipe_for
from studies.speed.asked import SpeedConfig
from studies.speed.costs import Machine
from studies.speed.demands import PHASES, parse_also
from studies.speed.held_out import held_out
from studies.speed.shapes import KINDS
from workloads.bundle import MaskBundle
from workloads.choices import LEVELS, Choice, choices_of
from workloads.decoder.dimensions import Decoder
from workloads.errors import UserError, unknown
from workloads.layers import Layer
from workloads.patterns import UNSTRUCTURED
from workloads.phases import Phase
from workloads.removal import Removal

STAND_IN = "wanda"  # judges choices where the method trains blocks


@dataclass(frozen=True)
class Request:
    """`opened()` gives the model anew."""

    opened: Callable[[], Checkpoint]
    model: str
    asked: PruneConfig
    data: CalibrationConfig
    speed: SpeedConfig
    progress: Progress
    warn: Warn

    def _check(self) -> None:
        self.speed.check()
        for name in ("sparsity", "pattern", "allocation", "plan", "bits"):
            if getattr(self.asked, name) is not None:
                raise UserError(f"`speedup` says what each matrix gets; leave `{name}` out")
        if self._structured and self.asked.after is not None:
            taken = " and ".join(self._structured)
            raise UserError(f"`choices` takes {taken} out of the unpruned model; leave `after` out")
        if (self.speed.phase or "decode") in self.also:
            raise UserError("`also` names the phase of `speedup` again; leave it out, or name the other")
        if self.also and (self._structured or self.asked.after is not None):
            raise UserError("`also` is of masks on the whole model; leave `after`, and units of `choices`, out")
        if len(self._choices) < 2:
            raise UserError(
                "`choices`: neurons, heads and blocks go in steps, so name what meets the rest of the speed beside "
                "them: unstructured, 2:4 or bits:4"
            )
        if self.base is not None and Base(self.base).has_zeros:
            raise UserError(
                f"{self.base.folder} holds masks already; go on from what structured pruning left, or MODEL"
            )
        if self._kind not in get_args(Kind):
            raise unknown("kind of `errors`", self._kind, get_args(Kind))
        if len([choice for choice in {choice.bits for choice in self._choices} if choice]) > 1:
            raise UserError("`choices` names two numbers of bits; give one")

    @property
    def _kind(self) -> Kind:
        return self.speed.errors or "probe"  # type: ignore[return-value]

    @property
    def _kinds(self) -> list[str]:
        return [part.strip() for part in (self.speed.choices or UNSTRUCTURED).split(",")]

    @property
    def _structured(self) -> list[str]:
        return sorted({kind for kind in self._kinds if kind in KINDS})

    @property
    def _choices(self) -> list[Choice]:
        masks = [kind for kind in self._kinds if kind not in KINDS]
        return choices_of(masks, LEVELS if self.speed.levels is None else self.speed.levels)

    def machine(self) -> Machine:
        assert self.speed.on is not None
        return Machine.open(self.speed.on)

    def phase(self, kind: str = "") -> Phase:
        """The one that is asked for, or of another `kind`; each has its own size where both are asked for."""
        main = self.speed.phase or "decode"
        both = main not in self.also and any(name in self.also for name in PHASES)
        prompt, context = self.speed.prompt, self.speed.context
        if both:
            prompt, context = (prompt, None) if (kind or main) == "prefill" else (None, context)
        phase = phase_of(kind or main, self.speed.batch, prompt, context)
        assert phase is not None
        return phase

    @cached_property
    def also(self) -> dict[str, float]:
        """Raises UserError."""
        return parse_also(self.speed.also)

    def decoder(self) -> Decoder:
        """Of the unpruned model."""
        return decoder_of(self.opened().config.to_dict())

    @property
    def _removal(self) -> Removal:
        return Removal() if self.base is None else self.base.removal

    @cached_property
    def base(self) -> MaskBundle | None:
        """What is left of the model after an earlier structured run."""
        return None if self.asked.after is None else MaskBundle.open(self.asked.after)

    @cached_property
    def _drawn(self) -> tuple[Calibration, torch.Tensor]:
        """(what masks are made with, ids that plans are judged by)."""
        source, samples = self.data.calibration, self.data.samples
        if source is None:
            raise UserError("`speedup` needs `calibration`: a text, JSON lines, .npy token ids or a data set name")
        opened, seed = self.opened(), self.asked.seed or 0
        path = Path(source)
        if samples is None and not (path.is_file() and holds_ids(path)):
            samples = DEFAULT_SAMPLES
        found = held_out(
            lambda number: read_calibration(source, opened.folder, number, self.data.seq_len, seed), samples
        )
        if found[0].arrays:
            raise UserError("`speedup` compares predictions of next tokens; give a text or token ids as `calibration`")
        return found

    @cached_property
    def _is_even(self) -> bool:
        return self._judge().rule == "row"

    @cached_property
    def _layers(self) -> list[Layer]:
        layers = [ref.layer for block in refs_left(self.opened(), self._removal) for ref in block]
        chosen = self.asked.selection.names(layers)
        return [layer for layer in layers if layer.name in chosen]

    def _judge(self, **others: Any) -> Recipe:
        """The recipe by which choices are judged."""
        bits = max((choice.bits for choice in self._choices if choice.bits), default=None)
        rest = replace(self.asked, sparsity=0.5, bits=bits, only=None, skip=None, fallback=None, **others)
        return self._recipe_of(rest if bits else replace(rest, quantizer=None, group_size=None))

    def _stands_in(self) -> Recipe:
        """The recipe whose masks are judged."""
        recipe = self._judge()
        return self._judge(method=STAND_IN, set=None, rule=None) if learns(recipe.method) else recipe

    def _recipe(self, plan: Plan, file: Path) -> Recipe:
        plan.write(file)
        rest = replace(self.asked, plan=file, only=None, skip=None, fallback=None)
        return self._recipe_of(rest if plan.bits else replace(rest, quantizer=None, group_size=None))

    def _recipe_of(self, asked: PruneConfig) -> Recipe:
        return recipe_for(self.model, self.opened(), asked, self._drawn[0])
