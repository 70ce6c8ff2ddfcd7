"""The schema of attention result rows: one row = one layer's sparse attention on one target, or the sum of a model.

Numbers of a row marked [log] are filled at level "paper" only and follow the lines of ViTCoD's published log.
"Denser" and "sparser" are the two engines: the first takes whole key columns (global keys), the second single kept
positions.
"""

from workloads.columns.column import Column

TOTAL = "total"  # `layer` of the row that sums a model

ATTENTION_COLUMNS = (
    Column("masks", "text", "name of the mask file, without its ending"),
    Column("layer", "text", "layer number from 0, or 'total'"),
    Column("heads", "int", "attention heads of the layer"),
    Column("tokens", "int", "T: queries = keys; a head's mask is T x T"),
    Column("head_features", "int", "d: features of a query, key or value in one head"),
    Column("kept", "int", "kept positions over all heads"),
    Column("sparsity", "float", "share of pruned positions over all heads, 0..1"),
    Column("global_keys", "int", "key columns of the denser engine; paper: of head 0, cycle: summed over heads"),
    Column("target", "text", "accelerator the figures hold for"),
    Column("level", "text", "'paper' (the publication's formula, head 0 only) or 'cycle' (tiles, lanes, DRAM)"),
    Column("source", "text", "simulated"),
    Column("cycles", "int", "compute + stall cycles; paper, total row: max of the summed preload and compute cycles"),
    Column("compute_cycles", "int", "decoder + SDDMM + softmax + SpMM cycles"),
    Column("stall_cycles", "int", "cycles in which the array waits for memory; paper: preload beyond compute_cycles"),
    Column("sddmm_cycles", "int", "scores Q K^T on kept positions; the slower engine counts"),
    Column("spmm_cycles", "int", "outputs S V; the slower engine counts"),
    Column("decoder_cycles", "int", "Q and K recovered from what the encoder left of them"),
    Column("softmax_cycles", "int", "scores through the softmax unit; cycle level only"),
    Column("ideal_cycles", "float", "MACs of kept positions (SDDMM and SpMM) / all MAC units; cycle level only"),
    Column("imbalance_cycles", "float", "sddmm + spmm - ideal cycles: uneven lanes, rounding, computed zeros"),
    Column("transfer_cycles", "int", "the DRAM port is busy (overlaps with compute); paper: preload of all parts"),
    Column("dense_cycles", "int", "nothing pruned, same machine: all in the denser engine, no metadata"),
    Column("dense_compute_cycles", "int", "its compute cycles"),
    Column("speedup", "float", "dense_cycles / cycles; below 1 is a slowdown"),
    Column("compute_speedup", "float", "dense_compute_cycles / compute_cycles"),
    Column("paper_cycles", "int", "cycle level: what the published formula gives for the masks on its 64 x 64 PEs"),
    Column("paper_ratio", "float", "cycles / paper_cycles: how far the cycle level moves from the publication"),
    Column("dense_preload_cycles", "int", "[log] load of global keys and of Q for the denser engine"),
    Column("dense_decoder_cycles", "int", "[log] decoding of the same"),
    Column("sparse_preload_cycles", "int", "[log] load of the other keys (and of Q where there is no global key)"),
    Column("sparse_decoder_cycles", "int", "[log] decoding of the same"),
    Column("dense_sddmm_cycles", "int", "[log] SDDMM of the denser engine"),
    Column("sparse_sddmm_cycles", "int", "[log] SDDMM of the sparser engine"),
    Column("dense_value_cycles", "int", "[log] load of V at global keys"),
    Column("dense_spmm_cycles", "int", "[log] SpMM of the denser engine"),
    Column("sparse_value_cycles", "int", "[log] load of V at the other keys"),
    Column("sparse_spmm_cycles", "int", "[log] SpMM of the sparser engine"),
    Column("query_bytes", "int", "Q moved from DRAM, decoder weights included"),
    Column("key_bytes", "int", "K moved from DRAM"),
    Column("value_bytes", "int", "V moved from DRAM"),
    Column("metadata_bytes", "int", "mask metadata moved from DRAM"),
    Column("output_bytes", "int", "outputs moved to DRAM"),
    Column("dense_bytes", "int", "all bytes moved with nothing pruned"),
    Column("utilisation", "float", "MACs of kept positions / (cycles x MAC units), 0..1; cycle level only"),
    Column("mapping", "text", "loop order and tile sizes"),
    Column("clock_mhz", "float", "clock the cycles count"),
    Column("latency_us", "float", "cycles / clock"),
    Column("feasible", "bool", "False: the target cannot run it, `reason` says why and cycles are empty"),
    Column("reason", "text", "why not feasible, or why there are no dense figures, else ''"),
    Column("mask_sha256", "text", "hash of the layer's masks"),
    Column("spec_sha256", "text", "hash of the target's full description, overrides included"),
    Column("tool_version", "text", "prunesim version"),
)  # fmt: skip
