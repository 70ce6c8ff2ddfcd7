"""What all figures share: palette, white card, safe text, and the same bytes for the same figure.

matplotlib is used through its object-oriented Figure only; no pyplot, so no global state and no display.
"""

import io
import textwrap
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from workloads.errors import UserError, one_line

# Okabe & Ito's colours: told apart with every common kind of colour blindness.
BLUE, SKY, VERMILLION, GREEN = "#0072B2", "#56B4E9", "#D55E00", "#009E73"
ORANGE, PURPLE, YELLOW, BLACK = "#E69F00", "#CC79A7", "#F0E442", "#000000"
BROWN, VIOLET = "#7A4B2A", "#5B3A9E"  # for figures with more than eight lines
INK, FAINT, GREY, LIGHT_GREY = "#1f2328", "#d0d7de", "#8c959f", "#c9ced4"
SLOW_INK = "#a63c00"  # vermillion, dark enough for small text on white

MANY = 400  # marks of a kind from which they are one picture inside a drawing, not shapes each
STYLE = Path(__file__).with_name("paper.mplstyle")
_BASE_WIDTH = 7.16  # inches, of the widest figures in that style


def new_figure(width: float, height: float, what: str, where: str) -> Figure:
    """An empty figure of width x height inches on a white card of its own, for light and dark pages alike.

    The title has two lines: `what` is shown, and for `where` (model, target, tokens) it holds.
    """
    scale = matplotlib.rcParams["figure.figsize"][0] / _BASE_WIDTH
    width = min(width, _BASE_WIDTH)
    figure = Figure(figsize=(width * scale, height), layout="constrained", facecolor="white")
    letters = int(width * scale * 11)
    title = f"{safe(what, letters)}\n{safe(where, letters)}"
    figure.suptitle(title, fontsize="medium", color=INK, fontweight="bold")
    return figure


def style(axes: Axes, grid: Literal["x", "y", "both"] | None = None) -> None:
    """Thin frame, small dark text, an optional faint grid along "x", "y" or "both"."""
    axes.set_facecolor("white")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.tick_params(labelsize="small", colors=INK, length=2.5)
    axes.xaxis.label.set(color=INK, fontsize="medium")
    axes.yaxis.label.set(color=INK, fontsize="medium")
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
    figure.text(0.5, 0.4, safe(why, width=70), ha="center", va="center", fontsize="medium", color=INK)
    return figure


def _svg(figure: Figure, stream: io.BytesIO) -> None:
    FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})


def _pdf(figure: Figure, stream: io.BytesIO) -> None:
    FigureCanvasPdf(figure).print_pdf(stream, metadata={"CreationDate": None, "Creator": None, "Producer": None})


def _png(figure: Figure, stream: io.BytesIO) -> None:
    FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})


# Straight to each canvas: Figure.savefig draws every figure twice.
_FORMATS = {"svg": _svg, "pdf": _pdf, "png": _png}


def figure_bytes(
    draw: Callable[[], Figure], style: Path | None = None, formats: Sequence[str] = tuple(_FORMATS)
) -> dict[str, bytes]:
    """The figure in each format: svg, pdf, png. Equal bytes for equal figures: fixed ids, no date, no program name.

    `style`: a matplotlib style file on top of ours. Raises UserError where it is none."""
    made = {}
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # drawn as a box
        for path in (STYLE, style) if style else (STYLE,):
            use_style(path)
        figure = draw()
        for name in formats:
            figure.set_dpi(matplotlib.rcParams["figure.dpi"])  # vectors leave it at 72
            stream = io.BytesIO()
            _FORMATS[name](figure, stream)
            figure.set_layout_engine("none")  # laid out: the next file of the figure need not do it again
            made[name] = stream.getvalue()
    return made


def check_style(path: Path | None) -> None:
    """Raises UserError where it is no style file."""
    if path is not None:
        with matplotlib.rc_context():
            use_style(path)


def use_style(path: Path) -> None:
    """Raises UserError where it is no style file."""
    try:
        matplotlib.rcParams.update(matplotlib.rc_params_from_file(path, use_default_template=False))
    except (OSError, UnicodeDecodeError, ValueError, KeyError) as error:
        raise UserError(f"{path} is no matplotlib style file: {one_line(error)}") from None
