"""Whole models: one line a configuration with its perplexity and what it would gain if its linears were free; where one
method overtakes another."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from reports.tables.by_tokens import crossings
from reports.tables.sums import by, groups
from reports.words.headings import by_name
from workloads.columns.column import Column
from workloads.columns.inference import INFERENCE_COLUMNS
from workloads.whole_models import WholeModels

DENSE = "dense"
TIMED = ("measured", "published")  # beside the others in tables, in no chart or sentence
STEP = "step"  # whether a line is one decode step alone
TARGET = ["model", "target", "settings", "kv_bits", "tensor_parallel", "host", "source"]
SIZES = ["prompt", "generate", STEP]
GROUPS = {
    "linears": "linears", "experts": "experts", "attention": "attention", "elementwise": "norms, activations",
    "head": "head", "communication": "between chips", "host": "host",
}  # fmt: skip
KNOWN = by_name(
    (
        *INFERENCE_COLUMNS,
        Column("method", "text", "what was done to the model; dense: nothing"),
        Column("prefill_ms", "float", "time to the first token", heading="First token",
               narrow="First (ms)"),
        Column("decode_ms_per_token", "float", "mean of the decode steps", heading="A decode step (ms)",
               printed="quantity"),
        Column("tokens_per_s", "float", "generated tokens of all sequences / whole time", heading="Tokens/s",
               printed="quantity"),
        Column("context", "int", "tokens that a decode step sees"),
        Column("weight_gib", "float", "of one chip, as all memory: everything stored", heading="Weights"),
        Column("kv_gib", "float", "at the end", heading="KV cache"),
        Column("memory_gib", "float", "weights, KV cache, activations and the reserve", heading="Memory",
               narrow="GiB"),
        Column("latency_error_p90", "float", "nine of ten true times are taken to lie within",
               heading="Error of the time, 90 % within", printed="share", narrow="Error (%)"),
        Column("speedup_error_p90", "float", "the same of the speedup", heading="Error of the speedup",
               printed="share"),
        *(Column(f"{name}_share", "float", f"of the whole time: {said}", heading=said.capitalize(), printed="share",
                 nothing=0) for name, said in GROUPS.items()),
        Column("least_speedup", "float", "over all batches and contexts", heading="Least", printed="speedup"),
        Column("least_batch", "int", heading="at sequences"),
        Column("least_context", "int", heading="at context", printed="amount"),
        Column("most_speedup", "float", "over all batches and contexts", heading="Most", printed="speedup"),
        Column("most_batch", "int", heading="at sequences"),
        Column("most_context", "int", heading="at context", printed="amount"),
        Column("free_linears_speedup", "float", "over dense, if the blocks' linears and experts took no time",
               heading="Linears free", printed="ratio"),
    )
)  # fmt: skip


def serving_table(whole: WholeModels) -> pd.DataFrame:
    """The rows with STEP, `context`, `usable` (nothing says that it does not fit), `free_linears_speedup`, `perplexity`
    and `dense_perplexity`; a method that is run in several types on one target has the type in its name."""
    rows = whole.rows
    if rows.empty:
        return rows
    step = rows["feasible"] & rows["prefill_ms"].isna() & rows["decode_ms_per_token"].notna()
    share = rows["linears_share"].fillna(0) + rows["experts_share"].fillna(0)
    known = rows["linears_share"].notna() & (share < 1)
    limit = (rows["speedup"] / (1 - share).where(known)).astype("float64")
    method = rows["method"].where(rows["method"] != "", DENSE)
    types = rows.assign(method=method).groupby([*TARGET, "method"], dropna=False)["dtype"].transform("nunique")
    table = rows.assign(
        fits=rows["fits"].astype("boolean"), usable=rows["fits"].astype("boolean").fillna(True).astype(bool),
        method=method.where(types == 1, method + " " + rows["dtype"]),
        step=step, context=rows["prompt"] + rows["generate"], free_linears_speedup=limit,
    )  # fmt: skip
    return _evaluated(table, method, whole.perplexities)


def _evaluated(table: pd.DataFrame, method: pd.Series, perplexities: pd.DataFrame) -> pd.DataFrame:
    found = {} if perplexities.empty else perplexities.groupby(["model", "method"])["perplexity"].mean().to_dict()
    own = [found.get(key, np.nan) for key in zip(table["model"], method, strict=True)]
    dense = [found.get((model, DENSE), np.nan) for model in table["model"]]
    return table.assign(perplexity=own, dense_perplexity=dense)


def places(table: pd.DataFrame, step: bool = False) -> Iterator[tuple[dict, pd.DataFrame]]:
    """({TARGET and SIZES}, lines that can run) of every target and length: generations, or decode steps alone."""
    used = table[table["feasible"] & (table[STEP] == step) & ~table["source"].isin(TIMED)] if len(table) else table
    yield from by(used, [*TARGET, *SIZES])


def dense_of(lines: pd.DataFrame) -> pd.DataFrame:
    """Of the unpruned model in fp16, or in the first type that it is run in."""
    dense = lines[lines["method"].map(lambda name: name.split(" ")[0]) == DENSE]
    return dense[dense["dtype"] == dense["dtype"].iloc[0]] if len(dense) else dense


def telling(lines: pd.DataFrame) -> list[int]:
    """Batches worth a sentence: the smallest, and the largest at which the unpruned model fits (or any does)."""
    dense = dense_of(lines)
    fitting = dense[dense["usable"]] if dense["usable"].any() else lines[lines["usable"]]
    most = fitting["batch"].max() if len(fitting) else lines["batch"].min()
    return sorted({int(lines["batch"].min()), int(most)})


def steps_over_contexts(table: pd.DataFrame) -> Iterator[tuple[dict, pd.DataFrame]]:
    """({TARGET and batch}, lines of decode steps at several contexts) of every target and number of sequences."""
    used = table[table["feasible"] & table[STEP] & ~table["source"].isin(TIMED)] if len(table) else table
    for key, lines in by(used, [*TARGET, "batch"]):
        if lines["context"].nunique() > 1:
            yield key, lines


def fastest(lines: pd.DataFrame, along: str = "batch") -> pd.DataFrame:
    """Of each batch (or context) the line of the most tokens a second, of those that fit; in their order."""
    fitting = lines[lines["usable"]].sort_values(along, kind="stable")
    return fitting.loc[fitting.groupby(along, sort=False)["tokens_per_s"].idxmax()] if len(fitting) else fitting


def overtakings(lines: pd.DataFrame, along: str = "batch") -> list[tuple[str, int, int, float | None]]:
    """(method, first batch, last batch at which it is the fastest that fits, batch at which it overtakes the one
    before: interpolated in the logarithm, None where that one no longer fits); or `along` contexts."""
    best = fastest(lines, along)
    found: list[tuple[str, int, int, float | None]] = []
    for method, size in zip(best["method"], best[along], strict=True):
        if found and found[-1][0] == method:
            found[-1] = (*found[-1][:2], int(size), found[-1][3])
        else:
            crossed = _crossing(lines, found[-1], method, size, along) if found else None
            found.append((method, int(size), int(size), crossed))
    return found


def _crossing(lines: pd.DataFrame, before: tuple, method: str, size: int, along: str) -> float | None:
    both = lines[lines[along].isin((before[2], size)) & lines["usable"]]
    rates = both.pivot_table(index=along, columns="method", values="tokens_per_s", aggfunc="max")
    if method not in rates or before[0] not in rates:
        return None
    ratio = (rates[method] / rates[before[0]]).dropna()
    where = crossings(list(ratio.index), list(ratio))
    return where[0][0] if where else None


def gains(lines: pd.DataFrame, method: str) -> pd.DataFrame:
    """(contexts, batches): speedup of a method, NaN where it was not run."""
    return _grid(lines[(lines["method"] == method) & lines["speedup"].notna()], "speedup")


def _grid(lines: pd.DataFrame, column: str) -> pd.DataFrame:
    """(contexts, batches): of several lines of a place the first."""
    return lines.drop_duplicates(["context", "batch"]).pivot(index="context", columns="batch", values=column)


def gains_table(table: pd.DataFrame) -> pd.DataFrame:
    """Of each method on each target the least and the most that it gains over the batches and contexts that fit (all,
    where none does), and where."""
    made = []
    for key, method, grid in gain_grids(table):
        within = grid.where(fitting(table, key, method, grid)).stack()
        cells = within if len(within) else grid.stack()
        (low, few), (high, many) = cells.idxmin(), cells.idxmax()
        said = grid_of(table, key, method, "verdict")
        made.append({
            "least_speedup_verdict": said.at[low, few], "most_speedup_verdict": said.at[high, many],
            **key, "method": method, "least_speedup": cells.min(), "least_batch": few, "least_context": low,
            "most_speedup": cells.max(), "most_batch": many, "most_context": high,
        })  # fmt: skip
    return pd.DataFrame(made)


def gain_grids(table: pd.DataFrame) -> Iterator[tuple[dict, str, pd.DataFrame]]:
    """({TARGET, STEP}, method, `gains`) wherever a method was run at several batches and several contexts."""
    used = table[table["feasible"] & ~table["source"].isin(TIMED)] if len(table) else table
    for key, lines in by(used, [*TARGET, STEP]):
        if not key[STEP] and lines["generate"].nunique() > 1:
            continue
        dense = set(dense_of(lines)["method"])
        for method in dict.fromkeys(lines["method"]):
            grid = gains(lines, method)
            if method not in dense and min(grid.shape) > 1:
                yield key, method, grid


def grid_of(table: pd.DataFrame, key: dict, method: str, column: str) -> pd.DataFrame:
    """(contexts, batches): a column of what a grid of `gain_grids` is of."""
    own = table["method"] == method
    for name, value in key.items():
        own &= table[name] == value
    return _grid(table[own], column)


def fitting(table: pd.DataFrame, key: dict, method: str, grid: pd.DataFrame) -> pd.DataFrame:
    """Whether the configurations of a grid of `gain_grids` fit."""
    found = grid_of(table, key, method, "usable")
    return found.reindex(index=grid.index, columns=grid.columns).fillna(True).astype(bool)


def same_times(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(model, method, another before it) wherever both take the same time in all that they run."""
    found = []
    for key, lines in by(table[table["feasible"]] if len(table) else table, ["model"]):
        places_of = [*TARGET[1:], *SIZES, "batch"]
        times = lines.assign(time=lines["tokens_per_s"]).pivot_table(index=places_of, columns="method", values="time")
        names = [name for name in dict.fromkeys(lines["method"]) if name in times]
        for number, name in enumerate(names):
            twin = next((one for one in names[:number] if times[one].equals(times[name])), "")
            if twin:
                found.append((key["model"], name, twin))
    return found


def alike(values: pd.Series, within: float = 0.02) -> bool:
    """Whether all of them are nearly one number, so that a chart of them would show nothing."""
    return bool(values.empty or values.max() <= values.min() * (1 + within))


def by_target(table: pd.DataFrame) -> Iterator[tuple[dict, pd.DataFrame]]:
    yield from groups(table, TARGET)
