"""Dense, 2:4 and quantized time of a model's linears on one GPU, decode beside prefill."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports.figures import drawing
from reports.figures.drawing import safe
from reports.tables.phases import Bar, bits_of, reference_of
from reports.words.naming import DECODE_TOKENS
from reports.words.present import quantity_text, times_text
from reports.words.units import TIMES, fitting

WHAT = "Dense, 2:4 and quantized, by phase"
_ROW = 0.19  # inches a bar takes
_COLOURS = {16: drawing.BLUE, 8: drawing.GREEN, 4: drawing.PURPLE}
_LIGHT = {16: drawing.GREY, 8: drawing.ORANGE, 4: drawing.YELLOW}


def phase_figure(key: dict, by_tokens: dict[int, list[Bar]]) -> Figure:
    """Of what `phases_of` gives for one GPU."""
    phases = [
        ("decode", {n: bars for n, bars in by_tokens.items() if n <= DECODE_TOKENS}),
        ("prefill", {n: bars for n, bars in by_tokens.items() if n > DECODE_TOKENS}),
    ]
    phases = [(name, part) for name, part in phases if part]
    tallest = max(sum(len(bars) + 1.3 for bars in part.values()) for _, part in phases)
    settings = f" with {key['settings']}" if key["settings"] else ""
    where = f"{key['model']}, {key['target']}{settings}, {key['source']}"
    figure = drawing.new_figure(4.6 * len(phases), 1.4 + _ROW * tallest, WHAT, where)
    axes = figure.subplots(1, len(phases), squeeze=False)[0]
    for place, (name, part) in zip(axes, phases, strict=True):
        _panel(place, name, part)
        place.set_ylim(tallest - 0.6, -0.7)
    return figure


def _panel(axes: Axes, phase: str, by_tokens: dict[int, list[Bar]]) -> None:
    drawing.style(axes, grid="x")
    ticks: list[tuple[float, str, bool]] = []
    y, longest = 0.0, 1.0
    for tokens, bars in by_tokens.items():
        reference = reference_of(bars)
        assert reference is not None
        ticks.append((y, "1 token" if tokens == 1 else f"{tokens:,} tokens", True))
        for bar in sorted(bars, key=lambda bar: -bits_of(bar)):
            y += 1
            ticks.append((y, bar.name, False))
            length = bar.latency_us / reference.latency_us
            longest = max(longest, length if length == length else 1.0)
            _draw(axes, y, bar, length, reference)
        y += 1.3
    axes.axvline(1, color=drawing.INK, linewidth=0.9, linestyle=(0, (3, 2)))
    axes.set_yticks([place for place, _, _ in ticks], [safe(text, 26, lines=1) for _, text, _ in ticks])
    for tick, (_, _, heading) in zip(axes.get_yticklabels(), ticks, strict=True):
        tick.set_fontweight("bold" if heading else "normal")
        tick.set_fontsize("medium" if heading else "small")
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.55 * longest)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.set_xlabel("time / dense time of the same tokens")
    limit = f"at most {DECODE_TOKENS} tokens" if phase == "decode" else f"more than {DECODE_TOKENS} tokens"
    axes.set_title(f"{phase}: {limit}", fontsize="small", color=drawing.INK)


def _draw(axes: Axes, y: float, bar: Bar, length: float, reference: Bar) -> None:
    """The bar, labelled with its time and, but for the reference, the reference's time over it."""
    if length != length:
        axes.annotate("cannot run every layer", (0, y), xytext=(5, 0), textcoords="offset points", va="center",
                      fontsize="small", color=drawing.GREY)  # fmt: skip
        return
    colour = _COLOURS[bits_of(bar)] if bar.sparse else _LIGHT[bits_of(bar)]
    axes.barh(y, length, height=0.8, color=colour, linewidth=0)
    unit = fitting(TIMES, bar.latency_us)
    said = f"{quantity_text(bar.latency_us / unit.size)} {unit.text}"
    verdict = "" if bar is reference else bar.against(reference)
    slow = verdict == "slower"
    if bar is not reference:
        said += f", {times_text(1 / length)}" + (f" ({verdict})" if verdict else "")
    card = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    axes.annotate(said, (max(length, 1.0), y), xytext=(5, 0), textcoords="offset points", va="center", fontsize="small",
                  color=drawing.SLOW_INK if slow else drawing.INK, fontweight="bold" if slow else "normal",
                  bbox=card)  # fmt: skip
