"""Vega, Vega-Lite and vega-embed as one script, of the version that Altair writes for: they draw a page's charts."""

from functools import cache

_EXPORTS = "window.vegaEmbed = vegaEmbed;"  # what a page's script calls


@cache
def bundle() -> str:
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    return vl_convert.javascript_bundle(_EXPORTS, version).replace("</script", r"<\/script")
