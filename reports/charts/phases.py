"""Dense, 2:4 and quantized kernels of a GPU: bars as long as their time over the dense one of the same tokens."""

import altair as alt
import pandas as pd

from reports.charts import house
from reports.tables.phases import Bar, bits_of, reference_of
from reports.words.naming import phase_text, tokens_text
from reports.words.present import quantity_text, times_text
from reports.words.units import TIMES, fitting

LOOKS = {
    "dense, 16 bits": "var(--c7)", "2:4, 16 bits": "var(--c0)", "dense, 8 bits": "var(--c4)",
    "2:4, 8 bits": "var(--c2)", "dense, 4 bits": "var(--c5)", "2:4, 4 bits": "var(--c3)",
}  # fmt: skip
_STEP = 17


def chart_bars(key: dict, by_tokens: dict[int, list[Bar]]) -> pd.DataFrame:
    """Of what `phases_of` gives for one GPU: a line a bar. What cannot run every layer has no length."""
    made = []
    for tokens, bars in by_tokens.items():
        reference = reference_of(bars)
        assert reference is not None
        for bar in sorted(bars, key=lambda bar: -bits_of(bar)):
            length = bar.latency_us / reference.latency_us
            made.append({
                "model": key["model"], "target": key["target"], "phase": phase_text(tokens),
                "at": f"{phase_text(tokens)}, {tokens_text(tokens)}", "bar": bar.name,
                "kind": f"{'2:4' if bar.sparse else 'dense'}, {bits_of(bar)} bits",
                "length": length if length == length else None, "end": length if length == length else 0.0,
                **_said(bar, reference, length),
            })  # fmt: skip
    return pd.DataFrame(made)


def _said(bar: Bar, reference: Bar, length: float) -> dict[str, str]:
    if length != length:
        return {"said": f"{bar.name}: cannot run every layer", "time_said": "", "speedup_said": ""}
    unit = fitting(TIMES, bar.latency_us)
    time = f"{quantity_text(bar.latency_us / unit.size)} {unit.text}"
    verdict = "" if bar is reference else bar.against(reference)
    gain = "" if bar is reference else times_text(1 / length) + (f" ({verdict})" if verdict else "")
    return {"said": " ".join(filter(None, [bar.name, time, gain])), "time_said": time, "speedup_said": gain}


def spoken_bars(lines: pd.DataFrame) -> str:
    """Of `chart_bars`."""
    return house.spoken("Dense, 2:4 and quantized", [f"{p.at}: {p.said}" for p in lines.itertuples()])


def bars_chart(lines: pd.DataFrame) -> dict:
    """Of what `chart_bars` gives."""
    at, bars = list(dict.fromkeys(lines["at"])), list(dict.fromkeys(lines["bar"]))
    known = [name for name in LOOKS if (lines["kind"] == name).any()]
    y = alt.Y("at:N", sort=at, title=None, axis=alt.Axis(ticks=False, labelFontWeight="bold", labelPadding=6))
    offset = alt.YOffset("bar:N", sort=bars)
    x = alt.X(
        "length:Q",
        title="time / dense time of the same tokens",
        scale=house.room([*lines["end"], 1.0], [*lines["said"], ""]),
    )
    drawn = house.rows().mark_bar().encode(
        x=x, y=y, yOffset=offset,
        color=alt.Color("kind:N", scale=alt.Scale(domain=known, range=[LOOKS[name] for name in known]),
                        legend=alt.Legend(title=None)),
        tooltip=house.told(("at", "phase"), ("bar", "kernel"), ("time_said", "time"), ("speedup_said", "speedup")),
    )  # fmt: skip
    ends = house.rows().mark_text(align="left", dx=4, fontSize=11, color=house.INK)
    ends = ends.encode(x="end:Q", y=y, yOffset=offset, text="said:N")
    return house.finished(alt.layer(house.line_at(1.0), drawn, ends), _STEP * (len(bars) + 1) * len(at))
