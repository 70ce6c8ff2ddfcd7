"""Scores of lm_eval: one row = one task and metric of one model, dense or pruned."""

from workloads.columns.column import Column

HARNESS_COLUMNS = (
    Column("model", "text", "model id"),
    Column("method", "text", "pruning method, or 'dense': no masks applied to the weights as they are"),
    Column("pattern", "text", "'unstructured' or 'N:M'"),
    Column(
        "target_sparsity",
        "float",
        "share of zeros asked for, 0..1; NaN where nothing was asked for",
        heading="Sparsity asked for",
        printed="share",
    ),
    Column("sparsity", "float", "zeros / weights over the pruned linears, 0..1", printed="share", short="sparsity (%)"),
    Column(
        "weight_bits", "int", "bits of the bundle's weights; NaN: not quantized, or not all alike", printed="number"
    ),
    Column("seed", "int", "seed of the masks"),
    Column("task", "text", "lm_eval's name of the task, or of a group of tasks"),
    Column("task_version", "text", "version its task file states, else ''"),
    Column(
        "metric",
        "text",
        "lm_eval's name: acc, acc_norm, word_perplexity ...; 'metric,filter' where answers are filtered",
    ),
    Column("value", "float", "in the metric's unit: shares 0..1; perplexity per word or byte; bits per byte"),
    Column("stderr", "float", "standard error of the value; NaN where lm_eval has none", heading="Standard error"),
    Column("samples", "int", "documents scored"),
    Column("num_fewshot", "int", "solved examples in front of every question", heading="Solved examples"),
    Column("fewshot_seed", "int", "seed that draws them", heading="Seed of the examples"),
    Column("limit", "int", "only the first so many documents were asked for; NaN: all", heading="Documents at most"),
    Column(
        "seq_len",
        "int",
        "longest sequence the model was given, in tokens; longer ones lose their first tokens",
        heading="Longest sequence",
    ),
    Column("special_tokens", "text", "'off': the texts alone; 'tokenizer': with what the tokenizer adds (BOS)"),
    Column("dtype", "text", "what the model computed in", heading="Computed in"),
    Column("prompts_sha256", "text", "hash of every text scored; '' for groups", heading="Hash of the prompts"),
    Column("masks_sha256", "text", "hash of the mask bundle, else ''", heading="Hash of the masks"),
    Column("harness_version", "text", "lm_eval and its version"),
    Column("tool_version", "text", "prunesim version"),
)
