"""Result rows: one row = one (model, method, layer, tokens, target) fact."""

from workloads.columns.column import Column

LAYER_COLUMNS = (
    Column("model", "text", "model id"),
    Column("method", "text", "what made the mask: a pruning method, a generator, an import, or 'dense'"),
    Column(
        "pattern",
        "text",
        "'unstructured', 'N:M' (at most N kept in each run of M inputs), 'smaller' (rows and columns taken out) or "
        "'factored' (products of smaller matrices)",
    ),
    Column(
        "target_sparsity",
        "float",
        "share of zeros asked for, 0..1; NaN where nothing was asked for",
        heading="Sparsity asked for",
        printed="share",
    ),
    Column("layer", "text", "module path of the linear"),
    Column("block", "int", "decoder block number, from 0; -1 outside blocks"),
    Column("role", "text", "q k v o gate up down, fused or expert variants; attention"),
    Column("out_features", "int", "rows of the weight matrix; of attention: heads x queries", heading="Outputs"),
    Column("in_features", "int", "columns of the weight matrix; of attention: keys", heading="Inputs"),
    Column(
        "unpruned_out_features",
        "int",
        "rows before some were taken out of the matrix; empty where none were",
        heading="Outputs unpruned",
    ),
    Column(
        "unpruned_in_features",
        "int",
        "columns before some were taken out of the matrix; empty where none were",
        heading="Inputs unpruned",
    ),
    Column("nnz", "int", "kept weights; of attention: kept positions", heading="Kept weights", printed="amount"),
    Column(
        "sparsity", "float", "share of zeros, and of what was taken out, 0..1", printed="share", short="sparsity (%)"
    ),
    Column(
        "layer_pattern",
        "text",
        "what the layer's own mask follows where that is not `pattern`: 'unstructured', 'N:M', 'dense' (left alone: it "
        "runs as the unpruned layer does), 'smaller' (dense, with fewer rows or columns), 'factored' (a product of "
        "smaller dense ones) or 'gone' (its block or sub-layer was taken out); else ''",
        heading="Its own pattern",
    ),
    Column("target", "text", "accelerator or GPU the figures hold for"),
    Column(
        "settings",
        "text",
        "what was set differently from the target's preset, as key=value; '' if nothing",
        printed="settings",
        wraps=True,
    ),
    Column(
        "level",
        "text",
        "'paper' (a publication's own formula), 'cycle' (tiles, lanes, buffers, DRAM) or 'kernel' (a GPU library's "
        "GEMM)",
    ),
    Column("kernel", "text", "level kernel: the library kernel that ran, or is predicted to be the fastest; else ''"),
    Column("source", "text", "simulated | predicted | measured | published"),
    Column("tokens", "int", "GEMM m: tokens that pass through the layer together; of a network samples"),
    Column(
        "layer_tokens",
        "float",
        "tokens that the layer has each time it runs: `tokens`, an expert's share of them, or positions and steps of "
        "samples",
        heading="Tokens of the layer",
    ),
    Column(
        "executions",
        "float",
        "how often a step runs it, on average: 1, the probability that an expert gets a token, or the steps that a "
        "recurrent layer takes; in cycles, bytes, times, energies",
        heading="Runs a step",
    ),
    Column("routing", "text", "experts: what is assumed of the router, and how many of them see a token; else ''"),
    Column(
        "activation_density",
        "float",
        "share of nonzero inputs, 0..1; 1: dense, as LLM activations are",
        heading="Nonzero activations",
        printed="share",
        nothing=1,
        narrow="Inputs (%)",
    ),
    Column("weight_bits", "int", "bits a stored weight value takes on the target", printed="number"),
    Column("cycles", "int", "total cycles of the layer = compute_cycles + stall_cycles"),
    Column("compute_cycles", "int", "cycles in which the array works = ideal_cycles + imbalance_cycles"),
    Column("ideal_cycles", "float", "kept MACs / all MAC units: perfect balance, nothing waits"),
    Column(
        "imbalance_cycles", "float", "compute cycles lost to uneven lanes, rounding to whole lanes and zeros computed"
    ),
    Column("stall_cycles", "int", "cycles in which the array waits for DRAM or for its buffers"),
    Column(
        "buffer_stall_cycles",
        "int",
        "the part of them that on-chip buffers of limited width cause",
        heading="Of them buffer stalls",
        nothing=0,
    ),
    Column("transfer_cycles", "int", "cycles the DRAM channel is busy (overlaps with compute)"),
    Column("dense_cycles", "int", "cycles of the unpruned layer on the same target, same tokens"),
    Column("dense_compute_cycles", "int", "compute cycles of the unpruned layer"),
    Column("published_dense_cycles", "int", "what the publication's program prints for the unpruned layer"),
    Column(
        "speedup",
        "float",
        "dense time / time on the same target, same tokens: cycles, or latencies where it has none; below 1 is a "
        "slowdown",
        printed="speedup",
        short="speedup",
    ),
    Column(
        "compute_speedup",
        "float",
        "dense_compute_cycles / compute_cycles: what unlimited bandwidth would give",
        heading="Compute-only speedup",
        printed="speedup",
        narrow="Compute only",
    ),
    Column(
        "published_speedup",
        "float",
        "published_dense_cycles / cycles: what the publication's program would claim",
        heading="Against published baseline",
        printed="ratio",
        short="vs published",
        narrow="vs published",
    ),
    Column("weight_bytes", "int", "kept weight values moved from DRAM"),
    Column("metadata_bytes", "int", "mask metadata moved from DRAM"),
    Column("scale_bytes", "int", "scales and zero points of quantized weights moved from DRAM"),
    Column("activation_bytes", "int", "inputs moved from DRAM"),
    Column("output_bytes", "int", "outputs moved to DRAM"),
    Column("dense_bytes", "int", "all bytes the unpruned layer moves"),
    Column("utilisation", "float", "ideal_cycles / cycles, 0..1: useful MACs / (cycles x MAC units)", printed="share"),
    Column("bound", "text", "largest part of the cycles: compute | imbalance | memory | buffer", heading="Bound by"),
    Column(
        "mapping",
        "text",
        "how the target was set up for the layer: tile sizes, division of its lanes; of a product, for each factor",
        heading="How it runs",
    ),
    Column("clock_mhz", "float", "clock the cycles count"),
    Column("latency_us", "float", "time of the layer: cycles / clock, or a kernel's measured or predicted time"),
    Column("dense_latency_us", "float", "time of the unpruned layer on the same target, same tokens"),
    Column(
        "latency_error_p90",
        "float",
        "predicted rows: nine of ten predicted times are off by at most this share, outside the fit",
        heading="Error of a layer's time, 90 % within",
        printed="share",
    ),
    Column(
        "speedup_error_p90",
        "float",
        "predicted rows: nine of ten predicted speedups are off by at most this share; NaN where nothing runs sparse",
        heading="Error of a layer's speedup, 90 % within",
        printed="share",
    ),
    Column(
        "verdict",
        "text",
        "predicted rows: faster | slower, where the whole band of the speedup's error is; else not distinguishable; "
        "same kernel where the dense kernel runs",
        heading="Against dense",
    ),
    Column("extrapolated", "text", "predicted rows: what lies outside the data the prediction rests on, else ''"),
    Column(
        "energy_pj",
        "float",
        "energy of the layer: the sum of the five parts that follow; no leakage, control or network",
    ),
    Column("mac_pj", "float", "multiply-accumulates of kept weights", heading="MACs"),
    Column(
        "idle_pj",
        "float",
        "MAC slots without a kept weight: zeros multiplied, idle lanes, filling and draining",
        heading="Idle MAC slots",
    ),
    Column("register_pj", "float", "operand registers", heading="Registers"),
    Column("buffer_pj", "float", "on-chip buffers, reads and writes", heading="Buffers"),
    Column("dram_pj", "float", "DRAM", heading="DRAM"),
    Column("dense_energy_pj", "float", "energy of the unpruned layer on the same target, same tokens"),
    Column(
        "energy_ratio",
        "float",
        "dense_energy_pj / energy_pj; below 1: the masked layer takes more",
        printed="energy_ratio",
    ),
    Column("edp_pj_us", "float", "energy-delay product: energy_pj x latency_us", heading="EDP"),
    Column("dense_edp_pj_us", "float", "energy-delay product of the unpruned layer", heading="Dense EDP"),
    Column("area_mm2", "float", "area of the target's MACs and buffers; no control, network or PHY"),
    Column("feasible", "bool", "False: the target cannot run it, `reason` says why and cycles are empty"),
    Column(
        "reason",
        "text",
        "why not feasible, why there is no dense baseline, or why a GPU runs a 2:4 mask dense; else ''",
    ),
    Column("mask_sha256", "text", "hash of the mask", heading="Hash of the mask"),
    Column(
        "spec_sha256", "text", "hash of the target's full description, overrides included", heading="Hash of the target"
    ),
    Column("seed", "int", "seed of the masks"),
    Column("tool_version", "text", "prunesim version"),
)
