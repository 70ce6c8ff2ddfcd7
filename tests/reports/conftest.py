"""Reports are written in a moment here: nothing is drawn on paper, no library is put into pages, but where a test asks
for it."""

import pytest

DRAWN = {ending: ending.encode() for ending in ("svg", "pdf", "png")}


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """`full_report`: a test that has this fixture gets the files as users do."""
    if "full_report" not in request.fixturenames:
        monkeypatch.setattr("reports.paper.figure_bytes", lambda draw, style=None: DRAWN)
        monkeypatch.setattr("reports.render.html.library", lambda: "")


@pytest.fixture
def full_report():
    """Asks for figures as they are."""
