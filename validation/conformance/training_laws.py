"""What holds of methods that train: beside the laws of masks, that nothing trains where nothing goes, and that neither
threads nor interruptions change a byte."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from pruning import parallel
from pruning.bundle_values import read_weight
from validation.conformance.laws import Broken
from validation.conformance.mask_laws import same_contents, two_folders
from validation.conformance.trial import Subject, Trial, calibrated
from workloads.threads import VARIABLE


def keeping_all_changes_nothing(subject: Subject | None, trial: Trial) -> None:
    """At sparsity 0 the bundle holds no weights: the model's own stay."""
    none = replace(trial, recipe=calibrated(replace(trial.recipe, sparsity=0.0)))
    with TemporaryDirectory() as folder:
        bundle = none.run(Path(folder))
        for entry in bundle.layers:
            if read_weight(bundle, entry.name) is not None:
                raise Broken(f"{entry.name}: the bundle holds new weights, though nothing goes")


def threads_change_nothing(subject: Subject | None, trial: Trial) -> None:
    """One thread or three, with every sequence a piece of its own."""
    with two_folders() as (one, three), pieces_of(1):
        for folder, threads in ((one, "1"), (three, "3")):
            with environment(VARIABLE, threads):
                trial.run(folder)
        same_contents(one, three, "a run on three threads")


@contextmanager
def pieces_of(tokens: int) -> Iterator[None]:
    """Within it a batch is cut into pieces of so many tokens, of one sequence at least."""
    before = dict(parallel.PIECE_TOKENS)
    parallel.PIECE_TOKENS.update(dict.fromkeys(before, tokens))
    try:
        yield
    finally:
        parallel.PIECE_TOKENS.update(before)


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
