"""Which columns each table of a report shows, in their order; columns without a value are left out of a table."""

import pandas as pd

from reports.tables.quality import CELL

OWN = ""  # the place of the columns that a target has of its own
# Of tables in one unit of time, named in µs (reports/words/units.py).
HEADLINE_COLUMNS = [
    # The speedup early: on a phone only the first columns are seen without scrolling.
    *("model", "target", "dtype", "tokens", "method", "pattern", "speedup", "latency_us", "dense_latency_us"),
    *("source", "latency_error_p90", "sparsity", "energy_ratio", "edp_ratio"),
    *("settings", "activation_density", "perplexity", "dense_perplexity", "seeds"),
    *(
        "compute_speedup",
        "published_speedup",
        "infeasible_layers",
        "no_baseline_layers",
        "extrapolated_layers",
        "layers",
        "dense_cycles",
        "cycles",
    ),
    *("bound_compute_share", "bound_imbalance_share", "bound_memory_share", "bound_buffer_share"),
    *("bound_tensor_share", "bound_dram_share", "bound_l2_share", "bound_launch_share", "bound_wave_tail_share"),
    *("slowest_role", "slowest_role_share", "level"),
]
# A page of paper is narrow: LaTeX gets one table per model, and what decides.
LATEX_HEADLINE_COLUMNS = [
    *("target", "settings", "source", "tokens", "activation_density", "method", "pattern", "sparsity"),
    *("dense_cycles", "cycles", "dense_latency_us", "latency_us", "latency_error_p90", "speedup"),
    *(
        "compute_speedup",
        "energy_ratio",
        "published_speedup",
        "perplexity",
        "seeds",
        "infeasible_layers",
        "no_baseline_layers",
        "extrapolated_layers",
    ),
]
ROLE_COLUMNS = [
    *("method", "pattern", "role", "sparsity", "mean_dense_cycles", "mean_cycles", "speedup", "compute_speedup"),
    *("energy_ratio", "edp_ratio", "mean_published_dense_cycles", "published_speedup", "time_share", "stall_share"),
    *("buffer_stall_share", "shapes", "layers", "seeds", "infeasible_layers", "no_baseline_layers"),
]
KERNEL_ROLE_COLUMNS = [  # where there are latencies and no cycles; of tables in one unit
    *("tokens", "method", "pattern", "role", "sparsity", "mean_dense_latency_us", "mean_latency_us", "speedup"),
    *(
        "latency_error_p90",
        "time_share",
        "kernel",
        "bound",
        "shapes",
        "layers",
        "seeds",
        "infeasible_layers",
        "no_baseline_layers",
        "extrapolated_layers",
    ),
]
KERNEL_LAYER_COLUMNS = [  # one line for all layers of a GPU that are alike
    *("tokens", "method", "pattern", "seed", "role", "layer", "layers_alike", "shapes", "sparsity", "speedup"),
    *("dense_latency_us", "latency_us", "latency_error_p90", "extrapolated", "kernel", "bound", "mapping", "reason"),
]
LAYER_COLUMNS = [
    *("method", "pattern", "seed", "block", "role", "layer", "shapes", "sparsity", "speedup", "compute_speedup"),
    *("energy_ratio", "published_speedup", "dense_cycles", "cycles", "ideal_cycles", "imbalance_cycles"),
    *("stall_cycles", "buffer_stall_cycles", OWN, "utilisation", "bound", "reason"),
]
LEVELS_COLUMNS = [
    *("model", "target_paper", "settings_paper", "target_cycle", "settings_cycle", "tokens", "activation_density"),
    *("method", "pattern", "role", "sparsity"),
    *("published_speedup", "paper_speedup", "cycle_compute_speedup", "cycle_speedup", "cycle_stall_share"),
    *("paper_dense_cycles", "paper_cycles", "cycle_dense_cycles", "cycle_cycles", "layers"),
]
INFEASIBLE_COLUMNS = [
    *("model", "target", "settings", "tokens", "activation_density", "method", "pattern"),
    *("infeasible_layers", "no_baseline_layers", "reason"),
]
# Of tables in one unit, named in the base unit (reports/words/units.py).
ENERGY_COLUMNS = [
    *("model", "target", "tokens", "method", "pattern", "energy_ratio", "energy_pj", "dense_energy_pj", "settings"),
    *("activation_density", "mac_pj", "idle_pj", "register_pj", "buffer_pj", "dram_pj", "latency_us", "edp_pj_us"),
    *("edp_ratio", "area_mm2", "infeasible_layers", "no_baseline_layers"),
]
DESIGN_COLUMNS = [
    *("design", "design_settings", "method", "pattern", "latency_us", "cycles", "speedup", "energy_pj", "energy_ratio"),
    *("edp_pj_us", "area_mm2", "front", "seeds", "infeasible_layers", "no_baseline_layers", "reason"),
]
CONSTANT_COLUMNS = ["constant", "value", "unit", "node_nm", "constant_source"]

COMPARED_SOURCES_COLUMNS = [
    *("where", "target", "dtype", "tokens", "shapes", "reference"),
    *("given@dense_us", "given@sparse24_us", "given@speedup"),
    *("predicted@dense_us", "predicted@sparse24_us", "predicted@speedup"),
    *("error (%)@dense_error", "error (%)@sparse24_error", "error (%)@speedup_error", "stated_p90"),
]
SPMM_COLUMNS = [
    *("model", "target", "tokens", "method", "pattern", "sparsity", "speedup", "published_low", "published_high"),
    "published_source",
]


def quality_columns(table: pd.DataFrame) -> list[str]:
    """Of a table of `quality_tables`."""
    return ["method", "weight_bits", *(name for name in table.columns if name.endswith(CELL)), "seed_range"]


def layer_columns(table: pd.DataFrame) -> list[str]:
    """LAYER_COLUMNS of a table of `layer_table`, with the targets' own where the table has them."""
    names, place = list(table.columns), LAYER_COLUMNS.index(OWN)
    own = names[names.index("buffer_stall_cycles") + 1 : names.index("utilisation")]
    return [*LAYER_COLUMNS[:place], *own, *LAYER_COLUMNS[place + 1 :]]
