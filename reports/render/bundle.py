"""Vega, Vega-Lite and vega-embed as one script, of the version that Altair writes for: they draw a page's charts."""

import os
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

from workloads.errors import UserError
from workloads.files import write_text

_EXPORTS = "window.vegaEmbed = vegaEmbed;"  # what a page's script calls


@cache
def bundle() -> str:
    """Made once on a machine, which takes two seconds, and kept in the user's cache folder, as far as it can be
    written."""
    import altair
    import vl_convert

    grammar = ".".join(altair.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    kept: Path | None = None
    with suppress(OSError, RuntimeError, UnicodeDecodeError):  # no home, not there yet, not ours
        kept = _cache() / f"vega-lite-{grammar}-vl-convert-{version('vl-convert-python')}.js"
        return kept.read_text(encoding="utf-8")
    made = vl_convert.javascript_bundle(_EXPORTS, grammar).replace("</script", r"<\/script")
    if kept is not None:
        with suppress(OSError, UserError):
            write_text(kept, made)
    return made


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prunesim"
