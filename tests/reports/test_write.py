import base64
import io
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from rich.console import Console

from reports import headline_table, print_report, write_report
from reports.render.html import sheet
from reports.render.terminal import print_table
from reports.section import Table
from reports.sections.whole_model import narrow
from tests.reports.samples import barred, dense, frame, measured, page_data, quality, quality_frame, row, two_layers
from workloads.errors import UserError

EVIL = "<script>alert(1)</script>"


class Tags(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.seen: list[tuple[str, dict]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def write(folder, rows, known=None, title="A title", notes=("a note",)) -> dict:
    return write_report(frame(rows), known, folder, title, list(notes))


def both_levels() -> list[dict]:
    paper = two_layers(target="vitcod-paper", level="paper", published_dense_cycles=200)
    return [*paper, *two_layers(), *two_layers(tokens=512), barred(target="small")]


def test_all_files_are_written_and_named(tmp_path):
    written = write(tmp_path, both_levels(), quality(("dense", "", 10.0), ("wanda", "2:4", 12.5)))
    assert {"report.html", "report.md", "report.tex", "rows.csv", "quality.csv"} <= set(written)
    figures = [name for name in written if name.startswith("figures/")]
    # Two figures in five formats for three configurations; nothing can be drawn of the fourth, and one block is no map.
    assert len(figures) == 30
    assert all(path == tmp_path / name and path.stat().st_size > 0 for name, path in written.items())
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(written.values())


def test_figures_come_in_every_format_with_their_numbers_in_a_style_of_ones_own(tmp_path, full_report):
    narrow = tmp_path / "narrow.mplstyle"
    narrow.write_text("figure.figsize: 3.58, 3\n")
    sizes = {}
    for name, style in (("wide", None), ("narrow", narrow)):
        written = write_report(frame([row(87, 100)]), None, tmp_path / name, "t", [], style=style)
        made = {
            path.suffix: path.read_bytes() for key, path in written.items() if key.endswith(("cycles" + path.suffix,))
        }
        assert made[".svg"].startswith(b"<?xml")
        assert made[".png"].startswith(b"\x89PNG")
        assert b"/FontFile2" in made[".pdf"]
        sizes[name] = int.from_bytes(made[".png"][16:20], "big")
        assert made[".csv"].decode().startswith("model,target,")
        assert r"\begin{tabular}" in made[".tex"].decode()
    assert sizes == {"wide": 1074, "narrow": 537}  # 7.16 and 3.58 inches
    with pytest.raises(UserError, match="no matplotlib style file"):
        write_report(frame([row(87, 100)]), None, tmp_path / "x", "t", [], style=tmp_path / "absent")
    assert not (tmp_path / "x").exists()


def test_the_same_rows_give_the_same_files(tmp_path):
    first, again = write(tmp_path / "a", both_levels()), write(tmp_path / "b", both_levels())
    assert {n: p.read_bytes() for n, p in first.items()} == {n: p.read_bytes() for n, p in again.items()}


def test_the_page_loads_nothing_from_anywhere(tmp_path):
    page = write(tmp_path, both_levels())["report.html"].read_text()
    assert "http://" not in page
    assert "https://" not in page
    for tag, attributes in Tags(page).seen:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert "src" not in attributes or attributes["src"].startswith("data:image/svg+xml;base64,")
    assert "url(" not in page
    assert "@import" not in page
    for uri in re.findall(r"base64,([A-Za-z0-9+/=]+)", page):
        outside = re.findall(rb'(?:href|src)="(?!#)([^"]+)"', base64.b64decode(uri))
        assert [link for link in outside if not link.startswith(b"data:")] == []


def test_names_are_escaped_everywhere(tmp_path):
    evil = {"model": EVIL, "method": EVIL, "target": f'"{EVIL}', "layer": EVIL, "role": EVIL}
    rows = [row(100, 50, **evil), barred(**{**evil, "layer": "b", "reason": EVIL})]
    written = write(tmp_path, rows, quality(("dense", "", 1.0), model=EVIL), title=EVIL, notes=[EVIL])
    page = written["report.html"].read_text()
    assert [tag for tag, _ in Tags(page).seen].count("script") == 2
    assert "alert(1)" in page
    assert EVIL not in page
    assert EVIL not in written["report.md"].read_text()
    for name, path in written.items():
        assert path.resolve().is_relative_to(tmp_path.resolve())
        if name.endswith(".svg"):
            assert b"<script" not in path.read_bytes()


def test_a_title_cannot_leave_the_latex_comment(tmp_path):
    text = write(tmp_path, two_layers(), title="a\n\\input{x}")["report.tex"].read_text()
    assert text.splitlines()[0] == r"% a \input{x}"


def test_the_page_shows_slowdowns_first_and_in_words(tmp_path):
    page = write(tmp_path, [row(87, 100)])["report.html"].read_text()
    said = "tiny, vitcod (cycle level), decode (1 token): wanda 2:4, 0.87x; slower than dense: wanda 2:4 0.87x. "
    assert f'<li class="worse">{said}' in page
    assert re.search(r'<td class="n worse" data-v="0\.87">0\.87x \(slower\)</td>', page)
    assert "slower than dense:" not in write(tmp_path, [row(100, 87)])["report.html"].read_text()


def test_the_page_says_what_cannot_run_and_that_sums_leave_it_out(tmp_path):
    page = write(tmp_path, [*two_layers(), barred(reason="needs 7 B more")])["report.html"].read_text()
    assert "1 of 3 result rows cannot run on their target and are in no sum." in page
    assert "needs 7 B more" in page
    assert "cannot be run, no layer is counted" in write(tmp_path, [barred()])["report.html"].read_text()


def test_notes_levels_and_provenance_are_on_the_page(tmp_path):
    page = write(tmp_path, both_levels(), notes=["zeros of activations are multiplied"])["report.html"].read_text()
    for part in ("zeros of activations are multiplied", "The two levels side by side", "sha256 s0", "0.1.0", "500 MHz"):
        assert part in page


def test_long_tables_start_folded():
    assert [sheet(Table(pd.DataFrame({"layers": range(n)}), ["layers"])).folded for n in (60, 61)] == [False, True]


def test_every_layer_is_in_the_data_of_the_page_once(tmp_path):
    page = write(tmp_path, [row(10, n + 1, layer=str(n), block=n) for n in range(70)])["report.html"].read_text()
    layers = page_data(page)["tables"]["t1"]
    pairs = zip(layers["heads"], layers["columns"], strict=True)
    speedup = next(column for head, column in pairs if head[0] == "Speedup")
    assert layers["lines"] == len(speedup["i"]) == 70
    assert [speedup["t"][speedup["i"][n]] for n in (0, 9, 69)] == ["10.0x", "1.00x", "0.14x (slower)"]
    assert speedup["t"][0] == "0.14x (slower)"  # in the order they sort in
    assert len(speedup["w"]) == 60


def test_missing_numbers_sort_as_missing(tmp_path):
    paper = row(100, 50, target="p", level="paper", published_dense_cycles=100)
    page = write(tmp_path, [paper, row(100, 50)])["report.html"].read_text()
    assert re.search('<td class="n[^"]*" data-v="">\N{EN DASH}</td>', page)


def test_targets_with_alike_names_keep_their_figures_apart(tmp_path):
    written = write(tmp_path, [*two_layers(target="a b"), *two_layers(target="a/b")])
    assert len([name for name in written if name.endswith(".svg")]) == 4


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", ["../../up", "/etc/x", "", "\u4e2d", "a" * 500])
def test_model_names_stay_inside_the_folder(tmp_path, name):
    for path in write(tmp_path / "in", [row(10, 5, model=name, target=name)]).values():
        assert path.resolve().is_relative_to((tmp_path / "in").resolve())


def test_an_empty_frame_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(UserError, match="no result rows"):
        write(tmp_path / "x", [])
    assert not (tmp_path / "x").exists()


def test_a_single_row_and_no_notes_make_a_report(tmp_path):
    written = write(tmp_path, [row(100, 50)], notes=())
    assert "Approximations" not in written["report.html"].read_text()
    assert "quality.csv" not in written


def test_an_unwritable_folder_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write(tmp_path / "file", two_layers())


def test_the_rows_are_saved_even_if_the_tables_refuse_the_quality(tmp_path):
    known = quality(("wanda", "2:4", 1.0), ("wanda", "2:4", 2.0))
    with pytest.raises(UserError, match="2 perplexities"):
        write(tmp_path, two_layers(), known)
    assert len(pd.read_csv(tmp_path / "rows.csv")) == 2


def test_the_terminal_table_marks_slowdowns_and_prints_names_as_they_are():
    console = Console(record=True, width=200, file=io.StringIO())
    print_table(narrow(headline_table(frame([row(87, 100, model="[red]m[/red]")]))), console)
    text = console.export_text()
    assert "0.87x (slower)" in text
    assert "[red]m[/red]" in text


SEEDS = [measured(m, t, 20.0 + s, s) for m in ("a", "b") for t in (0.5, "2:4") for s in (0, 1)]


def test_perplexities_alone_make_a_report(tmp_path):
    written = write_report(None, quality_frame(dense(10.0), *SEEDS), tmp_path, "A title", ["a note"])
    assert sorted(written) == [
        *(f"figures/tiny-perplexity.{ending}" for ending in ("csv", "pdf", "png", "svg", "tex")), "quality-table.csv",
        "quality.csv", "report.html", "report.md", "report.tex",
    ]  # fmt: skip
    for name in ("report.html", "report.md"):
        text = written[name].read_text()
        assert "20.50 ± 0.71" in text
        assert "dense 10.00" in text
        assert "Per role" not in text
        assert "Whole model" not in text
    assert r"a & -- & 20.50 $\pm$ 0.71 & 20.50 $\pm$ 0.71 & 2 \\" in written["report.tex"].read_text()
    assert pd.read_csv(written["quality-table.csv"]).set_index("method").loc["a", "2:4"] == 20.5


def test_nothing_at_all_is_refused(tmp_path):
    for rows in (None, frame([])):
        with pytest.raises(UserError, match="no result rows"):
            write_report(rows, None, tmp_path, "A title", [])


def test_several_methods_are_compared_in_every_form(tmp_path):
    rows = [{**r, "target_sparsity": 0.5} for m in "ab" for r in two_layers(method=m)]
    written = write(tmp_path, rows, quality_frame(dense(10.0), measured("a", "2:4", 20.0), measured("b", "2:4", 30.0)))
    assert "Methods side by side" in written["report.html"].read_text()
    assert "Methods side by side" in written["report.md"].read_text()
    assert r"\multicolumn{3}{c}{a}" in written["report.tex"].read_text()
    assert list(pd.read_csv(written["compared.csv"])["role"]) == ["q", "up", "all"]
    assert "compared.csv" not in write(tmp_path / "one", two_layers())


class Widths(HTMLParser):
    """Columns of every line of every table."""

    def __init__(self, page: str):
        super().__init__()
        self.tables: list[list[int]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append(0)
        elif tag in ("td", "th"):
            self.tables[-1][-1] += int(dict(attrs).get("colspan", 1))


def test_every_line_of_a_table_is_as_wide_as_the_others(tmp_path):
    rows = [
        {**r, "target_sparsity": 0.5, "seed": s}
        for m in "ab"
        for s in (0, 1)
        for r in [*two_layers(method=m), barred(method=m)]
    ]
    page = write(tmp_path, rows, quality_frame(dense(10.0), *SEEDS))["report.html"].read_text()
    tables = Widths(page).tables
    assert len(tables) == 4  # whole model, left out, perplexity, side by side
    assert all(len(set(table)) == 1 for table in tables)


def test_the_terminal_shows_what_there_is():
    def shown(rows, known, few: int = 4) -> str:
        console = Console(record=True, width=200, file=io.StringIO())
        print_report(rows, known, console, few)
        return console.export_text()

    known = quality_frame(dense(10.0), *SEEDS)
    assert "20.50 ± 0.71" in shown(None, known)
    single = shown(frame(two_layers()), None)
    assert "wanda on vitcod, tokens 1: mean cycles per layer" in single
    both = frame([{**r, "target_sparsity": 0.5} for m in "ab" for r in two_layers(method=m)])
    assert re.search(r"perplexity +10\.00 +20\.50 ± 0\.71", shown(both, known))
    assert "perplexity  " not in shown(both, known, few=0)
