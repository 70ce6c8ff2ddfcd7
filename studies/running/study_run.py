"""Runs a study: its tasks, then the report of their results."""

import sys
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pandas as pd

from measurement.published import TABLES
from studies.end_to_end import is_end_to_end, whole_rows
from studies.executors.named import opened
from studies.gaps import check_any_ran
from studies.measured_here import measured_here
from studies.names import absent_text, described, target_text
from studies.progress import ProgressLine
from studies.published import published_rows, spmm_table, unmatched_notes
from studies.records import study_rows
from studies.report import columns_for, constants_for, notes_for
from studies.running.ahead import tell_study
from studies.running.checks import check_study
from studies.running.execute import Results, execute
from studies.running.masks_tasks import Masks, MasksTask
from studies.running.plan import Plan
from studies.running.rows_tasks import LayersTask, QualityTask, UtilisationTask
from studies.running.store import Store
from studies.running.task import Task
from studies.running.whole_results import whole_models
from studies.running.whole_tasks import WholeTask
from studies.simulate import has_halo
from studies.speed.result import read_met
from studies.study import Study
from workloads.block_record import ways_taken
from workloads.errors import UserError
from workloads.locking import writing
from workloads.searched import Searched
from workloads.whole_models import WholeModels

FEW_TABLES = 4  # with more masks and targets the terminal shows the headline alone


def run_study(
    study: Study, out: Path | None = None, fresh: bool = False, workers: int | None = None
) -> dict[str, Path]:
    """Makes every result that is not there, writes the report and prints its headline. Returns the report's files.
    `workers`: in place of the study's own number. Raises NothingRan where no target can run any layer, or no design of
    a search meets its constraints."""
    run = StudyRun(study, out or study.out, fresh, workers)
    run.check()
    with writing(run.out):
        rows, quality = run.run()
        files = run.report(rows, quality)
    if rows is not None:
        check_any_ran(rows)
    if run.searched is not None:
        from studies.search.search_run import check_any_met

        check_any_met(run.searched)
    return files


