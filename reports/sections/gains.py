"""The sentences that a report is read for: one or two for every machine and phase."""

from collections.abc import Collection, Iterator

import pandas as pd

from reports.sections.verdict import WITHOUT_TOKENS, against_dense, left_out_parts
from reports.tables.layers import BOUNDS, KERNEL_BOUNDS
from reports.tables.sums import KERNEL, groups
from reports.words.naming import config_text, phase_text, run_text, tokens_text
from reports.words.present import cell, times_text
from workloads.layers import role_rank

PLACE = ["model", "target", "settings"]
SAMPLES = "samples"  # in the place of a phase
_BINDS = {
    "compute": "the array's compute",
    "imbalance": "imbalance of its lanes",
    "memory": "DRAM",
    "buffer": "on-chip buffers",
    "tensor": "the tensor cores",
    "dram": "DRAM",
    "l2": "the L2",
    "launch": "kernel launches",
    "wave_tail": "short last waves",
}


def gains(
    headline: pd.DataFrame, networks: Collection[str] = (), included: pd.DataFrame | None = None
) -> list[tuple[str, bool]]:
    """(sentences, is a warning) for each machine and phase of a `headline_table`. `networks`: models that have samples
    and no phases. `included`: the `role` of all that is in the sums beside layers, by PLACE."""
    return [_said(key, phase, lines, _timed(key, included)) for key, phase, lines in _each(headline, networks)]


def _timed(key: dict, included: pd.DataFrame | None) -> str:
    """What the sums are of."""
    if included is None or included.empty:
        return "the pruned linear layers alone"
    here = included[(included[PLACE] == [key[name] for name in PLACE]).all(axis=1)]
    roles = sorted(set(here["role"]), key=lambda role: (role_rank(role), role))
    return f"the pruned linear layers with {' and '.join(roles)}" if roles else "the pruned linear layers alone"


def _each(headline: pd.DataFrame, networks: Collection[str]) -> Iterator[tuple[dict, str, pd.DataFrame]]:
    phases = headline["tokens"].map(phase_text).mask(headline["model"].isin(networks), SAMPLES)
    for key, lines in groups(headline.assign(_phase=phases), WITHOUT_TOKENS):
        for phase, part in groups(lines, ["_phase"]):
            yield key, phase["_phase"], part.drop(columns="_phase")


def _said(key: dict, phase: str, lines: pd.DataFrame, timed: str) -> tuple[str, bool]:
    counts = sorted(lines["tokens"].dropna().unique())
    tokens = tokens_text(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]} tokens" if counts else ""
    when = f", {phase} ({tokens})" if phase else ""
    if phase == SAMPLES:
        when = f", {tokens.replace('token', 'sample')}"
    known = lines[lines["speedup"].notna()]
    left_out, barred = left_out_parts(lines)
    where = f"{config_text(key)}{when}"
    if not lines["layers"].sum():
        return f"{where}: cannot be run, no layer is counted.", True
    if known.empty:
        return f"{where}: {'; '.join([*left_out] or ['the dense time is not known'])}.", barred
    slow, speeds = against_dense(known, "speedup", "slower than dense", "speedup")
    hungry, energies = against_dense(known, "energy_ratio", "more energy than dense", "energy ratio")
    parts = [*_fastest(known), *(speeds if slow or len(known) > 2 or _unclear(known) else []), *energies, *left_out]
    second = "; ".join([*_binds(_best(known)), _sure(lines, timed)])
    return f"{where}: {'; '.join(parts)}. {second[0].upper()}{second[1:]}.", bool(slow or hungry or barred)


def _best(known: pd.DataFrame) -> pd.Series:
    """The fastest run; of those that print alike the one of the lowest perplexity."""
    fastest = times_text(known["speedup"].max())
    alike = known[[times_text(value) == fastest for value in known["speedup"]]]
    return alike.loc[alike["perplexity"].idxmin()] if alike["perplexity"].notna().any() else alike.iloc[0]


def _unclear(known: pd.DataFrame) -> bool:
    return bool((known["verdict"] != "").any())


def _fastest(known: pd.DataFrame) -> list[str]:
    """The fastest run with its perplexity, and the run of the lowest perplexity where that is another."""
    best = _best(known)
    parts = [f"{'fastest is ' if len(known) > 1 else ''}{_run(best, known)}{_cost(best)}"]
    pruned = known[known["perplexity"].notna()]
    if len(pruned) > 1:
        low = pruned.loc[pruned["perplexity"].idxmin()]
        if low["perplexity"] < best["perplexity"]:
            parts.append(f"lowest perplexity {cell('perplexity', low['perplexity']).text} with {_run(low, known)}")
    return parts


def _run(line: pd.Series, known: pd.DataFrame) -> str:
    at = f" at {tokens_text(line['tokens'])}" if known["tokens"].nunique() > 1 else ""
    spread = f" ± {line['speedup_spread']:.2f}" if pd.notna(line["speedup_spread"]) else ""
    return f"{run_text(line.to_dict())}{at}, {times_text(line['speedup'])}{spread}"


def _cost(line: pd.Series) -> str:
    if pd.isna(line["perplexity"]):
        return ""
    dense = cell("perplexity", line["dense_perplexity"]).text
    return f" at perplexity {cell('perplexity', line['perplexity']).text} (dense {dense})"


def _binds(line: pd.Series) -> list[str]:
    shares = {name: line[f"bound_{name}_share"] for name in (*BOUNDS, *KERNEL_BOUNDS)}
    known = {name: share for name, share in shares.items() if pd.notna(share) and share > 0}
    if not known:
        return []
    first = max(known, key=known.__getitem__)
    return [f"{_BINDS[first]} binds {_percent(known[first])} of its time"]


def _percent(share: float) -> str:
    return "all" if share == 1 else f"{cell('time_share', share).text} %"


def _sure(lines: pd.DataFrame, timed: str) -> str:
    """How sure the numbers are, in the words of their source."""
    line = lines.iloc[0]
    seeds = int(lines["seeds"].max()) if lines["seeds"].notna().any() else 1
    over = (
        f" over {seeds} seeds of the masks"
        if seeds > 1
        else ", one seed of the masks"
        if line["level"] != KERNEL
        else ""
    )
    if line["source"] == "predicted":
        error = lines["speedup_error_p90"].max()
        band = (
            f"nine of ten speedups within {cell('time_share', error).text} %" if pd.notna(error) else "no error stated"
        )
        return f"predicted, {band}"
    if line["source"] in ("measured", "published"):
        return f"{line['source']}, on its own conditions"
    how = {"paper": "a published formula without memory", "cycle": "counted by a cycle model"}
    return f"{how.get(line['level'], 'simulated')}{over}; {timed}"
