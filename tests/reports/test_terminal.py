"""Tables in a terminal: whatever its width, no number, name or setting is cut."""

import io

import pytest
from rich.console import Console

from reports import print_report
from reports.words.settings import settings_text
from tests.reports.samples import frame, row

SETTINGS = [f"mapping.objective=edp dram.bandwidth_gbps={gbps} buffers.weight_kib=200" for gbps in ("25.6", "51.2")]
METHOD = "a-method-of-somebody-else"


def shown(width: int) -> list[str]:
    rows = [row(10_000, 4_000 + number, settings=text, method=METHOD) for number, text in enumerate(SETTINGS)]
    out = io.StringIO()
    print_report(frame(rows), None, Console(file=out, width=width), 4)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_nothing_is_cut(width):
    lines = shown(width)
    text = " ".join(" ".join(lines).split())
    assert "…" not in text
    for wanted in ("vitcod", METHOD, "2.50x", "4,001", *map(settings_text, SETTINGS)):
        assert wanted in text, wanted


@pytest.mark.parametrize("width", [80, 100])
def test_settings_that_do_not_fit_stand_below_under_their_number(width):
    lines = shown(width)
    first, second = (next(place for place, line in enumerate(lines) if line.startswith(f"Settings {n}:")) for n in "12")
    assert [lines[place].split(": ")[1] for place in (first, second)] == list(map(settings_text, SETTINGS))
    assert [line.split()[:2] for line in lines[:first] if line.startswith(" vitcod")] == [
        ["vitcod", "1"],
        ["vitcod", "2"],
    ]


def test_headings_wrap_before_anything_else_does():
    wide, narrow = shown(200), shown(100)
    assert max(map(len, narrow)) <= 100 < max(map(len, wide))
