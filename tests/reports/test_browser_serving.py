"""Charts of whole models in a real browser, and what a page holds that was sent without its folder."""

import shutil

import pandas as pd
import pytest

from reports import write_report
from tests.reports.browsing import NEEDS, settle
from tests.reports.test_serving import FACTS, grown, operations, steps_over_three_contexts, two
from workloads.columns.inference import INFERENCE_COLUMNS
from workloads.rows import to_frame
from workloads.whole_models import WholeModels

pytestmark = NEEDS
ROOF = {"target": "gpu", "settings": "", "dtype": "fp16", "peak_tflops": 200, "bandwidth_gbps": 2000}


@pytest.fixture(scope="session")
def served(tmp_path_factory, with_library):
    third = grown().rows.assign(target="third").to_dict("records")
    steps = [one for name in ("fourth", "fifth") for one in steps_over_three_contexts(target=name)]
    rows = to_frame([*two(), *two(target="other"), *third, *steps], INFERENCE_COLUMNS)
    facts = {name: FACTS[name] for name in ("batch", "prompt", "generate")}
    whole = WholeModels(rows, operations().assign(**{**facts, "batch": 16}), pd.DataFrame([ROOF]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reports.render.html.bundle", lambda: with_library)
        return write_report(None, None, tmp_path_factory.mktemp("served"), "Served", [], whole=whole)


@pytest.fixture(scope="session")
def alone(served, tmp_path_factory, browser):
    """The page in a folder of its own."""
    copy = shutil.copy(served["report.html"], tmp_path_factory.mktemp("alone") / "page.html")
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(copy.as_uri())
    settle(page)
    return page, said


def test_every_figure_is_a_chart_with_marks(alone):
    page, said = alone
    assert said == []
    assert page.locator("figure img").count() == 0
    for section in (
        *("amdahl-s-law", "roofline", "tokens-a-second-over-sequences", "tokens-a-second-over-context"),
        "over-sequences-and-context",
    ):
        chart = page.locator(f"section:has(#{section}) figure:not([hidden]) .chart")
        assert chart.locator("svg [class*=role-mark] path").count() > 1, section
        assert chart.get_attribute("aria-label").count(" ") > 5


def test_the_roofs_stand_above_the_operations(alone):
    """A path of the roof with its corner, and below it a mark for each of the two operations with FLOP."""
    chart = alone[0].locator("section:has(#roofline) figure:visible .chart")
    roof = chart.locator("svg .mark-line path").get_attribute("d")
    assert roof.count("L") == 2
    assert chart.locator("svg .mark-symbol.role-mark path").count() == 2


def test_a_filter_leaves_lines_of_one_method_and_dense(alone):
    page = alone[0]
    marks = page.locator("section:has(#tokens-a-second-over-sequences) figure:visible .mark-symbol.role-mark path")
    assert marks.count() == 9
    page.select_option("[data-facet=method]", "int4")
    settle(page)
    assert marks.count() == 6
    page.click("#filters button[type=reset]")
    settle(page)
    assert marks.count() == 9


def test_steps_over_the_context_are_filtered_and_hollow_where_they_do_not_fit(alone):
    """Three methods at three contexts, int4 not at the longest; four places to choose from: two targets, the fewest
    sequences and the most."""
    page = alone[0]
    section = page.locator("section:has(#tokens-a-second-over-context)")
    assert section.locator("figure").count() == 4
    marks = section.locator("figure:visible .mark-symbol.role-mark path")
    assert marks.count() == 9
    hollow = [mark for mark in marks.all() if mark.get_attribute("fill") == "var(--page)"]
    assert len(hollow) == 1
    hollow[0].hover(force=True)
    page.wait_for_selector("#vg-tooltip-element.visible")
    told = page.locator("#vg-tooltip-element").text_content()
    assert all(part in told for part in ("int4", "tokens of context", "16000", "500")), told
    page.select_option("[data-facet=method]", "int4")
    settle(page)
    assert marks.count() == 6
    page.click("#filters button[type=reset]")
    settle(page)
    assert marks.count() == 9


def test_numbers_come_out_of_a_page_without_its_folder(alone, served):
    page = alone[0]
    link = page.locator("section:has(#roofline) figure:visible .files a", has_text="CSV")
    path = link.get_attribute("href")
    assert "held by this page" in link.get_attribute("title")
    with page.expect_download() as caught:
        link.click()
    assert caught.value.path().read_text() == served[path].read_text()
    assert caught.value.suggested_filename == path.removeprefix("figures/")
    others = page.locator("section:has(#roofline) figure:visible .files a", has_text="PDF")
    assert "in the folder of this report" in others.get_attribute("title")
