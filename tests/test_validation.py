"""The generator of docs/validation on a tiny subset; the pages themselves; that a planted fault would be seen on
them."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from simulator.accelerators import ACCELERATORS
from simulator.accelerators.dstc.cycle import Dstc
from studies.cli.main import main
from validation import everything
from validation.comparison import Comparison, NotRun, error_of, number, percent, table
from validation.comparisons import closed_forms, draws, expectations, gpus, headlines, laws, orderstats, programs
from validation.comparisons import formula_twins as twins_of_formulas
from validation.comparisons import functional_twins as twins
from validation.pages import INDEX, pages
from validation.sources import scalesim as scalesim_package
from validation.subjects import subjects

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "validation"


@pytest.fixture(scope="module")
def index() -> str:
    return (FOLDER / INDEX).read_text(encoding="utf-8")


def text_of(name: str) -> str:
    (subject,) = (subject for subject in subjects() if subject.name == name)
    return (FOLDER / subject.file).read_text(encoding="utf-8")


NAMES = [subject.name for subject in subjects()]

# --- the pages that ship


@pytest.mark.parametrize("name", NAMES)
def test_the_index_has_every_model_and_its_page(index, name):
    assert re.search(rf"^\| \[{re.escape(name)}\]\(\S+\) \| ", index, re.M)
    text = text_of(name)
    assert text.startswith(f"# Validation: {name}\n")
    assert re.search(r"^\| .* \| (own rule|statistics|program|paper|silicon) \| \d+ \| ", text, re.M)


def test_there_is_a_page_a_model_and_no_other():
    assert {path.name for path in FOLDER.iterdir()} == {INDEX, "rtl.md", *(subject.file for subject in subjects())}


@pytest.mark.parametrize("name", ACCELERATORS)
def test_every_model_has_a_second_program_closed_forms_and_laws(name):
    text = text_of(name)
    assert re.search(r"^\| [a-z ]*twin, .* \| own rule \| ", text, re.M)
    for source in ("closed forms", "laws"):
        assert re.search(rf"^\| {source} \| own rule \| \d+ \| 0 \| ", text, re.M)
    assert "FAILED" not in text


def test_the_index_says_how_it_was_made_and_nothing_of_the_machine(index):
    for part in ("prunesim check --all", "prunesim ", "Python 3.", "numpy ", "scipy ", "What is not validated"):
        assert part in index
    for text in (index, *map(text_of, NAMES)):
        assert not re.search(r"/(home|root|work|tmp|Users)/|\d\d:\d\d|\b20\d\d-\d\d-\d\d [0-9]|\bnan\b|\binf\b", text)
        assert not re.search(r"\d seconds|\d s\b|\d ms\b", text)


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_the_pages_have_whole_tables(path):
    for block in re.findall(r"(?:^\|.*\n)+", path.read_text(encoding="utf-8"), re.M):
        cells = [len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()]
        assert len(set(cells)) == 1, block[:200]


# --- the pieces


@pytest.mark.parametrize("name", twins.NAMES)
def test_a_few_twins_run(name):
    found = twins.compare(name, cases=2)
    assert (found.model, found.kind) == (name, "own rule")
    assert found.largest_error == 0
    assert sum(int(row[1]) for row in found.tables[0].rows) == found.cases


@pytest.mark.parametrize("piece", ["vitcod_paper", "attention_paper", "attention", "dram"])
def test_twins_of_formulas_run(piece):
    found = getattr(twins_of_formulas, piece)(cases=6)
    assert found.cases
    assert found.largest_error == 0


@pytest.mark.parametrize("name", ["vegeta", "stripes", "tpu-v4"])
def test_closed_forms_run(name):
    found = closed_forms.compare(name)
    assert found.cases > 10
    assert found.largest_error < 0.01


@pytest.mark.parametrize(
    "small",
    [
        lambda: expectations.vitcod_paper(512),
        lambda: expectations.vitcod(512),
        lambda: expectations.attention(20),
        lambda: expectations.sparten(1024, 512),
        lambda: expectations.eie(1024, 512),
        lambda: expectations.sigma(512, 1024),
        lambda: expectations.dstc(256, 512),
        lambda: expectations.highlight(20),
        lambda: expectations.vegeta(512, 512),
        lambda: expectations.bitwave(128, 256),
    ],
)
def test_expectations_run(small):
    found = small()
    assert found.kind == "statistics"
    assert found.cases == len(found.tables[0].rows)
    assert "standard error" in found.says


@pytest.mark.parametrize("name", ["vitcod", "tpu-v5e", "vegeta", "dstc", "stripes"])
def test_headlines_run(name):
    found = headlines.ALL[name]()
    assert (found.model, found.kind) == (name, "paper")
    assert found.says
    assert len(found.points) == found.cases <= len(found.tables[0].rows)


@pytest.mark.parametrize("piece", [gpus.left_out, gpus.published, gpus.medians])
def test_gpus_run(piece):
    found = piece()
    assert found.model == "GPUs"
    assert found.cases > 20
    assert found.median_error < 0.2


def test_laws_run():
    found = laws.of_accelerator("dstc")
    assert found.largest_error == 0
    assert found.cases > 10


def test_energy_runs():
    found = programs.energy()
    assert found.cases == len(found.points)


def test_the_same_bytes_twice():
    once, again = (
        pages([twins.compare("dstc", 2), expectations.vegeta(512, 512), headlines.ALL["vegeta"]()]) for _ in range(2)
    )
    assert once == again


def test_every_comparison_belongs_to_a_model_of_the_page():
    assert set(twins.NAMES) | set(expectations.ALL) | set(headlines.ALL) <= set(NAMES)


# --- faults are seen


def test_a_planted_fault_is_counted(monkeypatch):
    """A design that is a cycle a tile too slow."""

    class Slower(Dstc):
        def evaluate(self, work, statistics):
            found = super().evaluate(work, statistics)
            sparse = dataclasses.replace(found.sparse, compute_cycles=found.sparse.compute_cycles + 1)
            return dataclasses.replace(found, sparse=sparse)

    monkeypatch.setitem(ACCELERATORS, "dstc", Slower)
    twins.target_of.cache_clear()
    try:
        by_twin, by_form = twins.compare("dstc", cases=4), closed_forms.compare("dstc")
    finally:
        twins.target_of.cache_clear()
    assert all(error > 0 for error in by_twin.errors)
    assert [row[3] for row in by_twin.tables[0].rows] == [row[1] for row in by_twin.tables[0].rows]
    assert by_form.largest_error > 0
    assert "| 0 | 0 |" not in pages([by_twin])["dstc.md"]


def test_wrong_products_and_bytes_are_counted():
    tally = twins.Tally()
    tally.add([(5, 5)], [(8, 9)], right=False)
    tally.add([(6, 5)], [], right=True)
    assert (tally.cycles_differ, tally.bytes_differ, tally.bytes_compared, tally.products_wrong) == (1, 1, 1, 1)
    assert tally.errors == [8 / 9 - 1, 6 / 5 - 1]


# --- what is not run


def test_without_scalesim_a_line_is_left():
    found = programs.scalesim(run=False)
    assert isinstance(found, NotRun)
    written = pages([found])
    assert "Not run here: left out by `without`" in written["systolic.md"]
    assert "| SCALE-Sim 3.0.0, side by side | program | not run here | - | - |" in written["systolic.md"]
    assert "`prunesim check --all --data DATA --without scalesim`" in written[INDEX]
    assert "| - | - | not run here | - | - |" in written[INDEX]


def test_scalesim_that_cannot_be_installed_is_a_line_without_paths(monkeypatch):
    def refuse():
        raise SystemExit("cannot be installed into /somewhere/private")

    monkeypatch.setattr(scalesim_package, "rows", refuse)
    found = programs.scalesim()
    assert isinstance(found, NotRun)
    assert not any("/somewhere" in text for text in pages([found]).values())


def test_what_runs_in_the_environment_of_scalesim_is_python() -> None:
    compile(scalesim_package.DRIVER, "driver", "exec")


def test_scalesim_rows_become_a_table_without_times(monkeypatch):
    row = {"array": "8x8", "dataflow": "ws", "nm": "dense", "m": 1, "n": 2, "k": 3, "scalesim_cycles": 20, "cycles": 21,
           "error": 0.05, "scalesim_seconds": 1.234, "seconds": 0.5, "scalesim_peak_gb": 1.0,
           "peak_gb": 1.0}  # fmt: skip
    monkeypatch.setattr(scalesim_package, "rows", lambda: [row, row | {"m": 4, "error": 0.0}])
    found = programs.scalesim()
    assert isinstance(found, Comparison)
    assert found.errors == (0.05, 0.0)
    assert found.tables[0].rows == [("8x8", "ws", "dense", "1x2x3, 4x2x3", "1", "+5.0 %")]
    assert "1.234" not in pages([found])["systolic.md"]


def test_absent_logs_are_lines_without_paths(monkeypatch, tmp_path):
    monkeypatch.setattr(programs.vitcod_log, "rows", programs.vitcod_log.read_log)
    found = programs.attention_log(tmp_path)
    assert [type(each) for each in (*found, *programs.attention_log(None))] == [NotRun] * 4
    for name in ("vitcod-attention.md", "vitcod-attention-paper.md"):
        assert str(tmp_path) not in pages(found)[name]
        assert "Not run here: its data are absent" in pages(found)[name]


def test_the_command_writes_the_pages(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(everything, "comparisons", lambda data, scalesim: [programs.scalesim(scalesim)])
    with pytest.raises(SystemExit) as ended:
        main(["check", "--all", "--without", "scalesim", "--out", str(tmp_path / "pages")])
    assert not ended.value.code
    assert (tmp_path / "pages" / INDEX).read_text(encoding="utf-8").startswith("# Validation")
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(NAMES)


@pytest.mark.parametrize(("given", "said"), [(["vitcod", "--all"], "either"), (["vitcod", "--out", "x"], "--all")])
def test_the_command_refuses_what_has_no_meaning(given, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["check", *given])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


# --- words and numbers


@pytest.mark.parametrize(
    ("error", "said"),
    [(0, "0"), (1e-9, "< 0.001 %"), (-0.0123, "-1.2 %"), (0.5, "50 %"), (4.35, "435 %"), (0.00017, "0.017 %"), (0.099,
        "9.9 %")],
)  # fmt: skip
def test_errors_are_said_to_two_digits_and_zero_is_exact(error, said):
    assert percent(error) == said


def test_numbers_and_errors():
    assert [number(n) for n in (5, 12345.0, 1234.56, 0.12345)] == ["5", "12,345", "1,235", "0.1235"]
    assert (error_of(3, 2), error_of(0, 0), error_of(1, 0)) == (0.5, 0, float("inf"))
    assert table(("a",), [(1.0,), ("x",)]).rows == [("1",), ("x",)]


def test_distributions_against_scipy_and_draws():
    pmf = orderstats.binomial(20, 0.3)
    assert orderstats.mean(orderstats.summed(pmf, 5)) == pytest.approx(30)
    assert orderstats.deviation(pmf) == pytest.approx(binom(20, 0.3).std())
    drawn = np.random.default_rng(0).binomial(20, 0.3, (200_000, 8)).max(axis=1)
    assert orderstats.mean(orderstats.largest(pmf, 8)) == pytest.approx(drawn.mean(), abs=0.02)
    assert orderstats.mean(orderstats.rounds(pmf, 4)) == pytest.approx(sum(-(-k // 4) * p for k, p in enumerate(pmf)))
    assert orderstats.at_least(pmf, 1)[1] == pytest.approx(pmf[0] + pmf[1])


def test_entries_of_a_column_against_drawn_ones():
    kept = np.random.default_rng(1).random((40_000, 40)) < 0.06
    entries = [sum(1 + int(gap) // 16 for gap in np.diff(np.flatnonzero(row), prepend=-1) - 1) for row in kept]
    pmf = draws.eie_entries_pmf(40, 0.06)
    assert orderstats.mean(pmf) == pytest.approx(np.mean(entries), rel=0.01)
    assert orderstats.deviation(pmf) == pytest.approx(np.std(entries), rel=0.02)


def test_points_survive_as_text():
    assert json.dumps([dataclasses.asdict(point) for point in programs.energy().points])
