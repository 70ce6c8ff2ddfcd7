"""What all figures share: palette, white card, safe text, and the same bytes for the same figure.

matplotlib is used through its object-oriented Figure only; no pyplot, so no global state and no display.
"""

import io
import textwrap
import warnings
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe & Ito's colours: told apart with every common kind of colour blindness.
BLUE, SKY, VERMILLION, GREEN = "#0072B2", "#56B4E9", "#D55E00", "#009E73"
ORANGE, PURPLE, YELLOW, BLACK = "#E69F00", "#CC79A7", "#F0E442", "#000000"
BROWN, VIOLET = "#7A4B2A", "#5B3A9E"  # for figures with more than eight lines
INK, FAINT, GREY, LIGHT_GREY = "#1f2328", "#d0d7de", "#8c959f", "#c9ced4"
SLOW_INK = "#a63c00"  # vermillion, dark enough for small text on white

_DOTS_PER_INCH = 150  # of pictures, and of what is a picture inside a drawing
MANY = 400  # marks of a kind from which they are one picture inside a drawing, not shapes each
# Text becomes outlines: a figure looks the same on a machine without our fonts.
_STYLE: Any = {
    "svg.hashsalt": "prunesim",
    "svg.fonttype": "path",
    "hatch.linewidth": 0.6,
    "hatch.color": INK,
}


def new_figure(width: float, height: float, what: str, where: str) -> Figure:
    """An empty figure of width x height inches on a white card of its own, for light and dark pages alike.

    The title has two lines: `what` is shown, and for `where` (model, target, tokens) it holds.
    """
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    letters = int(width * 11)
    title = f"{safe(what, letters)}\n{safe(where, letters)}"
    figure.suptitle(title, fontsize=9.5, color=INK, fontweight="bold")
    return figure


def style(axes: Axes, grid: Literal["x", "y", "both"] | None = None) -> None:
    """Thin frame, small dark text, an optional faint grid along "x", "y" or "both"."""
    axes.set_facecolor("white")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.tick_params(labelsize=8, colors=INK, length=2.5)
    axes.xaxis.label.set(color=INK, fontsize=8.5)
    axes.yaxis.label.set(color=INK, fontsize=8.5)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=FAINT, linewidth=0.6)


def safe(text: object, width: int = 60, lines: int = 3) -> str:
    """Any text as matplotlib can draw it: no formula from a dollar sign, no control letters, wrapped, cut."""
    printable = "".join(letter if letter.isprintable() else " " for letter in str(text))
    wrapped = textwrap.wrap(printable, width=width) or [""]
    if len(wrapped) > lines:
        wrapped = [*wrapped[: lines - 1], wrapped[lines - 1][: width - 1] + "…"]
    return "\n".join(wrapped).replace("$", r"\$")


def empty_figure(what: str, where: str, why: str) -> Figure:
    """A card that says why there is nothing to draw."""
    figure = new_figure(6.4, 1.6, what, where)
    figure.text(0.5, 0.4, safe(why, width=70), ha="center", va="center", fontsize=9, color=INK)
    return figure


def svg_bytes(figure: Figure) -> bytes:
    """Equal bytes for equal figures: fixed ids, no date, no program name."""
    return _saved(figure, format="svg", dpi=_DOTS_PER_INCH, metadata={"Date": None, "Creator": None})


def png_bytes(figure: Figure) -> bytes:
    return _saved(figure, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})


def _saved(figure: Figure, **options: Any) -> bytes:
    stream = io.BytesIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # drawn as a box
        figure.savefig(stream, **options)
        figure.set_layout_engine("none")  # laid out: a second file of the figure need not do it again
    return stream.getvalue()
