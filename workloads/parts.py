"""The rows of a layer that runs as the product of two factors (workloads/factors.py): what its parts cost, added up.

Targets see ordinary linears. The blocks of a factor run one after the other, and what the first factor gives is written
and read again as any layer's outputs and inputs are. A shuffle costs nothing of its own: it is where those outputs are
written."""

from collections.abc import Sequence
from dataclasses import replace

from workloads.bundle import BundleHeader
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.facts import linear_facts
from workloads.operations import Linear
from workloads.targets import Gathered, Row, Target

BYTES = ("weight_bytes", "metadata_bytes", "scale_bytes", "activation_bytes", "output_bytes")
COSTS = (
    "cycles", "compute_cycles", "ideal_cycles", "imbalance_cycles", "stall_cycles", "buffer_stall_cycles",
    "transfer_cycles", *BYTES, "latency_us", "energy_pj", "mac_pj", "idle_pj", "register_pj", "buffer_pj", "dram_pj",
)  # fmt: skip
RATIOS = {
    "speedup": ("dense_latency_us", "latency_us"),
    "compute_speedup": ("dense_compute_cycles", "compute_cycles"),
    "energy_ratio": ("dense_energy_pj", "energy_pj"),
}
OF_THE_LONGEST = ("bound", "kernel", "extrapolated")
ERROR, INPUTS = "latency_error_p90", "activation_density"


def rows_of_parts(
    target: Target, header: BundleHeader, layer: Linear, conditions: Conditions, gathered: Gathered
) -> list[Row]:
    """As many as the target gives of one linear, without anything of an unpruned layer. Raises UserError where it gives
    other rows of one factor than of the other."""
    found: list[Sequence[Row]] = []
    for _, part in layer.parts:
        found.append(target.rows(header, part, conditions, gathered))
        conditions = replace(conditions, activation_density=1.0, halo_reuse=False)  # what a factor gives is dense
    first, second = ([row["settings"] for row in rows] for rows in found)
    if first != second:
        raise UserError(f"{target.name} has other figures of one factor than of the other; measure both alike")
    facts = linear_facts(header, layer)
    return [{**_together(rows, layer), **facts} for rows in zip(*found, strict=True)]


def _together(rows: Sequence[Row], layer: Linear) -> Row:
    """Of one row of each factor. Figures that are neither costs nor the same in both say nothing of the layer, beside
    what comes into the first."""
    shared = {
        name: value
        for name, value in rows[0].items()
        if name == INPUTS or (rows[1].get(name, "") == value and name not in RATIOS and not name.startswith("dense_"))
    }
    for row, (_, part) in zip(rows, layer.parts, strict=True):
        if not row["feasible"]:
            why = f"its factor of {part.out_features} x {part.in_features}: {row['reason']}"
            return {**shared, "feasible": False, "reason": why}
    runs = list(zip(rows, layer.parts, strict=True))
    costs = {
        name: sum(count * row[name] for row, (count, _) in runs)
        for name in COSTS
        if all(row.get(name) is not None for row in rows)
    }
    longest = max(runs, key=lambda run: run[1][0] * (run[0]["latency_us"] or 0.0))[0]
    made = {**shared, **{name: longest[name] for name in OF_THE_LONGEST if name in longest}, **costs}
    if "cycles" in costs and "ideal_cycles" in costs:
        made["utilisation"] = costs["ideal_cycles"] / costs["cycles"] if costs["cycles"] else None
    if "energy_pj" in costs:
        made["edp_pj_us"] = costs["energy_pj"] * costs["latency_us"]
    if errors := [row[ERROR] for row in rows if row.get(ERROR) is not None]:
        made[ERROR] = max(errors)
    made["mapping"] = "; ".join(
        f"{count} x {part.out_features} x {part.in_features}: {row.get('mapping', '')}" for row, (count, part) in runs
    )
    return made
