"""Trials of a search: one row = one design, tried."""

from workloads.columns.column import Column

FIGURES = (
    *("latency_us", "cycles", "energy_pj", "edp_pj_us", "area_mm2", "macs", "buffer_kib", "dram_bytes", "sparsity"),
    "perplexity",
)  # of a design
TRIAL_COLUMNS = (
    Column("trial", "int", "number of the trial, from 0, in the order in which designs were chosen"),
    Column("design", "int", "number of the design on the Pareto front, the first objective's least first; else empty"),
    Column("model", "text", "model id"),
    Column("target", "text", "the machine that designs start from"),
    Column("settings", "text", "what the design sets differently from it, as key=value", printed="settings",
           wraps=True),
    Column("method", "text", "what made the masks"),
    Column("pattern", "text", "'unstructured' or 'N:M'"),
    Column("target_sparsity", "float", "share of zeros asked for, 0..1; NaN where N:M fixes it", "Sparsity asked for",
           printed="share"),
    Column("latency_us", "float", "time of the pruned linears, all passes together", heading="Latency"),
    Column("cycles", "float", "cycles of the pruned linears, all passes together", printed="amount"),
    Column("energy_pj", "float", "energy of the pruned linears, all passes together", heading="Energy"),
    Column("edp_pj_us", "float", "energy-delay product: energy_pj x latency_us", heading="EDP"),
    Column("area_mm2", "float", "area of the machine's MACs and buffers; no control, network or PHY", heading="Area"),
    Column("macs", "float", "MAC units of the machine", heading="MAC units", printed="amount"),
    Column("buffer_kib", "float", "what all on-chip buffers hold", heading="Buffers (KiB)", printed="quantity"),
    Column("dram_bytes", "float", "everything that crosses the DRAM port, all passes together", heading="DRAM bytes"),
    Column("sparsity", "float", "zeros / weights over the pruned linears, 0..1", printed="share"),
    Column("perplexity", "float", "of the model on its text, with the masks", printed="perplexity"),
    Column("feasible", "bool", "False: the design cannot be or cannot run; `reason` says why"),
    Column("meets", "bool", "all constraints hold", heading="Meets the constraints"),
    Column("front", "bool", "no other trial that meets the constraints is at least as good in all objectives and "
           "better in one", heading="On the Pareto front"),
    Column("repeats", "int", "the earlier trial that is the same design; empty where none is", heading="Same as trial"),
    Column("reason", "text", "why not feasible; else ''", wraps=True),
    Column("mask_sha256", "text", "hash of the masks", heading="Hash of the masks"),
    Column("spec_sha256", "text", "hash of the machine's full description", heading="Hash of the target"),
    Column("seed", "int", "seed of the masks"),
    Column("tool_version", "text", "prunesim version"),
)  # fmt: skip
