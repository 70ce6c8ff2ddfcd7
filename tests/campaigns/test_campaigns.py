"""The short form of both campaigns; `python -m tests.campaigns kill` and `fuzz` run them in full."""

import os

import pytest

from tests.campaigns import fuzz, kill
from tests.campaigns.forked import warm

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="campaigns fork")
QUICK = ("gblm", "import", "simulate")  # "run" and "report" draw figures, for seconds each


def lost(outcomes) -> list[str]:
    return [f"{what} -> {wrong}" for what, wrong in outcomes if wrong]


def test_killed_commands_end_with_the_same_bytes_when_they_are_repeated(tmp_path):
    warm()
    assert lost(kill.campaign(tmp_path, 0, range(len(QUICK)), QUICK)) == []


def test_damaged_inputs_end_in_one_line(tmp_path):
    warm()
    jobs = tuple(name for name in fuzz.JOBS if name not in ("study", "study-shapes", "rows", "rows-json", "quality"))
    assert lost(fuzz.campaign(tmp_path, 0, range(len(jobs)), jobs)) == []
