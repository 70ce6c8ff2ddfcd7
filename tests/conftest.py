"""Reports are written in a moment here: nothing is drawn on paper, no library is put into pages, but where a test asks
for it."""

from collections.abc import Iterator

import pytest

DRAWN = {ending: ending.encode() for ending in ("svg", "pdf", "png")}


@pytest.fixture(scope="session", autouse=True)
def quick_reports() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reports.paper.figure_bytes", lambda draw, style=None: DRAWN)
        patch.setattr("reports.render.html.bundle", lambda: "")
        yield patch


@pytest.fixture
def full_report(quick_reports: pytest.MonkeyPatch) -> Iterator[None]:
    """Reports as users get them."""
    from reports.figures.drawing import figure_bytes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reports.paper.figure_bytes", figure_bytes)
        yield


@pytest.fixture(scope="session")
def with_library() -> str:
    """What Vega is in a page; `quick_reports` leaves it out."""
    from reports.render.bundle import bundle

    return bundle()
