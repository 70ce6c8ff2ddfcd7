"""What each kind of compression gains where it may cost the same: its fastest run below a limit of perplexity.

Other tables hold a quantized model against an unpruned one of the same bits; here what fewer bits bring counts too."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from reports.tables.quality import NOT_PRUNED, target_name
from reports.tables.sums import CONFIG, groups
from workloads.patterns import DENSE, FACTORED, GONE, SMALLER

LIMITS = (1.05, 1.1, 1.25, 1.5, 2.0)  # times the unpruned model's perplexity
LINE = [*CONFIG, "perplexity_limit", "perplexity_limit_ratio"]
_MASKS, _SMALL, _FACTORS = "masks", "smaller matrices", "factors"


def equal_perplexity(
    headline: pd.DataFrame, perplexities: pd.DataFrame, after: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """A line per configuration, limit and kind, of `headline_table` and `perplexity_table`: `run` is the fastest run of
    the kind whose perplexity is at most `perplexity_limit`, NaN and "" where none is, among those that run every layer.
    Of models with several kinds; limits that let the same runs through as a lower one are left out. Nothing is
    interpolated.

    `after`: by a method's name that of the one it went on from, whose kind is its own too."""
    if headline.empty:
        return pd.DataFrame()
    known = headline[
        np.isfinite(headline["speedup"])
        & np.isfinite(headline["perplexity"])
        & np.isfinite(headline["dense_perplexity"])
        & (headline["source"] != "published")
        & (headline["infeasible_layers"] == 0)  # else a run's sum is of fewer layers than another's
    ]
    if known.empty:
        return pd.DataFrame()
    bits = [_weight_bits(line, perplexities) for line in known.to_dict("records")]
    known = known.assign(
        speedup=_over_unquantized(known, np.isnan(bits)),
        kind=[_kind(line, each, known, after or {}) for line, each in zip(known.to_dict("records"), bits, strict=True)],
    )
    lines: list[dict] = []
    for _, same in groups(known, ["model"]):
        kinds = list(dict.fromkeys(same["kind"]))
        if len(kinds) < 2:
            continue
        for limit, times in _limits(same):
            at = {"perplexity_limit": limit, "perplexity_limit_ratio": times}
            for config, here in groups(same, CONFIG):
                lines += [{**config, **at, **_fastest(here, kind, limit)} for kind in kinds]
    return pd.DataFrame(lines)


def side_by_side(found: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(model, its lines of `equal_perplexity` with a column "KIND@speedup" and "KIND@run" for each kind)."""
    for key, same in groups(found, ["model"]) if len(found) else []:
        lines = []
        for line, here in groups(same, LINE):
            each = {
                f"{one['kind']}@{name}": one[name] for one in here.to_dict("records") for name in ("speedup", "run")
            }
            lines.append({**line, **each})
        yield key["model"], pd.DataFrame(lines)


def _limits(lines: pd.DataFrame) -> Iterator[tuple[float, float]]:
    """(perplexity, times the unpruned model's) of the limits that differ in what they let through."""
    dense = float(lines["dense_perplexity"].iloc[0])
    before = 0
    for times in LIMITS:
        within = int((lines["perplexity"] <= times * dense).sum())
        if within > before:
            yield times * dense, times
        before = within


def _fastest(lines: pd.DataFrame, kind: str, limit: float) -> dict:
    fine = lines[(lines["kind"] == kind) & (lines["perplexity"] <= limit)]
    if fine.empty:
        return {"kind": kind, "speedup": float("nan"), "run": "", "perplexity": float("nan")}
    best = fine.loc[fine["speedup"].idxmax()]
    named = target_name(best.to_dict())
    return {
        "kind": kind,
        "speedup": float(best["speedup"]),
        "run": best["method"] if named == NOT_PRUNED else f"{best['method']} {named}",
        "perplexity": float(best["perplexity"]),
    }


def _over_unquantized(known: pd.DataFrame, floats: np.ndarray) -> np.ndarray:
    """(lines,) speedups over the unpruned model in its own number type: a quantized line's own is over one of the same
    bits, unless its target has no figures for floats."""
    speedups = known["speedup"].to_numpy(copy=True)
    for _, lines in groups(known.assign(_place=range(len(known))), CONFIG):
        places = lines["_place"].to_numpy()
        unpruned_us = lines["dense_latency_us"].to_numpy()[floats[places]]
        if len(unpruned_us):
            quantized = ~floats[places]
            speedups[places[quantized]] = unpruned_us[0] / lines["latency_us"].to_numpy()[quantized]
    return speedups


def _kind(line: dict, bits: float, known: pd.DataFrame, after: Mapping[str, str]) -> str:
    steps = [line]
    while (before := after.get(steps[0]["method"])) is not None:
        of_before = known[known["method"] == before].to_dict("records")
        if not of_before or any(step["method"] == before for step in steps):
            break
        steps.insert(0, of_before[0])
    parts = list(dict.fromkeys(part for step in steps for part in _parts(step)))
    return " + ".join([*parts, *([f"{bits:.2g}-bit weights"] if np.isfinite(bits) else [])]) or DENSE


def _parts(line: dict) -> list[str]:
    pattern = DENSE if target_name(line) == NOT_PRUNED else line["pattern"]
    named = {DENSE: [], SMALLER: [_SMALL], GONE: [_SMALL], FACTORED: [_FACTORS], "unstructured": [_MASKS]}
    return named.get(pattern, [pattern])


def _weight_bits(line: dict, perplexities: pd.DataFrame) -> float:
    same = perplexities[(perplexities["model"] == line["model"]) & (perplexities["method"] == line["method"])]
    same = same[same["pattern"] == line["pattern"]]
    bits = same["weight_bits"].astype("float64")
    return float(bits.iloc[0]) if len(bits) else float("nan")
