"""Runs a study step by step: masks, perplexity, cycles, report. A step whose inputs are unchanged is skipped."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from simulator.gpu import GPUS
from studies.entries import (
    check_method,
    check_place,
    gpu_key,
    needs_calibration,
    prune_settings,
    targets_of,
)
from studies.gaps import check_any_ran, warn_of_gaps
from studies.masks import check_model, generated, model_layers, write_bundle
from studies.method_entry import GENERATED, StudyMethod
from studies.names import absent_text, described, given_name, masks_name, slug, target_text
from studies.progress import ProgressLine, warn
from studies.published import published_rows, spmm_table, unmatched_notes
from studies.report import constants_for, notes_for
from studies.settings import density_of
from studies.shapes import NEEDS_NO_MASK, shapes_source
from studies.simulate import Source, bundle_source, simulate_frame, utilisation_frame
from studies.steps import Steps
from studies.study import Study, StudyAccelerator, StudyModel, StudyRecord
from workloads import __version__
from workloads.bundle import MaskBundle
from workloads.columns.layers import LAYER_COLUMNS
from workloads.columns.quality import QUALITY_COLUMNS
from workloads.conditions import Conditions
from workloads.errors import NotForThisModel, UserError
from workloads.files import sha256_of
from workloads.locking import writing
from workloads.routing import Routing, parse_routing

if TYPE_CHECKING:
    pass

FEW_TABLES = 4  # with more masks and targets the terminal shows the headline alone


def run_study(study: Study, out: Path | None, fresh: bool = False) -> dict[str, Path]:
    """Runs every step that is needed, writes the report and prints its headline. Returns the report's files. Raises NothingRan where no
    target can run any layer."""
    runner = StudyRunner(study, out or study.out, fresh)
    runner.check()
    with writing(runner.out):
        rows, quality = runner.run()
        files = runner.report(rows, quality)
    if rows is not None:
        check_any_ran(rows)
    return files


@dataclass(frozen=True)
class Masks:
    """What a run's rows are made of. `name` tells it apart from the other runs of the study; bundle is None where no masks are needed."""

    source: Source
    sha256: str
    name: str
    bundle: MaskBundle | None


