"""Rows of a study: perplexities, and cycles or times of masks on a target."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pruning.config import EvaluationConfig
from studies import phase_rows
from studies.entries import design_count, first_of, key_of, measure_of, targets_of
from studies.executors.asked import JOB_ROWS
from studies.gaps import warn_of_gaps
from studies.method_entry import StudyMethod
from studies.names import described, slug
from studies.phase_rows import checked_included, lacking, rows_beside
from studies.progress import ProgressLine
from studies.running.code import PRUNING, SIMULATING, code_sha256
from studies.running.masks_tasks import Masks, MasksTask, model_files_sha256
from studies.running.spans import ALL, LayersPart, Span, read_part, rows_kind, spans
from studies.running.store import Store, part_name
from studies.running.task import FreeTask, Place, Task, file_sha256
from studies.simulate import extra_columns, simulate_frame, utilisation_frame
from studies.study import StudyAccelerator, StudyModel
from workloads.columns.layers import LAYER_COLUMNS
from workloads.columns.quality import QUALITY_COLUMNS
from workloads.conditions import HALO_REUSE, Conditions
from workloads.files import sha256_of
from workloads.phases import Phase
from workloads.plugins import shown
from workloads.routing import Routing
from workloads.routing_counts import parse_routing
from workloads.rows import to_frame
from workloads.targets import Row


def routing_of(place: Place, accelerator: StudyAccelerator) -> Routing:
    """Raises UserError for one that is none, or counts that cannot be read."""
    return parse_routing(accelerator.routing, place.folder)


def conditions_of(place: Place, on: StudyAccelerator, tokens: int) -> Conditions:
    """Raises UserError as `routing_of`, and for tokens out of range."""
    return Conditions(tokens, on.activation_density, routing_of(place, on), on.halo_reuse)


def halo_of(on: StudyAccelerator) -> list[str]:
    """What a key or name says of it; nothing of the default."""
    return [HALO_REUSE] if on.halo_reuse else []


@dataclass(frozen=True, eq=False)
class QualityTask(Task):
    """The perplexity of a model with the masks of `needs`, or dense where there are none."""

    place: Place
    model: StudyModel
    method: StudyMethod | None = None
    needs: Sequence[MasksTask] = ()

    @property
    def title(self) -> str:
        what = "quality" if self.model.is_network else "perplexity"
        return f"{what} of {self.model.name}, {described(self.method) if self.method else 'dense'}"

    @property
    def _named(self) -> str:
        return self.method.title if self.method else "dense"

    def key(self, inputs: Sequence[Any]) -> str:
        model = self.model
        settings = [model.name, model.eval_seq_len, model.eval_windows, model.dtype, self._named]
        settings += ["compare"] if model.eval_compare else []
        texts, files = self.place.text_sha256(model.text), model_files_sha256(self.place, model)
        return sha256_of([settings, [masks.sha256 for masks in inputs], texts, files, code_sha256(PRUNING)])

    def _name(self, inputs: Sequence[Masks]) -> str:
        method = shown(self.method.method or "") if self.method else "dense"
        return slug("quality", self.model.name, method, *(masks.name for masks in inputs))

    def find(self, store: Store, key: str, inputs: Sequence[Any]) -> pd.DataFrame | None:
        return store.find_rows(self._name(inputs), key, QUALITY_COLUMNS)

    def make(self, store: Store, key: str, inputs: Sequence[Any], progress: ProgressLine) -> None:
        from studies.evaluate import evaluate
        from studies.prune import open_model

        model = self.model
        path, text = self.place.beside_or_name(model.path), self.place.beside_or_name(model.text)
        bundle = inputs[0].bundle if inputs else None

        def rows() -> pd.DataFrame:
            checkpoint = open_model(path, model.dtype)
            compare = model.eval_compare or None
            asked = EvaluationConfig(text=text, seq_len=model.eval_seq_len, windows=model.eval_windows, compare=compare)
            if model.is_network:
                asked = EvaluationConfig()
            frame = evaluate(checkpoint, path, bundle, asked, progress)
            return frame.assign(model=model.name, method=self._named)

        store.make_rows(self._name(inputs), key, rows)


@dataclass(frozen=True, eq=False)
class LayersTask(Task):
    """Cycles or times of every layer on a target, at one number of tokens, or in the `phase` that they follow from; and
    of what is included beside them. `needs`: its masks."""

    place: Place
    model: StudyModel
    method: StudyMethod
    accelerator: StudyAccelerator
    tokens: int
    needs: Sequence[MasksTask]
    fresh: bool = False  # also gathers the statistics of the masks anew
    job_rows: int = JOB_ROWS
    phase: Phase | None = None

    @cached_property
    def _what(self) -> str:
        return measure_of(self.accelerator)

    @property
    def title(self) -> str:
        on = f"{shown(self.accelerator.name)}, tokens {self.tokens}"
        return f"{self._what} of {self.model.name}, {described(self.method)} on {on}"

    @property
    def _conditions(self) -> Conditions:
        return conditions_of(self.place, self.accelerator, self.tokens)

    def key(self, inputs: Sequence[Any]) -> str:
        on, conditions = self.accelerator, self._conditions
        target = key_of(on)
        asked = [self.tokens, on.activation_density, conditions.routing.text, *halo_of(on), *self._included]
        asked += [file_sha256(Path(phase_rows.__file__))] if self.roles else []
        named = [self.model.name, self.method.title]
        return sha256_of([inputs[0].sha256, target, asked, named, code_sha256(SIMULATING)])

    @property
    def roles(self) -> tuple[str, ...]:
        """Of what is asked for beside the layers."""
        return checked_included(self.accelerator.include, self.phase)

    @property
    def _included(self) -> list[Any]:
        """What a key or name says of it; nothing where nothing is."""
        return [self.roles, asdict(self.phase) if self.phase else None] if self.roles else []

    def lacks(self, masks: Masks) -> str:
        """Why the masks have none of `roles`; "" where they have, or nothing is asked."""
        return lacking(self.roles, masks.source().header) if self.roles else ""

    def _name(self, inputs: Sequence[Masks]) -> str:
        on, routing = self.accelerator, self._conditions.routing
        settings = sha256_of([on.set, on.sweep, on.activation_density, *halo_of(on), *self._included])[:8]
        plain = not on.set and not on.sweep and on.activation_density == 1 and not on.halo_reuse and not self.roles
        routed = "" if routing.kind == "uniform" else routing.text
        return slug(
            self._what, inputs[0].name, shown(on.name), on.dtype, "" if plain else settings, routed, self.tokens
        )

    def find(self, store: Store, key: str, inputs: Sequence[Any]) -> pd.DataFrame | None:
        return store.find_rows(self._name(inputs), key, LAYER_COLUMNS)

    def make(self, store: Store, key: str, inputs: Sequence[Any], progress: ProgressLine) -> None:
        def rows() -> pd.DataFrame:
            frame = self.frame(inputs[0], ALL, progress)
            warn_of_gaps(frame)
            return frame

        store.make_rows(self._name(inputs), key, rows)

    def frame(self, masks: Masks, span: Span, progress: ProgressLine) -> pd.DataFrame:
        """The rows of some layers and designs; what is included beside them has pieces of its own, or stands behind
        all."""
        source, targets = masks.source(self.fresh), targets_of(self.accelerator, span.designs)
        more: list[Row] = []
        if span.beside or (span == ALL and not self.lacks(masks)):
            more = rows_beside(self.roles, self.phase, self._conditions, source, targets)
        if span.beside:
            frame = to_frame(more, extra=extra_columns(targets))
        else:
            frame = simulate_frame(source.part(span.layers), targets, self._conditions, progress, more)
        return frame.assign(model=self.model.name, method=self.method.title)

    def parts(self, key: str, inputs: Sequence[Masks]) -> Sequence[Task]:
        beside = bool(self.roles) and not self.lacks(inputs[0])
        cut = spans(inputs[0].source().count, design_count(self.accelerator), self.job_rows, beside)
        name, kind = self._name(inputs), rows_kind()
        return [LayersPart(self, span, key, part_name(name, number), kind) for number, span in enumerate(cut)]

    def joined(self, store: Store, found: Sequence[Path]) -> pd.DataFrame:
        store.keep_parts(found[0].parent.name, found[0].suffix[1:], len(found))
        frame = pd.concat([read_part(file) for file in found], ignore_index=True)
        warn_of_gaps(frame)
        return frame


@dataclass(frozen=True, eq=False)
class UtilisationTask(FreeTask):
    """How busy one layer keeps the machine over time. `needs`: its masks."""

    place: Place
    model: StudyModel
    method: StudyMethod
    accelerator: StudyAccelerator
    tokens: int
    needs: Sequence[MasksTask]
    counted = False

    @property
    def title(self) -> str:
        return f"utilisation of {shown(self.accelerator.name)} by {self.accelerator.trace} of {self.model.name}"

    def result(self, inputs: Sequence[Any]) -> pd.DataFrame:
        on, source = self.accelerator, inputs[0].source()
        conditions = conditions_of(self.place, on, self.tokens)
        frame = utilisation_frame(source, first_of(on), conditions, on.trace)
        header = source.header
        facts = {"pattern": header.pattern, "target_sparsity": header.target_sparsity, "seed": header.seed}
        return frame.assign(model=self.model.name, method=self.method.title, **facts)
