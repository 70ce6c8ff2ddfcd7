"""README and docs say only what the project has, and all of it."""

import re
from pathlib import Path

import pytest

from simulator.accelerators import ACCELERATORS
from studies.cli.main import VERBS

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
README = PAGES["README.md"]
every_page = pytest.mark.parametrize("page", PAGES)


@every_page
def test_files_it_names_exist(page):
    links = re.findall(r"\]\(([^)#:]+)\)", PAGES[page])
    named = re.findall(
        r"`((?:docs|examples|benchmarks|checkpoints|workloads|simulator|pruning|measurement|reports|studies|tests)/[\w./-]+\.\w+)`",
        PAGES[page],
    )
    for link in links:
        assert ((ROOT / page).parent / link).exists(), link
    for path in named:
        assert (ROOT / path).exists(), path


def test_every_page_can_be_reached_from_the_readme():
    reached, waiting = set(), ["README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        targets = {((ROOT / page).parent / link).resolve() for link in re.findall(r"\]\(([^)#:]+)[^)]*\)", PAGES[page])}
        waiting += [other for other in PAGES if ROOT / other in targets and other not in reached]
    assert reached == set(PAGES)


def test_verbs_and_accelerators_are_all_shown():
    for verb in VERBS:
        assert re.search(rf"prunesim {verb}\b", README), verb
    everything = "".join(PAGES.values())
    for name in ACCELERATORS:
        assert f"`{name}`" in everything or f"**{name}**" in everything, name


def test_readme_is_short():
    assert len(README.encode()) <= 8192


@every_page
def test_nothing_is_left_to_be_filled_in(page):
    assert not re.search(r"^[A-Z]+_[A-Z_]+$|TODO|FIXME|TBD", PAGES[page], flags=re.MULTILINE)
