"""The README says only what the project has."""

import re
from pathlib import Path

from simulator.accelerators import ACCELERATORS
from studies.cli.main import VERBS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_files_it_names_exist():
    named = re.findall(r"\]\(([^)#:]+)\)|`((?:examples|benchmarks|workloads|simulator)/[\w./-]+\.\w+)`", README)
    assert named
    for link, path in named:
        assert (ROOT / (link or path)).exists(), link or path


def test_verbs_and_accelerators_are_all_shown():
    for verb in VERBS:
        assert re.search(rf"prunesim {verb}\b", README), verb
    for name in ACCELERATORS:
        assert f"`{name}`" in README


def test_nothing_is_left_to_be_filled_in():
    assert not re.search(r"^[A-Z]+_[A-Z_]+$|TODO|FIXME|TBD", README, flags=re.MULTILINE)
