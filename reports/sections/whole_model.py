"""The whole model: the speedup of each configuration and what it is made of; what could not be counted, and
why."""

import pandas as pd

from reports.contents import Contents
from reports.section import PAGE, PAPER, TERMINAL, TEXT, Block, Form, Section, Table, Text
from reports.tables.layers import infeasible_table
from reports.tables.sums import by, counted, known, no_baseline
from reports.words.present import filled
from reports.words.settings import beside_type
from reports.words.units import with_time_unit

_CAPTION = "Sum of dense times / sum of times over all counted layers, each target against its own dense run"
COLUMNS = [
    # The speedup early: on a phone only the first columns are seen without scrolling.
    *("model", "target", "dtype", "tokens", "method", "pattern", "speedup", "latency_us", "dense_latency_us"),
    *("source", "latency_error_p90", "sparsity", "energy_ratio", "edp_ratio"),
    *("settings", "activation_density", "perplexity", "dense_perplexity", "seeds"),
    *("compute_speedup", "published_speedup", "infeasible_layers", "no_baseline_layers", "extrapolated_layers"),
    *("layers", "dense_cycles", "cycles"),
    *("bound_compute_share", "bound_imbalance_share", "bound_memory_share", "bound_buffer_share"),
    *("bound_tensor_share", "bound_dram_share", "bound_l2_share", "bound_launch_share", "bound_wave_tail_share"),
    *("slowest_role", "slowest_role_share", "level"),
]
MAIN = [
    *("model", "target", "dtype", "tokens", "method", "pattern", "speedup", "latency_us", "dense_latency_us", "source"),
    *("latency_error_p90", "energy_ratio", "perplexity", "settings", "infeasible_layers", "no_baseline_layers"),
]
# A page of paper is narrow: one table per model, and what decides.
PAPER_COLUMNS = [
    *("target", "settings", "source", "tokens", "activation_density", "method", "pattern", "sparsity"),
    *("dense_cycles", "cycles", "dense_latency_us", "latency_us", "latency_error_p90", "speedup"),
    *("compute_speedup", "energy_ratio", "published_speedup", "perplexity", "seeds"),
    *("infeasible_layers", "no_baseline_layers", "extrapolated_layers"),
]
TERMINAL_COLUMNS = [
    *("model", "target", "settings", "tokens", "activation_density", "method", "pattern", "sparsity", "speedup"),
    *("latency_us", "compute_speedup", "energy_ratio", "published_speedup", "perplexity", "seeds"),
    *("infeasible_layers", "no_baseline_layers"),
]
LEFT_OUT_COLUMNS = [
    *("model", "target", "settings", "tokens", "activation_density", "method", "pattern"),
    *("infeasible_layers", "no_baseline_layers", "reason"),
]


def whole_model(contents: Contents) -> Section | None:
    lines = contents.headline
    if lines.empty:
        return None
    papers = map(_of_one_model, by(lines, ["model"]))
    blocks = [typed_table(lines), *papers, narrow(lines), *_left_out(contents, PAGE)]
    return Section("Whole model", blocks, files={"whole-model.csv": lines})


def what_cannot_run(contents: Contents) -> Section | None:
    """What running text shows only behind the sections that all readers want; a page shows it folded below the whole
    model."""
    blocks = [] if contents.plain.empty else _left_out(contents, TEXT)
    return Section("What cannot run", blocks) if blocks else None


def typed_table(lines: pd.DataFrame) -> Table:
    """Of what `headline_table` gives; a GPU's type has a column and is not told again in its settings."""
    return Table(
        lines.assign(settings=lines["settings"].map(beside_type)),
        COLUMNS,
        caption=_CAPTION,
        shared=("model", "method", "pattern"),
        units=with_time_unit,
        file="whole-model.csv",
        fold=False,
        main=MAIN,
    )


def _of_one_model(group: tuple[dict, pd.DataFrame]) -> Table:
    key, lines = group
    caption = (
        f"{key['model']}: whole model. Speedup is the sum of dense times over the sum of times on the same target."
    )
    return Table(lines, PAPER_COLUMNS, label="headline-", paper_caption=caption, units=with_time_unit, only=PAPER)


def narrow(lines: pd.DataFrame) -> Table:
    """What is the same in every line (one model, one dense perplexity) stands in the title."""
    shared = {
        name: lines[name].iloc[0] for name in ("model", "dense_perplexity") if lines[name].nunique(dropna=False) == 1
    }
    columns = [column for column in TERMINAL_COLUMNS if column not in shared]
    title = [str(shared.get("model", "whole models")), "speedup = dense time / time of the same target"]
    title += ["energy ratio = dense energy / energy"] if filled(lines, ["energy_ratio"]) else []
    if pd.notna(shared.get("dense_perplexity")):
        title.append(f"dense perplexity {shared['dense_perplexity']:.2f}")
    return Table(lines, columns, caption=", ".join(title), units=with_time_unit, only=TERMINAL)


def _left_out(contents: Contents, only: frozenset[Form]) -> list[Block]:
    table = infeasible_table(contents.plain)
    if table.empty:
        return []
    caption = "Layers left out or without a baseline, and why"
    return [
        Text(coverage(contents.plain), only=only),
        Table(table, LEFT_OUT_COLUMNS, caption=caption, shared=("model",), only=only),
    ]


def coverage(rows: pd.DataFrame) -> str:
    """How many rows the sums leave out; empty when none."""
    barred, others = int((~known(rows)).sum()), int(known(rows).sum()) - len(counted(rows))
    bare = int(no_baseline(rows).sum())
    without = (
        f"{bare:,} of {len(rows):,} result rows have no dense baseline, as it does not fit: sums with them have no "
        "speedup."
    )
    if not barred:
        return without if bare else ""
    also = f" {others:,} rows of the same layers with other seeds are left out with them." if others else ""
    text = f"{barred:,} of {len(rows):,} result rows cannot run on their target and are in no sum.{also}"
    return f"{text} {without}" if bare else text
