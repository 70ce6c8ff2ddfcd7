"""Speedup of every block and role of a run."""

import numpy as np
import pandas as pd

from reports.tables.sums import CONFIG, MASKS, counted, numbered, ratios, totals
from reports.words.naming import run_text
from workloads.layers import role_rank
from workloads.rows import kept_weights, unpruned_weights


def block_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per run, block (-1 outside blocks) and role of checked rows of one CONFIG: `speedup` (sum of dense
    cycles / sum of cycles of its layers and seeds) and `sparsity`."""
    used = counted(rows)
    used = used.assign(block=used["block"].fillna(-1))
    group, table = numbered(used, [*CONFIG, *MASKS, "block", "role"])
    dense, own, kept, weights = (
        totals(values, group, len(table))
        for values in (used["dense_cycles"], used["cycles"], kept_weights(used), unpruned_weights(used))
    )
    of_run, runs = numbered(table, MASKS)
    names = np.array([run_text(line) for line in runs.to_dict("records")], dtype=object)  # type: ignore[arg-type]
    table = table.assign(speedup=ratios(dense, own), sparsity=1 - ratios(kept, weights), run=names[of_run])
    table = table[np.isfinite(table["speedup"]) & (table["speedup"] > 0)]
    return table.assign(_rank=table["role"].map(role_rank)).sort_values("_rank", kind="stable").drop(columns="_rank")
