"""Whole models on a GPU or an accelerator: one row = one configuration, or one operation of it."""

from workloads.columns.column import Column

ERROR = "nine of ten true times are taken to lie between time / (1 + e) and time x (1 + e)"
CONFIGURATION = [
    Column("model", "text", "model id"),
    Column("method", "text", "what made the masks; '' of a model without a bundle; of a measured one its variant"),
    Column("target", "text", "the GPU or accelerator"),
    Column("settings", "text", "keys of it that were set"),
    Column(
        "dtype",
        "text",
        "type of the blocks' weights and products; w8a8: bits of weights and activations of an accelerator",
    ),
    Column("kv_bits", "int", "bits of keys and values in the cache", printed="number"),
    Column("tensor_parallel", "int", "GPUs or chips that share every layer", heading="Chips"),
    Column("host", "text", "what stands between kernels: graph, eager ..., or milliseconds a step"),
    Column("batch", "int", "sequences that run together"),
    Column("prompt", "int", "tokens of each prompt"),
    Column("generate", "int", "tokens made for each; the first comes from the prefill"),
]
INFERENCE_COLUMNS = (
    *CONFIGURATION,
    Column("prefill_ms", "float", "time to the first token"),
    Column("decode_ms_per_token", "float", "mean of the decode steps; missing where one token is made"),
    Column("tokens_per_s", "float", "generated tokens of all sequences / whole time"),
    Column("weight_gib", "float", "of one GPU or chip, as all following: everything stored"),
    Column("kv_gib", "float", "KV cache at the end"),
    Column("activation_gib", "float", "upper bound of what a prefill holds"),
    Column("memory_gib", "float", "of these and the reserve"),
    Column("fits", "maybe", "whether that is no more than its memory; missing where that is not stated"),
    Column("largest_batch", "int", "sequences of prompt and generate tokens that fit together"),
    Column("largest_context", "int", "tokens that each of `batch` sequences can have in the cache (prompt + generate - "
           "1 are needed), prompts prefilled at once; missing too where no number is too many"),
    Column("linears_share", "float", "of the whole time: matrices of blocks", printed="share"),
    Column("attention_share", "float", "attention, writing keys and values", printed="share"),
    Column("head_share", "float", "of the head", printed="share"),
    Column("elementwise_share", "float", "norms, additions, rotary embedding, activations", printed="share"),
    Column("experts_share", "float", "routers and experts", printed="share"),
    Column("communication_share", "float", "between GPUs or chips", printed="share"),
    Column("host_share", "float", "what the host adds", printed="share"),
    Column("bound", "text", "what most of the time goes to: memory, compute, walk (thread blocks one by one), fixed "
           "(launching), imbalance and buffer (of an array), vector (its vector unit), communication, host"),
    Column("latency_error_p90", "float", f"e: {ERROR}; missing of cycle models, which have none", printed="error"),
    Column("speedup", "float", "time of the unpruned model on the same machines / time; on GPUs in fp16, on "
           "accelerators at the bits of a bundle, else at their own", printed="speedup"),
    Column("speedup_error_p90", "float", "the same of the speedup, of the operations that differ", printed="error"),
    Column("verdict", "text", "faster | slower, where the whole band is; else not distinguishable"),
    Column("extrapolated", "text", "what of the operations lies outside the data, those that take longest first",
           wraps=True),
    Column("feasible", "bool", "False: something of it has no kernel, or cannot be divided"),
    Column("reason", "text", "why not, why it is not known whether it fits, or which masks gain nothing for want of a "
           "kernel", wraps=True),
    Column("source", "text", "predicted (GPUs) | simulated (accelerators) | measured | published"),
    Column("spec_sha256", "text", "hash of the machine's full description"),
    Column("tool_version", "text", "prunesim version"),
)  # fmt: skip
OPERATION_COLUMNS = (
    *CONFIGURATION,
    Column("phase", "text", "prefill or decode, all of its steps"),
    Column("operation", "text", "the first of those that do the same; host: what it adds"),
    Column("role", "text", "what it does: qkv, attention, head ..."),
    Column("executions", "int", "in all blocks and steps"),
    Column("latency_us", "float", "of all of these"),
    Column("share", "float", "of the configuration's time", printed="share"),
    Column("bound", "text", "what limits the kernel"),
    Column("latency_error_p90", "float", f"e: {ERROR}", printed="error"),
    Column("kernel", "text", "whose time it is"),
    Column("assumed", "text", "what of it no data show", wraps=True),
    Column("extrapolated", "text", "what lies outside the data", wraps=True),
    Column("flop", "float", "of all executions on one GPU or chip, as all following"),
    Column("weight_bytes", "float", "weights read"),
    Column("activation_bytes", "float", "activations read and written"),
    Column("kv_bytes", "float", "keys and values read and written"),
    Column("link_bytes", "float", "summed between GPUs or chips"),
    Column("source", "text", "predicted | simulated"),
    Column("tool_version", "text", "prunesim version"),
)
