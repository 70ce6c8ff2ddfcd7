"""What a reader must not miss of whole models: slowdowns and more energy by name, what is left out."""

import pandas as pd

from reports.tables.sums import CONFIG
from reports.words.naming import tokens_text
from reports.words.present import times_text
from workloads.verdicts import UNCLEAR

_NAMED = 6  # slowdowns a sentence names before it only counts them
WITHOUT_TOKENS = [name for name in CONFIG if name != "tokens"]


def left_out_parts(group: pd.DataFrame) -> tuple[list[str], bool]:
    """(what to say of layers that are not in the sums, whether any cannot run or has no baseline)."""
    out, beyond, bare = (
        int(group[name].sum()) for name in ("infeasible_layers", "extrapolated_layers", "no_baseline_layers")
    )
    counted = int(group["layers"].sum())
    parts = [f"{out} of {out + counted} layer results cannot run and are left out"] if out else []
    parts += [f"{beyond} of {counted} layer results are extrapolated"] if beyond else []
    none = "have no dense baseline, which does not fit: no speedup"
    parts += [f"{bare} of {counted} layer results {none}"] if bare else []
    return parts, bool(out or bare)


def against_dense(lines: pd.DataFrame, column: str, worse: str, better: str) -> tuple[int, list[str]]:
    """(how many are worse than dense, what to say of them and of the others); nothing where the ratio is not known."""
    several = lines["tokens"].nunique() > 1
    lines = lines.assign(_run=_runs(lines))
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


def _runs(lines: pd.DataFrame) -> list[str]:
    """ "wanda 2:4", "cfsp smaller 20 %": each line's method and pattern, with the sparsity that was asked for where its
    method was run at several, or in several patterns."""
    asked = lines[["method", "pattern", "target_sparsity"]]
    counts = asked.drop_duplicates().groupby("method", dropna=False).size()
    runs = []
    for method, pattern, sparsity in asked.itertuples(index=False, name=None):
        plain = pd.isna(sparsity) or ":" in pattern or counts[method] == 1
        runs.append(f"{method} {pattern}" if plain else f"{method} {pattern} {100 * sparsity:g} %")
    return runs


def _named(lines: pd.DataFrame, column: str, with_tokens: bool) -> str:
    """The methods of some lines with their ratios, as many as anyone reads."""
    at = [f" at {tokens_text(n)}" if with_tokens else "" for n in lines["tokens"]]
    names = [
        f"{run}{where} {times_text(value)}".replace("  ", " ")
        for run, where, value in zip(lines["_run"], at, lines[column], strict=True)
    ]
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def between(ratios: pd.Series) -> str:
    """ "1.20x to 1.44x", "1.20x" where they print alike."""
    low, high = times_text(ratios.min()), times_text(ratios.max())
    return low if low == high else f"{low} to {high}"