class StudyRunner:
    """The steps of one study and the folder they write to."""

    def __init__(self, study: Study, out: Path, fresh: bool = False):
        self.study = study
        self.fresh = fresh  # gather statistics and simulate again, whatever is there
        self.out = out
        self.progress = ProgressLine()
        self.left_out: list[str] = []
        self.timelines: list[pd.DataFrame] = []
        self.places = [(on, tokens) for on in study.file.accelerators for tokens in on.tokens]
        count = sum(
            model.evaluated + len(self.methods_of(model)) * (1 + model.evaluated + len(self.places_of(model)))
            for model in study.models
        )
        self.steps = Steps(out, count, self.progress)

    def methods_of(self, model: StudyModel) -> list[StudyMethod]:
        return [method for method in self.study.methods if method.runs_for(model.name)]

    def places_of(self, model: StudyModel) -> list[tuple[StudyAccelerator, int]]:
        return [(accelerator, tokens) for accelerator, tokens in self.places if accelerator.runs(model)]

    def check(self) -> None:
        """Everything that can be known to be wrong before the first step runs. Raises UserError."""
        for accelerator, tokens in self.places:
            try:
                check_place(accelerator, tokens)
                self.routing(accelerator)
            except UserError as error:
                raise UserError(f"{self.study.path}: {accelerator.name}: {error}") from None
        for record in self.study.file.measured:
            self.measured(record)
        for method in self.study.methods:
            try:
                check_method(method)
            except UserError as error:
                raise UserError(f"{self.study.path}: {described(method)}: {error}") from None
        self.check_selections()
        for model in self.study.models:
            for name in (model.text, model.calibration):
                if name and Path(name).suffix and not self.study.beside(name).is_file():
                    raise UserError(f"{self.study.path}: model {model.name!r}: no such file: {self.study.beside(name)}")
            if not self.methods_of(model):
                raise UserError(
                    f"{self.study.path}: model {model.name!r} has no [[methods]]; leave it out or give it one"
                )
            for method in self.methods_of(model):
                if method.masks:
                    self.check_masks(model, method)
                    continue
                if model.path and not model.calibration and needs_calibration(method):
                    raise UserError(
                        f"{self.study.path}: model {model.name!r} has no `calibration`; {method.title} needs it"
                    )
                if model.shapes and method.method != GENERATED:
                    raise UserError(
                        f"{self.study.path}: {model.name!r} has shapes only; {method.method!r} needs weights "
                        f"(give `path`), or use method = {GENERATED!r}"
                    )

    def check_selections(self) -> None:
        """A selection may fit some models of a study only; raises UserError for one that fits none."""
        for method in self.study.methods:
            refusals: list[NotForThisModel] = []
            models = [m for m in self.study.models if method.runs_for(m.name) and not method.selection.everything]
            for model in models:
                try:
                    method.selection.names(model_layers(self.beside_or_name(model.path or model.shapes)))
                except NotForThisModel as error:
                    refusals.append(error)
            if refusals and len(refusals) == len(models):
                raise UserError(f"{self.study.path}: {described(method)}: {refusals[0]}")

    def run(self) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
        """(result rows, quality rows); None where the study asks for none."""
        rows, quality = [], []
        for model in self.study.absent:
            sys.stderr.write(f"left out: {absent_text(model)}\n")
        for model in self.study.models:
            if model.evaluated:
                quality.append(self.quality_step(model, None, None))
            for method in self.methods_of(model):
                try:
                    masks = self.masks_step(model, method)
                except NotForThisModel as error:
                    self.leave_out(f"{model.name} at {target_text(method)}: {error}")
                    continue
                if model.evaluated:
                    quality.append(self.quality_step(model, method, masks))
                rows += [self.cycles_step(model, method, masks, *place) for place in self.places_of(model)]
        rows += [self.measured(record) for record in self.study.file.measured]
        self.steps.end()
        return joined(rows), joined(quality)

    def leave_out(self, text: str) -> None:
        """A target its model's shapes cannot take: told once, in the report too."""
        if text not in self.left_out:
            self.left_out.append(text)
            self.progress.close()
            sys.stderr.write(f"left out: {text}\n")

    def report(self, rows: pd.DataFrame | None, quality: pd.DataFrame | None) -> dict[str, Path]:
        from rich.console import Console

        from reports import write_report
        from reports.render.terminal import print_report

        notes = [f"Left out: {absent_text(model)}." for model in self.study.absent]
        notes += [f"Left out: {text}." for text in self.left_out]
        asked = [accelerator.name for accelerator in self.study.file.accelerators if accelerator.published]
        notes += [] if rows is None else unmatched_notes(asked, rows) + notes_for(rows)
        constants = None if rows is None else constants_for(rows)
        spmm = None if rows is None else spmm_table(rows)
        timelines = joined(self.timelines)
        files = write_report(rows, quality, self.out, self.study.file.title, notes, timelines, constants, spmm)
        print_report(rows, quality, Console(width=None if sys.stdout.isatty() else 180), FEW_TABLES)
        print(f"\nreport: {files['report.html']}")
        return files

    def masks_step(self, model: StudyModel, method: StudyMethod) -> Masks:
        self.steps.begin(f"masks of {model.name}, {described(method)}")
        if self.shapes_suffice(model, method):
            source = shapes_source(self.beside_or_name(model.path or model.shapes), method.seed)
            return Masks(source, source.header.sha256(), masks_name(model, method), None)
        if method.masks:
            bundle = MaskBundle.open(self.study.beside(method.masks))
            return Masks(bundle_source(bundle, self.fresh), bundle.sha256, given_name(model, method, bundle), bundle)
        bundle = self.bundle_step(model, method)
        return Masks(bundle_source(bundle, self.fresh), bundle.sha256, bundle.folder.name, bundle)

    def check_masks(self, model: StudyModel, method: StudyMethod) -> None:
        """Raises UserError where a bundle that was given is not of this model."""
        try:
            check_model(self.study.beside(method.masks), self.beside_or_name(model.path or model.shapes))
        except UserError as error:
            raise UserError(f"{self.study.path}: {method.title} for model {model.name!r}: {error}") from None

    def shapes_suffice(self, model: StudyModel, method: StudyMethod) -> bool:
        """Generated 2:4 masks, of which GPUs alone are asked: their times are those of the shapes."""
        names = {accelerator.name for accelerator, _ in self.places_of(model)}
        return (
            bool(names)
            and names <= set(GPUS)
            and method.method == GENERATED
            and method.pattern == NEEDS_NO_MASK
            and method.selection.everything
            and method.fallback == "refuse"
            and not model.evaluated
        )

    def bundle_step(self, model: StudyModel, method: StudyMethod) -> MaskBundle:
        folder = self.out / "masks" / masks_name(model, method)
        if method.method == GENERATED:
            density = density_of(method.pattern, None if method.sparsity is None else 1 - method.sparsity)
            made = generated(
                self.beside_or_name(model.path or model.shapes), method.pattern, density, method.seed, {}, method.selection,
                method.fallback,
            )  # fmt: skip
            return self.steps.bundle(
                folder,
                made.header.sha256(),
                lambda: write_bundle(folder, made.header, made.count, made.masks, self.progress, made.patterns),
            )
        drawn = self.text_sha256(model.calibration)
        settings = [model.name, model.samples, model.seq_len, model.dtype, {**vars(method), "label": ""}]
        key = sha256_of([settings, drawn, self.model_files_sha256(model), __version__])
        return self.steps.bundle(folder, key, lambda: self.prune(model, method, folder))

    def prune(self, model: StudyModel, method: StudyMethod, folder: Path) -> MaskBundle:
        from studies.prune import make_recipe, open_checkpoint, run_prune

        checkpoint = open_checkpoint(self.beside_or_name(model.path), model.dtype)
        calibration = self.beside_or_name(model.calibration) if model.calibration else None
        settings = prune_settings(method)
        recipe = make_recipe(model.name, checkpoint, settings, calibration, model.samples, model.seq_len)
        return run_prune(checkpoint, recipe, folder, None, "dense", self.progress, warn)

    def quality_step(self, model: StudyModel, method: StudyMethod | None, masks: Masks | None) -> pd.DataFrame:
        from studies.prune import open_checkpoint

        self.steps.begin(f"perplexity of {model.name}, {described(method) if method else 'dense'}")
        text = self.beside_or_name(model.text)
        title = method.title if method else "dense"
        settings = [model.name, model.eval_seq_len, model.eval_windows, model.dtype, title]
        bundle = masks.bundle if masks else None
        masks_sha256 = bundle.sha256 if bundle else ""
        key = [settings, masks_sha256, self.text_sha256(model.text), self.model_files_sha256(model), __version__]
        name = slug("quality", model.name, method.method if method else "dense", masks.name if masks else "")

        def make() -> pd.DataFrame:
            from studies.evaluate import evaluate

            path = self.beside_or_name(model.path)
            checkpoint = open_checkpoint(path, model.dtype)
            frame = evaluate(checkpoint, path, bundle, text, model.eval_seq_len, model.eval_windows, self.progress)
            return frame.assign(model=model.name, method=title)

        return self.steps.rows(name, key, QUALITY_COLUMNS, make)

    def cycles_step(
        self, model: StudyModel, method: StudyMethod, masks: Masks, accelerator: StudyAccelerator, tokens: int
    ) -> pd.DataFrame:
        targets = targets_of(accelerator)
        what = "cycles" if isinstance(targets, list) else "times"
        self.steps.begin(f"{what} of {model.name}, {described(method)} on {accelerator.name}, tokens {tokens}")
        routing = self.routing(accelerator)
        conditions = Conditions(tokens, accelerator.activation_density, routing)
        described_by = [[t.sha256, t.source_sha256] for t in targets] if isinstance(targets, list) else gpu_key(targets)
        key = [
            masks.sha256,
            described_by,
            tokens,
            accelerator.activation_density,
            routing.text,
            __version__,
            model.name,
            method.title,
        ]
        settings = sha256_of([accelerator.set, accelerator.sweep, accelerator.activation_density])[:8]
        plain = not accelerator.set and not accelerator.sweep and accelerator.activation_density == 1
        routed = "" if routing.kind == "uniform" else routing.text
        name = slug(what, masks.name, accelerator.name, accelerator.dtype, "" if plain else settings, routed, tokens)
        if accelerator.trace and isinstance(targets, list):
            frame = utilisation_frame(masks.source, targets[0], conditions, accelerator.trace)
            header = masks.source.header
            facts = {"pattern": header.pattern, "target_sparsity": header.target_sparsity, "seed": header.seed}
            self.timelines.append(frame.assign(model=model.name, method=method.title, **facts))

        def make() -> pd.DataFrame:
            frame = simulate_frame(masks.source, targets, conditions, self.progress)
            warn_of_gaps(frame)
            return frame.assign(model=model.name, method=method.title)

        rows = self.steps.rows(name, key, LAYER_COLUMNS, make, self.fresh)
        beside = published_rows(rows) if accelerator.published else rows[:0]
        return pd.concat([rows, beside], ignore_index=True) if len(beside) else rows

    def routing(self, accelerator: StudyAccelerator) -> Routing:
        """Raises UserError for one that is none, or counts that cannot be read."""
        return parse_routing(accelerator.routing, self.study.path.parent)

    def measured(self, record: StudyRecord) -> pd.DataFrame:
        """Raises UserError where the file is no record."""
        from studies.measure import replay

        return replay(self.study.beside(record.record), record.l2)

    def text_sha256(self, name: str) -> str:
        """Of a file beside the study; the name itself of a data set, whose rows are not read for that."""
        file = self.study.beside(name)
        return self.steps.sha256(file) if file.is_file() else name

    def beside_or_name(self, name: str) -> str:
        """A path beside the study file if there is one, else the name itself (hub id, catalog or data set name)."""
        beside = self.study.beside(name)
        return str(beside) if beside.exists() else name

    def model_files_sha256(self, model: StudyModel) -> str:
        from checkpoints.model_folder import find_model
        from checkpoints.weight_files import weight_files

        found = find_model(self.beside_or_name(model.path))
        settings = [found / "config.json"] if found.is_dir() else []
        files = [*settings, *weight_files(found)]
        return sha256_of([[file.name, self.steps.sha256(file)] for file in files])


def joined(frames: list[pd.DataFrame]) -> pd.DataFrame | None:
    return pd.concat(frames, ignore_index=True) if frames else None
