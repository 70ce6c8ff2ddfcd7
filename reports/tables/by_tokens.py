"""Speedup of each layer shape against the tokens that pass through it, and where it passes break-even."""

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from reports.tables.sums import MASKS, counted, groups, no_baseline, sums_by
from reports.words.settings import beside_type, type_of
from workloads.rows import beside
from workloads.verdicts import UNCLEAR

MASKED = ["model", *MASKS]
PLACE = ["target", "settings", "level", "source", "activation_density"]
FEWEST = 3  # token counts that make a curve: a line between two says nothing of what lies between
AT = "@at_tokens"  # ends the names of the columns of a token count


def curves(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per masks (MASKED), target (PLACE), shape and token count, where a target has at least FEWEST of them:
    `speedup`, `latency_us`, `dense_latency_us` (of all layers of the shape), `error_p90`. rows: checked."""
    used = counted(rows[(rows["source"] != "measured") | (rows["kernel"] != "dense")])  # dense over dense is 1
    used = used[~no_baseline(used) & ~beside(used)]
    used = used[used.groupby([*MASKED, *PLACE], dropna=False)["tokens"].transform("nunique") >= FEWEST]
    if used.empty:
        return pd.DataFrame()
    keys = [*MASKED, *PLACE, "out_features", "in_features", "tokens"]
    found = sums_by(used, keys).rename(columns={"latency_error_p90": "error_p90"})
    shapes = [f"{out} x {into}" for out, into in zip(found["out_features"], found["in_features"], strict=True)]
    shown = ["speedup", "latency_us", "dense_latency_us", "layers", "error_p90", "verdict"]
    return found.assign(shapes=shapes)[[*keys, "shapes", *shown]]


def token_tables(lines: pd.DataFrame) -> Iterator[tuple[dict, pd.DataFrame]]:
    """(MASKED, table) of what `curves` gives: one line per target and shape, a column "N tokens@at_tokens" per token
    count, and `crossing`."""
    for key, same in [] if lines.empty else groups(lines, MASKED):
        counts = sorted(same["tokens"].unique())
        made = []
        for place, part in groups(same, [*PLACE, "shapes"]):
            by_count = dict(zip(part["tokens"], part["speedup"], strict=True))
            columns = {f"{_tokens(n)}{AT}": by_count.get(n, float("nan")) for n in counts}
            told = {"dtype": type_of(place["settings"]), "settings": beside_type(place["settings"])}
            verdicts = dict(zip(part["tokens"], part["verdict"], strict=True))
            columns |= {f"{_tokens(n)}{AT}_verdict": verdicts.get(n, "") for n in counts}
            unclear = all(said == UNCLEAR for said in verdicts.values())
            crossing = UNCLEAR if unclear else crossing_text(list(by_count), list(by_count.values()))
            made.append({**place, **told, **columns, "crossing": crossing})
        yield key, pd.DataFrame(made)


def table_columns(table: pd.DataFrame) -> list[str]:
    counts = [name for name in table if name.endswith(AT)]
    return ["target", "dtype", "shapes", "crossing", *counts, "settings", "activation_density", "source"]


def _tokens(count: int) -> str:
    return "1 token" if count == 1 else f"{count:,} tokens"


def crossings(tokens: Sequence[float], speedups: Sequence[float]) -> list[tuple[float, bool]]:
    """(tokens, rises) wherever the speedup passes 1.0, linear in log(tokens) between two counts. A speedup that touches
    1.0 and turns back does not pass it; one that stays at 1.0 for several counts passes at the first of them."""
    points = sorted((t, s) for t, s in zip(tokens, speedups, strict=True) if not math.isnan(s))
    found: list[tuple[float, bool]] = []
    before: tuple[float, float] | None = None  # the last point off 1.0
    level: float | None = None  # the first of the points at exactly 1.0 behind it
    for count, speedup in points:
        if speedup == 1:
            level = count if level is None else level
            continue
        if before is not None and (before[1] < 1) != (speedup < 1):
            share = (1 - before[1]) / (speedup - before[1])
            where = math.exp(math.log(before[0]) + share * (math.log(count) - math.log(before[0])))
            found.append((where if level is None else level, speedup > 1))
        before, level = (count, speedup), None
    return found


def crossing_text(tokens: Sequence[float], speedups: Sequence[float]) -> str:
    """ "93", "falls below at 93", "always faster", "never faster"."""
    found = crossings(tokens, speedups)
    if found:
        return ", ".join(f"{'' if rises else 'falls below at '}{where:,.0f}" for where, rises in found)
    known = [speedup for speedup in speedups if not math.isnan(speedup)]
    return "always faster" if min(known) > 1 else "never faster" if max(known) <= 1 else "touches it"
