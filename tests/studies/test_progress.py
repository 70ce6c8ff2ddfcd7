"""How far work is, as a log and as a terminal have it; warnings of a kind once; nothing left behind."""

import os
import pty
import re
import subprocess
import sys

import pytest

from studies import progress as module
from studies.progress import ProgressLine, counted, duration, rate_text
from studies.telling import warn, warnings_spelled


@pytest.fixture
def clock(monkeypatch):
    """Seconds, moved by hand."""
    now = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def said(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


def work(line: ProgressLine, clock, seconds: list[float], of: int, what: str = "pruning") -> None:
    for done, took in enumerate(seconds):
        line(what, done, of)
        clock[0] += took
    line(what, len(seconds), of)


def test_a_log_hears_nothing_of_work_within_a_minute(clock, capsys):
    work(ProgressLine(), clock, [0.5] * 100, 100)
    assert said(capsys) == []


def test_a_log_hears_first_how_long_it_takes_and_then_once_a_minute(clock, capsys):
    work(ProgressLine(), clock, [20.0] * 31, 32)
    first, *others = said(capsys)
    assert first == "pruning: 1/32, 20 s each, 10 min left"  # 31 x 20 s = 620 s
    assert [line.split(",")[0].split()[1] for line in others] == [f"{n}/32" for n in range(4, 32, 3)]
    assert others[-1] == "pruning: 31/32, 20 s each, 20 s left"


def test_many_short_steps_one_after_the_other_are_heard_once_a_minute(clock, capsys):
    line = ProgressLine()
    for _ in range(10):
        work(line, clock, [1.0] * 30, 30)
        line.close()
    assert len(said(capsys)) == 5  # 300 s


def test_what_was_there_already_does_not_make_the_rest_look_fast(clock, capsys):
    work(ProgressLine(), clock, [0.001] * 100 + [30.0] * 3, 110)
    assert said(capsys)[0] == "pruning: 101/110, 30 s each, 4 min left"  # 9 x 30 s = 270 s, not 30 / 101 s each


def test_a_slow_first_one_is_no_rate(clock, capsys):
    work(ProgressLine(), clock, [5.0] + [0.1] * 41, 42)
    assert said(capsys) == []


def test_words_may_change_within_a_step(clock, capsys):
    line = ProgressLine()
    for done in range(4):
        line(f"measuring {done}", done, 100)
        clock[0] += 10
    assert said(capsys) == ["measuring 1: 1/100, 10 s each, 16 min left"]  # 990 s


def test_of_many_steps_a_log_has_one_line_a_minute(clock, capsys):
    line = ProgressLine()
    for number in range(1, 101):
        line.step(number, 100, "cycles")
        clock[0] += 6
    assert said(capsys) == [f"[{number}/100] cycles" for number in range(1, 101, 10)]
    for number in range(1, 13):
        line.step(number, 12, "cycles")
    assert len(said(capsys)) == 12


def test_items_are_counted_as_they_are_taken(clock, capsys):
    def slow():
        for item in "abc":
            clock[0] += 100
            yield item

    assert list(counted(slow(), "reading", 3, ProgressLine())) == ["a", "b", "c"]
    assert [line.split(",")[0] for line in said(capsys)] == ["reading: 0/3", "reading: 1/3", "reading: 2/3"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (89, "1 min"), (3540, "59 min"), (3600, "1 h 00 min"), (3 * 86400, "3.0 days")],
)
def test_durations_are_said_as_people_do(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(1e-4, "10,000/s"), (0.25, "4.0/s"), (2.5, "2.5 s each"), (90, "2 min each")]
)
def test_rates(seconds, text):
    assert rate_text(seconds) == text


def test_warnings_that_differ_in_names_and_numbers_are_one(capsys):
    with warnings_spelled(lambda text: text.replace("`seed`", "--seed")):
        for block in range(30):
            warn(f"model.layers.{block}.mlp.up_proj: {block + 2} of 64 rows\nlost every weight")
        warn("`seed` 3 again")
        warn("another thing")
        assert said(capsys) == [
            "warning: model.layers.0.mlp.up_proj: 2 of 64 rows lost every weight",
            "warning: --seed 3 again",
            "warning: another thing",
        ]
    assert said(capsys) == [
        "warning: 29 more like it, the last: model.layers.29.mlp.up_proj: 31 of 64 rows lost every weight"
    ]
    warn("x 1")
    warn("x 2")
    assert said(capsys) == ["warning: x 1", "warning: x 2"]  # nobody would say at the end how many


SCRIPT = """
import time
from studies.cli.ending import ending
from studies.progress import ProgressLine, warn
from workloads.errors import UserError
with ending([]):
    line = ProgressLine()
    for done in range(3):
        line("pruning", done, 3)
        warn("a word")
        time.sleep(0.12)
    raise UserError("no more")
"""


@pytest.mark.parametrize(("settings", "colours"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_has_a_bar_that_goes_and_a_clean_last_line(settings, colours):
    code, text = on_terminal(SCRIPT, settings)
    assert code == 2
    assert "pruning: 1/3" in text
    assert bool(re.search(r"\x1b\[[39]\d", text)) is colours
    assert text.index("\x1b[?25l") < text.index("\x1b[?25h")  # the cursor is hidden, and shown again
    assert text.endswith("prunesim: no more\r\n")
    assert text.count("warning: ") == 2
    assert "warning: 2 more like it, the last: a word" in text


def test_a_dumb_terminal_is_a_log():
    assert on_terminal(SCRIPT, {"TERM": "dumb"})[1].startswith("warning: a word\r\n")


def on_terminal(script: str, settings: dict[str, str]) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLORTERM")}
    run = subprocess.Popen(
        [sys.executable, "-c", script], stderr=theirs, env={**kept, "TERM": "xterm-256color", **settings}
    )
    os.close(theirs)
    text = b""
    try:
        while part := os.read(ours, 4096):
            text += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    return run.wait(), text.decode()
