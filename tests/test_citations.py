"""Every "(methods 4.5)" in code, tests and documents leads to a section of docs/methods.md."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEADING = re.compile(r"^#{2,3} (\d+(?:\.\d+)?)\.? ", re.MULTILINE)
NUMBER = r"\d+(?:\.\d+)?"
CITATION = re.compile(rf"\bmethods\s+(?:#\s+)?({NUMBER}(?:(?:,\s*|\s+and\s+){NUMBER})*)")
OWN = re.compile(
    r"\((\d{1,2}(?:\.\d)?)\)|: (\d{1,2}\.\d)\)"
)  # "(4.2)" and "(by bits: 18.3)" inside docs/methods.md itself


def sections() -> list[str]:
    return HEADING.findall((ROOT / "docs" / "methods.md").read_text())


def cited(text: str) -> list[str]:
    """The numbers of "methods 2.1, 2.2 and 18.3", line breaks and all."""
    return [number for found in CITATION.findall(text) for number in re.findall(NUMBER, found)]


def sources() -> list[Path]:
    """Code and documents of the repository, without what was installed or built in it."""
    rooms = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(
        [*ROOT.glob("*.md")]
        + [path for room in rooms for kind in ("*.py", "*.md", "*.toml") for path in room.rglob(kind)]
    )


def test_every_citation_has_its_section() -> None:
    known = set(sections())
    dangling = [
        f"{path.relative_to(ROOT)}: methods {number}"
        for path in sources()
        for number in cited(path.read_text())
        if number not in known
    ]
    assert not dangling, f"no such section in docs/methods.md: {dangling}"


def test_there_are_citations_to_look_at() -> None:
    """A pattern that matched nothing would let everything pass."""
    found = {number for path in sources() if path.parent.name != "docs" for number in cited(path.read_text())}
    assert {"0.1", "0.5", "4.5", "17", "18.3", "19.4"} <= found


def test_the_text_refers_to_sections_of_its_own() -> None:
    text = (ROOT / "docs" / "methods.md").read_text()
    own = {number for pair in OWN.findall(text) for number in pair if number}
    assert len(own) > 5
    assert own <= set(sections())


def test_numbers_rise_and_none_comes_twice() -> None:
    numbers = [tuple(map(int, number.split("."))) for number in sections()]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("number", ["9.9", "4.7", "99"])
def test_a_citation_of_nothing_is_seen(number: str) -> None:
    for text in (
        f"sums (methods {number}).",
        f"methods 4.5, {number}",
        f"of methods\n    {number}; more",
        f"# methods {number}",
    ):
        assert number in cited(text)
    assert number not in sections()


@pytest.mark.parametrize(
    "text", ["two methods, 4.5 times faster", 'raises "methods.0.targets"', "methods: 4", "all methods"]
)
def test_what_only_looks_like_a_citation(text: str) -> None:
    assert cited(text) == []
