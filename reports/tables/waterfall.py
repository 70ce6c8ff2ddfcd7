"""What lies between the ideal speedup, 1 / density, and the real one.

Of the counted layers of one run, in cycles: D dense, C masked, d the density of each layer. Ideal time is the sum of
d x D. Each loss is the cycles that come on top of it:

* imbalance: compute - d x dense compute
* metadata: the DRAM stalls x metadata bytes / all bytes that the layer moves
* waiting for buffers: the buffer stalls
* waiting for DRAM: all other stalls - d x dense stalls: values, inputs and outputs, the latter two of which no mask
  makes fewer

Their sum with the ideal time is C exactly. A loss below 0 is a gain: the unpruned layer wastes more of it than its
density. Stalls are shared out to metadata by bytes because transfers of one layer overlap; another order of the losses
would give the same cycles and other speedups in between."""

import numpy as np
import pandas as pd

from reports.tables.parts import with_parts
from reports.tables.sums import KERNEL, KEYS, counted, groups
from reports.words.naming import run_text
from workloads.rows import beside

IDEAL, REAL = "ideal, 1 / density", "real"
LOSSES = {
    "imbalance": "imbalance",
    "metadata": "mask metadata",
    "buffers": "waiting for buffers",
    "dram": "waiting for DRAM",
}
_MOVED = ("weight_bytes", "metadata_bytes", "scale_bytes", "activation_bytes", "output_bytes")
_LEAST = 5e-4  # of the dense time: a smaller loss is none


def waterfall_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per KEYS and step of checked rows that have cycles: `step`, `begin` and `end` (speedup before and after
    it), `lost_share` (its cycles / dense cycles, 0 of the first and last step). Runs without zeros have none."""
    used = counted(rows[rows["level"] != KERNEL])
    used = used[used["dense_cycles"].notna() & used["cycles"].notna() & ~beside(used)]
    lines: list[dict] = []
    for key, part in groups(with_parts(used), KEYS) if len(used) else []:
        dense, ideal, losses = _losses(part)
        if not 0 < ideal < (1 - _LEAST) * dense:
            continue
        shared = {**key, "run": run_text(key)}
        lines.append({**shared, "step": IDEAL, "begin": 0.0, "end": dense / ideal, "lost_share": 0.0})
        so_far = ideal
        for name, cycles in losses.items():
            if abs(cycles) > _LEAST * dense:
                steps = {"begin": dense / so_far, "end": dense / (so_far + cycles), "lost_share": cycles / dense}
                lines.append({**shared, "step": LOSSES[name], **steps})
            so_far += cycles
        lines.append({**shared, "step": REAL, "begin": 0.0, "end": dense / so_far, "lost_share": 0.0})
    return pd.DataFrame(lines, columns=[*KEYS, "run", "step", "begin", "end", "lost_share"])


def _losses(part: pd.DataFrame) -> tuple[float, float, dict[str, float]]:
    """(dense cycles, ideal cycles, cycles lost to each of LOSSES) of the layers of a run, its seeds added up."""
    own = {name: part[name].to_numpy(np.float64) for name in ("density", "dense_cycles", "dense_compute_cycles")}
    own |= {name: part[name].to_numpy(np.float64) for name in ("compute_cycles", "stall_cycles", "memory_stall_cycles")}
    moved = {name: part[name].fillna(0).to_numpy(np.float64) for name in _MOVED}
    everything = sum(moved.values())
    share = np.divide(moved["metadata_bytes"], everything, out=np.zeros(len(part)), where=everything > 0)
    metadata = own["memory_stall_cycles"] * share
    dense_stall = own["dense_cycles"] - own["dense_compute_cycles"]
    losses = {
        "imbalance": own["compute_cycles"] - own["density"] * own["dense_compute_cycles"],
        "metadata": metadata,
        "buffers": own["stall_cycles"] - own["memory_stall_cycles"],
        "dram": own["memory_stall_cycles"] - metadata - own["density"] * dense_stall,
    }
    ideal = float((own["density"] * own["dense_cycles"]).sum())
    return float(own["dense_cycles"].sum()), ideal, {name: float(cycles.sum()) for name, cycles in losses.items()}


def biggest_loss(steps: pd.DataFrame) -> tuple[str, float]:
    """(name, share of the dense time) of the largest loss among the steps of one run; ("", 0.0) of none."""
    lost = steps[steps["lost_share"] > 0]
    return ("", 0.0) if lost.empty else tuple(lost.loc[lost["lost_share"].idxmax(), ["step", "lost_share"]])  # type: ignore
