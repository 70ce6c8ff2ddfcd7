"""Bytes of masks in storage formats: one row = one layer in one format, or all of them."""

from workloads.columns.column import Column

FORMAT_COLUMNS = (
    Column("model", "text", "model id"),
    Column("layer", "text", "module path of the linear; 'all': every layer that the format can store"),
    Column("role", "text", "q k v o gate up down, fused or expert variants"),
    Column("out_features", "int", "rows of the weight matrix", heading="Outputs"),
    Column("in_features", "int", "columns of the weight matrix", heading="Inputs"),
    Column("unpruned_out_features", "int", "rows before some were taken out of the matrix"),
    Column("unpruned_in_features", "int", "columns before some were taken out of the matrix"),
    Column("nnz", "int", "kept weights", heading="Kept weights", printed="amount"),
    Column(
        "sparsity", "float", "share of zeros, and of what was taken out, 0..1", printed="share", short="sparsity (%)"
    ),
    Column("format", "text", "how the weights are stored"),
    Column(
        "block",
        "text",
        "outputs x inputs that are compressed on their own, with their own indices and pointers",
        heading="Compressed in",
    ),
    Column(
        "weight_bits", "int", "bits of a stored value; missing on the line 'all' where layers differ", printed="number"
    ),
    Column("stored_values", "int", "values stored, padding zeros and empty slots included"),
    Column("value_bytes", "int", "of values, whole bytes a layer"),
    Column("metadata_bytes", "int", "of bitmaps, indices, run lengths and pointers"),
    Column("scale_bytes", "int", "of scales and zero points, where weights are quantized"),
    Column("total_bytes", "int", "the sum of the three"),
    Column(
        "dense_bytes",
        "int",
        "of the unpruned matrix, stored dense at the same weight bits, scales and zero points included",
    ),
    Column("bits_per_weight", "float", "total bits / (out_features x in_features)"),
    Column("compression", "float", "dense_bytes / total_bytes; below 1 is larger", printed="ratio"),
    Column("feasible", "bool", "False: the format cannot store the mask"),
    Column("reason", "text", "why not"),
    Column("mask_sha256", "text", "hash of the mask", heading="Hash of the mask"),
    Column("tool_version", "text", "prunesim version"),
)

UNIFIED_COLUMNS = (
    Column("blocks", "int", "format unified: small blocks of the matrix"),
    Column("pruned_blocks", "float", "share of them that are zeros, 0..1", printed="share"),
    Column("unified_blocks", "float", "share whose weights have one magnitude, 0..1", printed="share"),
    Column("free_blocks", "float", "share of the others, 0..1", printed="share"),
)
