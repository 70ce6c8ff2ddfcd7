"""A model stitched together of pruned matrices is the model that a plan of the same choices leaves."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs
from pruning.evaluation.against_dense import against_dense
from pruning.plan import Plan
from pruning.run import stitched
from pruning.run.driver import prune
from pruning.run.error_table import error_table
from pruning.run.stitched import Stitched, database
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import quiet, save
from workloads.choices import UNTOUCHED, choices_of
from workloads.errors import UserError

CHOICES = choices_of(["unstructured", "2:4"], levels=3)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"), shard_size="30KB")


def test_one_changed_matrix_diverges_as_the_error_table_says(llama: Path, tmp_path: Path) -> None:
    opened, asked = partial(Checkpoint, llama), recipe("wanda", 0.5)
    assert asked.calibration is not None
    errors = error_table(opened, asked, CHOICES, "kl", tmp_path / "errors", quiet, quiet)
    found = Stitched(
        opened(), database(opened, asked, CHOICES, tmp_path / "db", quiet, quiet), asked.calibration.ids[:8]
    )
    names = [ref.layer.name for block in all_refs(opened()) for ref in block]
    whole = dict.fromkeys(names, 0)
    assert found.loss(whole) == 0
    for name in names[:3]:
        for place in (1, len(CHOICES) - 1):
            assert found.loss(whole | {name: place}) == pytest.approx(errors[name][place], rel=1e-5, abs=1e-12)
    assert found.loss(whole) == 0  # and back again


def test_all_matrices_are_those_of_a_bundle(llama: Path, tmp_path: Path) -> None:
    """By a method whose masks do not hang on the blocks before."""
    opened, asked = partial(Checkpoint, llama), recipe("magnitude", 0.5)
    judge = recipe("wanda", 0.5)
    assert judge.calibration is not None
    judged = replace(asked, calibration=judge.calibration)
    names = [ref.layer.name for block in all_refs(opened()) for ref in block]
    draw = np.random.default_rng(0)
    places = {name: int(draw.integers(len(CHOICES))) for name in names}
    file = tmp_path / "plan.json"
    Plan.of({name: CHOICES[place] for name, place in places.items()}).write(file)
    bundle = prune(opened(), recipe("magnitude", None, plan=str(file)), tmp_path / "masks", quiet, quiet)
    apart = against_dense(opened(), judge.calibration.ids[:4], bundle, quiet).kl
    found = Stitched(
        opened(), database(opened, judged, CHOICES, tmp_path / "db", quiet, quiet), judge.calibration.ids[:4]
    )
    assert found.loss(places) == pytest.approx(apart, rel=1e-4)


def test_a_database_too_large_is_refused(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stitched, "LARGEST_BYTES", 10)
    with pytest.raises(UserError, match="GB to try plans from"):
        database(partial(Checkpoint, llama), recipe("wanda", 0.5), [UNTOUCHED], tmp_path / "db", quiet, quiet)