class StudyRun:
    """One study, the folder it writes to, and how many workers make its results; the results do not depend on that."""

    def __init__(self, study: Study, out: Path, fresh: bool = False, workers: int | None = None):
        asked = study.file.executor
        self.executor = asked if workers is None else replace(asked, workers=workers)
        if workers is not None:
            self.executor.check("`workers`")
        self.study = replace(study, file=replace(study.file, executor=self.executor))
        self.plan = Plan(self.study, fresh)
        self.out = out
        self.left_out: list[str] = []
        self.timelines: list[pd.DataFrame] = []
        self.of_blocks: list[str] = []  # what methods say of the blocks they pruned
        self.whole: WholeModels | None = None
        self.searched: Searched | None = None

    def check(self) -> None:
        """Raises UserError for whatever can be known to be wrong before the first task runs."""
        check_study(self.plan)

    def run(self) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
        """(result rows, quality rows); None where the study asks for none."""
        for model in self.study.absent:
            sys.stderr.write(f"left out: {absent_text(model)}\n")
        tasks = self.plan.tasks()
        with ExitStack() as stack:
            executor = self._opened(stack)
            results = execute(tasks, Store(self.out), executor, ProgressLine(), self.executor.tries, self._ahead)
            if self.study.file.search is not None:
                from studies.search.search_run import run_search

                self.searched = run_search(self.plan, Store(self.out), executor, ProgressLine())
        self._leave_out(results)
        self._lacking(results)
        self._of_blocks(results)
        rows, quality = [], []
        for task, frame in ((task, results.found[task]) for task in tasks if task in results.found):
            if isinstance(task, QualityTask):
                quality.append(frame)
            elif isinstance(task, UtilisationTask):
                self.timelines.append(frame)
            elif isinstance(task, LayersTask):
                rows.append(frame)
                if task.accelerator.published and len(beside := published_rows(frame)):
                    rows[-1] = pd.concat([frame, beside], ignore_index=True)
        records = self.study.file.measured
        whole = [path for record in records if is_end_to_end(path := self.study.beside(record.record))]
        self.whole = whole_models(self.plan, results, [whole_rows(path) for path in whole])
        for each in records:
            if each.on:
                rows.append(measured_here(self.study, each, self.out, ProgressLine()))
            elif each.record not in TABLES and self.study.beside(each.record) not in whole:
                rows.append(study_rows(self.study, each))
        return joined(rows), joined(quality)

    def _opened(self, stack: ExitStack) -> Executor:
        try:
            return stack.enter_context(opened(self.executor, self.out, self.study.path.parent))
        except UserError as error:
            raise UserError(f"{self.study.path}: {error}") from None

    def _ahead(self, tasks: Sequence[Task]) -> None:
        """Of workers on other machines nobody knows how fast they are."""
        if self.executor.name == "processes":
            tell_study(tasks, self.executor.workers or 1)

    def _leave_out(self, results: Results) -> None:
        """Targets that a model's shapes cannot take: told once, in the report too."""
        for task, refusal in results.refused.items():
            if isinstance(task, MasksTask | WholeTask) and task.method is not None:
                named = task.method.treat or target_text(task.method)
                self._note(f"{task.model.name} at {named}: {refusal}")

    def _lacking(self, results: Results) -> None:
        """Models that have nothing of what is included beside the layers of others, or no windows that overlap."""
        for task in results.found:
            if not isinstance(task, LayersTask):
                continue
            if why := task.lacks(results.found[task.needs[0]]):
                self._note(f"{', '.join(task.roles)} of {task.model.name}: {why}")
            if task.accelerator.halo_reuse and not has_halo(results.found[task.needs[0]].source().header):
                self._note(f"halo_reuse of {task.model.name}: none of its windows overlap, its rows are as without")

    def _note(self, text: str) -> None:
        if text not in self.left_out:
            self.left_out.append(text)
            sys.stderr.write(f"left out: {text}\n")

    def _of_blocks(self, results: Results) -> None:
        for task, masks in results.found.items():
            if isinstance(task, MasksTask) and isinstance(masks, Masks) and masks.bundle is not None:
                said = ways_taken(masks.bundle.records)
                self.of_blocks += [f"{task.model.name}, {described(task.method)}: {sentence}." for sentence in said]
                if (met := read_met(masks.bundle.folder)) is not None:
                    self.of_blocks.append(f"{task.model.name}, {described(task.method)}: {'; '.join(met.lines)}.")

    def report(self, rows: pd.DataFrame | None, quality: pd.DataFrame | None) -> dict[str, Path]:
        from rich.console import Console

        from reports import print_report, write_report

        notes = [f"Left out: {absent_text(model)}." for model in self.study.absent]
        notes += [f"Left out: {text}." for text in self.left_out]
        notes += self.of_blocks
        asked = [accelerator.name for accelerator in self.study.file.accelerators if accelerator.published]
        targets = [target for some in self.plan.targets.values() for target in some]
        notes += [] if rows is None else unmatched_notes(asked, rows) + notes_for(rows, targets)
        constants = None if rows is None else constants_for(rows)
        spmm = None if rows is None else spmm_table(rows)
        timelines = joined(self.timelines)
        title, own = self.study.file.title, columns_for(rows, targets)
        after = {method.title: str(method.after) for method in self.study.methods if method.after}
        whole = self.whole
        found = self.searched
        files = write_report(
            rows,
            quality,
            self.out,
            title,
            notes,
            timelines,
            constants,
            spmm,
            own,
            after,
            whole,
            self.study.style,
            found,
        )
        print_report(rows, quality, Console(width=None if sys.stdout.isatty() else 180), FEW_TABLES, whole, found)
        print(f"\nreport: {files['report.html']}")
        return files


def joined(frames: list[pd.DataFrame]) -> pd.DataFrame | None:
    return pd.concat(frames, ignore_index=True) if frames else None
