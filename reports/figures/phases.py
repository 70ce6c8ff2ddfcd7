"""Dense, 2:4 and quantized time of a model's linears on one GPU, decode beside prefill."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports.figures import drawing
from reports.figures.drawing import safe
from reports.tables.gemms import MASKED, is_24
from reports.tables.sums import KERNEL, KEYS, groups, sums
from reports.words.naming import DECODE_TOKENS
from reports.words.present import quantity_text, times_text
from reports.words.settings import QUANTIZED, others, setting, type_of
from reports.words.units import TIMES, fitting
from workloads.verdicts import FASTER, verdict

WHAT = "Dense, 2:4 and quantized, by phase"
_ROW = 0.19  # inches a bar takes
_COLOURS = {16: drawing.BLUE, 8: drawing.GREEN, 4: drawing.PURPLE}
_LIGHT = {16: drawing.GREY, 8: drawing.ORANGE, 4: drawing.YELLOW}


@dataclass(frozen=True)
class Bar:
    """The summed time of all layers by one kernel; latency_us is NaN where a layer cannot run. error: of a predicted
    time, the share that nine of ten stay within; speedup_error: of a 2:4 time against the dense time of the same
    type."""

    tokens: int
    dtype: str
    sparse: bool
    name: str
    latency_us: float
    error: float = 0.0
    speedup_error: float = 0.0

    def against(self, reference: "Bar") -> str:
        """ "slower", "not distinguishable" where the band of the ratio holds 1, or "" where faster."""
        ratio = reference.latency_us / self.latency_us
        error = (1 + self.error) * (1 + reference.error) - 1
        if self.sparse and self.dtype == reference.dtype:
            error = self.speedup_error
        if not error and ratio == 1:
            return ""
        said = verdict(np.array([ratio]), np.array([error]))[0]
        return "" if said == FASTER else said


def phases_of(rows: pd.DataFrame) -> Iterator[tuple[dict, dict[int, list[Bar]], pd.DataFrame]]:
    """({model, target, source, settings}, bars by tokens, their rows) for each GPU of checked rows that has quantized
    kernels or several token counts."""
    kernels = rows[rows["level"] == KERNEL]
    kernels = kernels.assign(settings=[others(text, "kernel", "dtype", "published") for text in kernels["settings"]],
                             _settings=kernels["settings"])  # fmt: skip
    for key, same in [] if kernels.empty else groups(kernels, ["model", "target", "source", "settings"]):
        bars = _bars(same.assign(settings=same["_settings"]))
        by_tokens = {count: [bar for bar in bars if bar.tokens == count] for count in {bar.tokens for bar in bars}}
        by_tokens = {count: by_tokens[count] for count in sorted(by_tokens) if _reference(by_tokens[count])}
        most = max(map(len, by_tokens.values()), default=0)
        if most > 2 or (most == 2 and len(by_tokens) > 1):
            yield key, by_tokens, same.drop(columns="_settings")


def _bars(rows: pd.DataFrame) -> list[Bar]:
    """The dense bar and the bar of each kernel, once for each type and token count."""
    found: dict[tuple[int, str, str], Bar] = {}
    for key, part in groups(rows, KEYS):
        whole = sums(part)
        kernel, tokens = setting(key["settings"], "kernel"), int(key["tokens"])
        dtype = type_of(key["settings"])
        missing = float("nan") if whole["infeasible_layers"] else 1.0
        own, dense = missing * whole["latency_us"], missing * whole["dense_latency_us"]
        if key["source"] == "measured" or kernel:
            name = kernel if kernel in QUANTIZED else f"{kernel} {dtype}"
            if kernel in MASKED and pd.notna(key["target_sparsity"]):
                name += f", {1 - key['target_sparsity']:.0%} kept"
            bars = [Bar(tokens, dtype, is_24(kernel), name, own)]
        else:
            error, ratio_error = (
                0.0 if pd.isna(whole[name]) else float(whole[name])
                for name in ("latency_error_p90", "speedup_error_p90")
            )
            bars = [Bar(tokens, dtype, False, f"dense {dtype}", dense, error)]
            if (part["kernel"].map(is_24) | (part["source"] == "published")).any():
                bars.append(Bar(tokens, dtype, True, f"2:4 {dtype}", own, error, ratio_error))
        for bar in bars:
            found.setdefault((tokens, bar.dtype, bar.name), bar)
    return list(found.values())


def _bits(bar: Bar) -> int:
    return 4 if "4" in bar.dtype else 8 if "8" in bar.dtype else 16


def _reference(bars: list[Bar]) -> Bar | None:
    """What the others are held against: the dense kernel of the widest type."""
    dense = [bar for bar in bars if not bar.sparse and bar.latency_us > 0]
    return max(dense, key=_bits, default=None)


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
        reference = _reference(bars)
        assert reference is not None
        ticks.append((y, "1 token" if tokens == 1 else f"{tokens:,} tokens", True))
        for bar in sorted(bars, key=lambda bar: -_bits(bar)):
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
    colour = _COLOURS[_bits(bar)] if bar.sparse else _LIGHT[_bits(bar)]
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
