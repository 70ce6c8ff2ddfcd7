"""Runs a study step by step: masks, perplexity, cycles, report. A step whose inputs are unchanged is skipped."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from studies.masks import generated, write_bundle
from studies.progress import ProgressLine, warn
from studies.report import notes_for, read_rows
from studies.settings import density_of, sparsity_of
from studies.simulate import Source, simulate_frame
from studies.study import GENERATED, Study, StudyAccelerator, StudyMethod, StudyModel
from workloads import __version__
from workloads.bundle import MaskBundle
from workloads.errors import UserError
from workloads.files import pretty_json, read_json, sha256_of, sha256_of_file, write_text
from workloads.rows import LAYER_COLUMNS, QUALITY_COLUMNS, Column

FEW_TABLES = 4  # with more masks and targets the terminal shows the headline alone


def run_study(study: Study, out: Path | None) -> dict[str, Path]:
    """Runs every step that is needed, writes the report and prints its headline. Returns the report's files."""
    runner = StudyRunner(study, out or study.out)
    runner.check()
    rows, quality = runner.run()
    return runner.report(rows, quality)


class StudyRunner:
    """The steps of one study and the folder they write to."""

    def __init__(self, study: Study, out: Path):
        self.study = study
        self.out = out
        self.progress = ProgressLine()
        self._hashes: dict[Path, str] = {}

    def check(self) -> None:
        """Everything that can be known to be wrong before the first step runs. Raises UserError."""
        from simulator.simulate import open_target

        for accelerator in self.study.file.accelerators:
            target = open_target(accelerator.name, overrides(accelerator.set))
            for tokens in accelerator.tokens:
                if tokens < 1 or (target.model.level == "paper" and tokens != 1):
                    raise UserError(f"{self.study.path}: {accelerator.name} cannot run tokens = {tokens}")
        titles = [(method.title, method.pattern, method.sparsity) for method in self.study.file.methods]
        for method, title in zip(self.study.file.methods, titles, strict=True):
            self.check_method(method)
            if titles.count(title) > 1:
                raise UserError(
                    f"{self.study.path}: two methods would both be called {title[0]!r}: give each a `label`"
                )
        for model in self.study.file.models:
            for name in (model.text, model.calibration):
                if name and Path(name).suffix and not self.study.beside(name).is_file():
                    raise UserError(f"{self.study.path}: model {model.name!r}: no such file: {self.study.beside(name)}")
            for method in self.study.file.methods:
                if model.shapes and method.method != GENERATED:
                    raise UserError(
                        f"{self.study.path}: {model.name!r} has shapes only; {method.method!r} needs weights "
                        f"(give `path`), or use method = {GENERATED!r}"
                    )

    def check_method(self, method: StudyMethod) -> None:
        if method.method == GENERATED:
            density_of(method.pattern, None if method.sparsity is None else 1 - method.sparsity)
            return
        from pruning.methods import choose_rule, find_method, method_parameters

        found = find_method(method.method)
        choose_rule(found, method.rule)
        method_parameters(found, dict(method.set))
        sparsity_of(method.pattern, method.sparsity)

    def run(self) -> tuple[pd.DataFrame, pd.DataFrame | None]:
        rows, quality = [], []
        for model in self.study.file.models:
            evaluated = bool(model.text and model.path)
            if evaluated:
                quality.append(self.quality_step(model, None, None))
            for method in self.study.file.methods:
                bundle = self.masks_step(model, method)
                if evaluated:
                    quality.append(self.quality_step(model, method, bundle))
                for accelerator in self.study.file.accelerators:
                    for tokens in accelerator.tokens:
                        rows.append(self.cycles_step(model, method, bundle, accelerator, tokens))
        self.progress.close()
        return pd.concat(rows, ignore_index=True), pd.concat(quality, ignore_index=True) if quality else None

    def report(self, rows: pd.DataFrame, quality: pd.DataFrame | None) -> dict[str, Path]:
        from rich.console import Console

        from reports import headline_table, write_report
        from reports.tables import KEYS, role_table
        from reports.terminal import print_headline, print_roles

        files = write_report(rows, quality, self.out, self.study.file.title, notes_for(rows))
        console = Console(width=None if sys.stdout.isatty() else 140)
        print_headline(headline_table(rows, quality), console)
        if len(rows.drop_duplicates(KEYS)) <= FEW_TABLES:
            print_roles(role_table(rows), console)
        print(f"\nreport: {files['report.html']}")
        return files

    def masks_step(self, model: StudyModel, method: StudyMethod) -> MaskBundle:
        sets = sha256_of(method.set)[:8] if method.set else ""
        name = slug(model.name, method.method, method.pattern, method.sparsity, method.rule, sets, method.seed)
        folder = self.out / "masks" / name
        if method.method == GENERATED:
            density = density_of(method.pattern, None if method.sparsity is None else 1 - method.sparsity)
            header, count, masks = generated(
                self.beside_or_name(model.path or model.shapes), method.pattern, density, method.seed, {}
            )
            return self.fresh(
                folder, header.sha256(), lambda: write_bundle(folder, header, count, masks, self.progress)
            )
        calibration = self.study.beside(model.calibration)
        drawn = self.sha256(calibration) if calibration.is_file() else model.calibration
        settings = [model.name, model.samples, model.seq_len, model.dtype, {**vars(method), "label": ""}]
        key = sha256_of([settings, drawn, self.model_files_sha256(model), __version__])
        return self.fresh(folder, key, lambda: self.prune(model, method, folder))

    def fresh(self, folder: Path, key: str, make: Callable[[], MaskBundle]) -> MaskBundle:
        """The bundle in `folder` if it was made from the same inputs, else a new one (an unfinished one is continued)."""
        stamp = folder.with_name(folder.name + ".json")
        known = read_json(stamp, "study step") if stamp.exists() else {}
        if known.get("key") != key:
            shutil.rmtree(folder, ignore_errors=True)
            write_text(stamp, pretty_json({"key": key}))
        return make() if not (folder / "bundle.json").exists() else self.reopened(folder)

    def reopened(self, folder: Path) -> MaskBundle:
        self.note(f"unchanged, skipped: {folder.name}")
        return MaskBundle.open(folder)

    def prune(self, model: StudyModel, method: StudyMethod, folder: Path) -> MaskBundle:
        from studies.prune import make_recipe, open_checkpoint, run_prune

        checkpoint = open_checkpoint(self.beside_or_name(model.path), model.dtype)
        calibration = self.beside_or_name(model.calibration) if model.calibration else None
        recipe = make_recipe(
            model.name, checkpoint, method.method, method.sparsity, method.pattern, method.rule, overrides(method.set),
            calibration, model.samples, model.seq_len, method.seed,
        )  # fmt: skip
        self.note(f"pruning {model.name} with {method.method}, {method.pattern}")
        return run_prune(checkpoint, recipe, folder, None, self.progress, warn)

    def quality_step(self, model: StudyModel, method: StudyMethod | None, bundle: MaskBundle | None) -> pd.DataFrame:
        from studies.prune import open_checkpoint

        text = self.study.beside(model.text)
        settings = [model.name, model.eval_seq_len, model.eval_windows, model.dtype, method.title if method else ""]
        masks_sha256 = bundle.sha256 if bundle else ""
        key = [settings, masks_sha256, self.sha256(text), self.model_files_sha256(model), __version__]
        name = slug("quality", model.name, method.method if method else "dense", bundle.folder.name if bundle else "")

        def make() -> pd.DataFrame:
            from studies.evaluate import evaluate

            self.note(f"evaluating {model.name}, {method.method + ' ' + method.pattern if method else 'dense'}")
            checkpoint = open_checkpoint(self.beside_or_name(model.path), model.dtype)
            frame = evaluate(
                checkpoint,
                self.beside_or_name(model.path),
                bundle,
                text,
                model.eval_seq_len,
                model.eval_windows,
                self.progress,
            )
            return frame.assign(model=model.name, method=method.title if method else "dense")

        return self.rows_step(name, key, make, QUALITY_COLUMNS)

    def cycles_step(
        self, model: StudyModel, method: StudyMethod, bundle: MaskBundle, accelerator: StudyAccelerator, tokens: int
    ) -> pd.DataFrame:
        from simulator.simulate import open_target

        sets = overrides(accelerator.set)
        key = [bundle.sha256, open_target(accelerator.name, sets).sha256, tokens, __version__, model.name, method.title]
        name = slug("cycles", bundle.folder.name, accelerator.name, sha256_of(sets)[:8] if sets else "", tokens)

        def make() -> pd.DataFrame:
            source = Source(bundle.header, len(bundle), bundle)
            frame = simulate_frame(source, accelerator.name, sets, tokens, self.progress)
            return frame.assign(model=model.name, method=method.title)

        return self.rows_step(name, key, make, LAYER_COLUMNS)

    def rows_step(
        self, name: str, key: list[Any], make: Callable[[], pd.DataFrame], columns: tuple[Column, ...]
    ) -> pd.DataFrame:
        """Rows of a step, from its file if it was made from the same inputs."""
        file, stamp = self.out / "steps" / f"{name}.csv", self.out / "steps" / f"{name}.json"
        digest = sha256_of(key)
        if file.exists() and stamp.exists() and read_json(stamp, "study step").get("key") == digest:
            return read_rows(file, columns)
        frame = make()
        write_text(file, frame.to_csv(index=False))
        write_text(stamp, pretty_json({"key": digest}))
        return frame

    def beside_or_name(self, name: str) -> str:
        """A path beside the study file if there is one, else the name itself (hub id, catalog or data set name)."""
        beside = self.study.beside(name)
        return str(beside) if beside.exists() else name

    def model_files_sha256(self, model: StudyModel) -> str:
        from workloads.checkpoint import find_model_folder, weight_files

        folder = find_model_folder(self.beside_or_name(model.path))
        files = [folder / "config.json", *weight_files(folder)]
        return sha256_of([[file.name, self.sha256(file)] for file in files])

    def sha256(self, file: Path) -> str:
        if file not in self._hashes:
            self._hashes[file] = sha256_of_file(file)
        return self._hashes[file]

    def note(self, text: str) -> None:
        self.progress.close()
        sys.stderr.write(f"{text}\n")


def overrides(values: dict[str, Any]) -> list[str]:
    """{"array.height": 16} -> ["array.height=16"], for keys as `--set` takes them."""
    flat = []
    for key, value in values.items():
        if isinstance(value, dict):
            flat += [f"{key}.{inner}" for inner in overrides(value)]
        else:
            flat.append(f"{key}={pretty_json(value).strip()}")
    return flat


def slug(*parts: object) -> str:
    """A file name of the parts that are not empty."""
    texts = [re.sub(r"[^A-Za-z0-9.]+", "-", str(part)) for part in parts if part not in (None, "")]
    return "--".join(texts)
