"""What tests of pages in a real browser share."""

import importlib.util
import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MISSING = [name for name in ("playwright", "axe_playwright_python") if importlib.util.find_spec(name) is None]
NEEDS = [
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)} (pip install '.[dev]')"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)"),
]


def settle(page) -> None:
    """Figures are drawn and filters applied: the page does both later than the click that asks for them."""
    page.wait_for_selector("html[data-ready=yes]", state="attached")
