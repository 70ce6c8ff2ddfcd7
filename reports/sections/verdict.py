"""The sentences on whole models that a reader must not miss: slowdowns and more energy by name, what is left out."""

import pandas as pd

from reports.tables.sums import CONFIG, KERNEL, groups
from reports.words.naming import config_text, tokens_text
from reports.words.present import times_text
from workloads.verdicts import UNCLEAR

_NAMED = 6  # slowdowns a sentence names before it only counts them
WITHOUT_TOKENS = [name for name in CONFIG if name != "tokens"]


def verdict(headline: pd.DataFrame) -> list[tuple[str, bool]]:
    """What a reader must not miss: (sentence, is a warning) per configuration, slowdowns and more energy by name. A GPU
    at several token counts has one sentence for all of them."""
    lines = []
    for key, group in groups(headline, WITHOUT_TOKENS):
        together = key["level"] == KERNEL and group["tokens"].nunique() > 1
        for config, part in groups(group, WITHOUT_TOKENS if together else CONFIG):
            sentence, warns = _sentence(part)
            lines.append((f"{config_text(config)}: {sentence}.", warns))
    return lines


def _sentence(group: pd.DataFrame) -> tuple[str, bool]:
    known = group[group["speedup"].notna()]
    if not group["layers"].sum():
        return "cannot be run, no layer is counted", True
    slow, parts = _against_dense(known, "speedup", "slower than dense", "speedup")
    hungry, energy = _against_dense(known, "energy_ratio", "more energy than dense", "energy ratio")
    parts += energy
    left_out = int(group["infeasible_layers"].sum())
    if left_out:
        parts.append(f"{left_out} of {left_out + int(group['layers'].sum())} layer results cannot run and are left out")
    beyond = int(group["extrapolated_layers"].sum())
    if beyond:
        parts.append(f"{beyond} of {int(group['layers'].sum())} layer results are extrapolated")
    bare = int(group["no_baseline_layers"].sum())
    if bare:
        parts.append(
            f"{bare} of {int(group['layers'].sum())} layer results have no dense baseline, which does not fit: no "
            "speedup"
        )
    return "; ".join(parts) or "the dense time is not known", bool(slow or hungry or left_out or bare)


def _against_dense(lines: pd.DataFrame, column: str, worse: str, better: str) -> tuple[int, list[str]]:
    """(how many are worse than dense, what to say of them and of the others); nothing where the ratio is not known."""
    several = lines["tokens"].nunique() > 1
    blurred = (lines["verdict"] == UNCLEAR) & (column == "speedup")
    unclear, lines = lines[blurred], lines[~blurred]
    bad, good = lines[lines[column] < 1], lines[lines[column] >= 1]
    parts = []
    if len(unclear):
        parts.append(
            f"not distinguishable from dense within the error of the prediction: {_named(unclear, column, several)}"
        )
    if len(bad):
        parts.append(f"{worse}: {_named(bad, column, several)}")
    if len(good):
        spread = between(good[column])
        parts.append(f"the other {len(good)}: {spread}" if len(bad) or len(unclear) else f"{better} {spread}")
    return len(bad), parts


def _named(lines: pd.DataFrame, column: str, with_tokens: bool) -> str:
    """The methods of some lines with their ratios, as many as anyone reads."""
    at = [f" at {tokens_text(n)}" if with_tokens else "" for n in lines["tokens"]]
    names = [
        f"{method} {pattern}{where} {times_text(value)}".replace("  ", " ")
        for method, pattern, where, value in zip(lines["method"], lines["pattern"], at, lines[column], strict=True)
    ]
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def between(ratios: pd.Series) -> str:
    """ "1.20x to 1.44x", "1.20x" where they print alike."""
    low, high = times_text(ratios.min()), times_text(ratios.max())
    return low if low == high else f"{low} to {high}"
