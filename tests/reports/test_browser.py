"""The page in a real browser: Debian's chromium, driven by playwright. One browser and one report for all tests."""

from importlib.resources import files

import pytest

from reports import write_report
from tests.reports.browsing import NEEDS, settle
from tests.reports.samples import dense, frame, measured, quality_frame, row

pytestmark = NEEDS
ROLES = ("q", "k", "up", "down")


def rows() -> list[dict]:
    """Two machines, decode and prefill, two methods, two targets, two blocks of four roles with different speedups."""
    return [
        row(1000 + 100 * r, 400 + 60 * r + 90 * (method == "magnitude") + 40 * block + (300 if tokens == 1 else 0),
            stall=100, ideal=200, layer=f"layers.{block}.{role}", block=block, role=role, method=method,
            pattern=pattern, target_sparsity=0.5, target=target, tokens=tokens)
        for target in ("vitcod", "sparten")
        for tokens in (1, 512)
        for method in ("magnitude", "wanda")
        for pattern in ("unstructured", "2:4")
        for block in range(2)
        for r, role in enumerate(ROLES)
    ]  # fmt: skip


@pytest.fixture(scope="session")
def report(tmp_path_factory, with_library):
    folder = tmp_path_factory.mktemp("page")
    known = [measured(m, t, p, 0) for m, t, p in (("magnitude", 0.5, 21.0), ("magnitude", "2:4", 27.0),
                                                  ("wanda", 0.5, 20.0), ("wanda", "2:4", 26.0))]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reports.render.html.bundle", lambda: with_library)
        written = write_report(frame(rows()), quality_frame(dense(18.0), *known), folder, "A report", ["a note"])
    return written["report.html"]


@pytest.fixture(scope="session")
def opened(report, browser):
    """(page, what the console said, what was requested)."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    settle(page)
    return page, said, asked


@pytest.fixture
def page(opened):
    yield opened[0]
    opened[0].click("#filters button[type=reset]")
    settle(opened[0])


def shown(page, query: str) -> list[str]:
    return page.eval_on_selector_all(query, "nodes => nodes.filter(n => n.offsetParent).map(n => n.textContent)")


def marks(page) -> int:
    return page.locator("[data-chart=tiny-tradeoff] .mark-symbol.role-mark path").count()


def test_it_stands_alone_and_the_console_is_silent(opened, report):
    page, said, asked = opened
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [report.as_uri()]
    assert page.locator(".chart svg").count() >= 4


@pytest.mark.parametrize("width", [390, 768, 1400])
def test_the_page_itself_never_scrolls_sideways(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.set_viewport_size({"width": 1400, "height": 900})


@pytest.mark.parametrize("width", [390, 480, 500, 520])
def test_legends_keep_within_a_figure_that_becomes_narrow(page, width):
    """Of methods and of machines: side by side they would not fit."""
    labels = page.locator("[data-chart=tiny-tradeoff] .role-legend-label text")
    wide = labels.count()
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_function(
        """count => {
            const figure = document.querySelector("[data-chart=tiny-tradeoff] svg");
            const texts = figure ? [...figure.querySelectorAll(".role-legend-label text")] : [];
            const edge = figure && Math.min(innerWidth, figure.getBoundingClientRect().right);
            return texts.length === count && texts.every(text => text.getBoundingClientRect().right <= edge + 0.5);
        }""",
        arg=wide,
        timeout=10_000,
    )
    page.set_viewport_size({"width": 1400, "height": 900})


def test_the_verdict_and_its_figure_are_on_the_first_screen(page):
    assert page.locator(".verdict li").first.bounding_box()["y"] < 400
    assert page.locator("[data-chart=tiny-tradeoff]").bounding_box()["y"] < 900
    label = page.locator("[data-chart=tiny-tradeoff]").get_attribute("aria-label")
    assert "wanda 50 % on vitcod, 512 tokens" in label


def test_a_filter_goes_over_figures_and_tables_together(page):
    every, lines = marks(page), len(shown(page, "section:has(#whole-model) tbody tr"))
    assert lines == 16
    page.select_option("[data-facet=method]", "wanda")
    settle(page)
    assert "wanda" in page.locator("#said").text_content()
    assert len(shown(page, "section:has(#whole-model) tbody tr")) == 8
    assert marks(page) == 12  # 8 runs, and the unpruned model on each of 4 configurations
    assert every == 20
    assert "of 40" in page.locator("[data-table] .pages").first.text_content()
    page.select_option("[data-facet=phase]", "decode")
    settle(page)
    assert len(shown(page, "section:has(#whole-model) tbody tr")) == 4
    options = page.locator("section:has(#where-the-cycles-go-per-role) [data-pick] option:not([disabled])")
    assert all("1 token" in text and "512" not in text for text in options.all_text_contents())


def test_sums_stay_at_the_end_when_sorted_and_long_tables_page(page):
    block = page.locator("section:has(#per-role) [data-table]")
    assert "1 to 50 of 80" in block.locator(".pages").text_content()
    block.get_by_role("button", name="Speedup", exact=True).click()
    first = block.locator("tbody tr").all_text_contents()
    assert not any("all" in text.split("unstructured")[0][-20:] for text in first[:1])
    block.locator("button", has_text="Next").click()
    assert "51 to 80 of 80" in block.locator(".pages").text_content()
    whole = block.locator("tbody tr").evaluate_all("rows => rows.map(r => r.className)")
    assert whole == [""] * 14 + ["whole"] * 16


def test_a_heading_sorts_from_the_keyboard_both_ways(page):
    heading = page.locator("section:has(#whole-model) th", has_text="Speedup").first
    button, found = heading.locator("button"), []
    for order in ("ascending", "descending"):
        button.focus()
        page.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == order
        cells = page.locator("section:has(#whole-model) tbody tr td.n[data-v]")
        place = heading.evaluate("head => [...head.parentNode.children].indexOf(head)")
        values = f"rows => rows.map(row => Number(row.cells[{place}].dataset.v))"
        found.append(page.eval_on_selector_all("section:has(#whole-model) tbody tr", values))
        assert cells.count()
    assert found[0] == sorted(found[0])
    assert found[1] == found[0][::-1]


def test_a_switch_shows_all_columns_and_a_choice_another_figure(page):
    section = page.locator("section:has(#whole-model)")
    before = section.locator("thead th:visible").count()
    section.locator("[data-switch]").click()
    assert section.locator("thead th:visible").count() > before
    section.locator("[data-switch]").click()
    figures = page.locator("section:has(#from-ideal-to-real) .figures")
    figures.locator("[data-pick]").select_option(index=1)
    assert figures.locator("figure:visible").count() == 1
    figures.locator("figure:visible svg").wait_for()
    figures.locator("figure:visible summary").click()
    figures.locator("figure:visible tbody tr").nth(7).wait_for()  # a fold says that it opened after it did
    assert "vitcod" not in figures.locator("figure:visible thead").text_content()


def test_values_stand_under_the_pointer(page):
    page.locator("[data-chart=tiny-tradeoff] .mark-symbol.role-mark path").last.hover(force=True)
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert "perplexity" in page.locator("#vg-tooltip-element").text_content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_contrast_included(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    rules = {} if scheme == "light" else {"runOnly": ["color-contrast"]}
    found = page.evaluate("rules => axe.run(rules)", rules)["violations"]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == []
    page.emulate_media(color_scheme="light")


def test_print_keeps_the_figures_and_leaves_out_what_is_clicked(page):
    page.emulate_media(media="print")
    assert page.locator(".chart svg").first.is_visible()
    assert not page.locator("#filters").is_visible()
    assert not page.locator("nav").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="screen")
