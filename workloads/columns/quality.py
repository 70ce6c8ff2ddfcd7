"""Perplexities: one row = one evaluation of one model, dense or pruned."""

from workloads.columns.column import Column

QUALITY_COLUMNS = (
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
        "weight_bits",
        "float",
        "mean stored bits of a pruned linear's weight values; NaN: the checkpoint's own type",
        printed="number",
    ),
    Column("perplexity", "float", "exp of the mean window NLL per token; lower is better", printed="perplexity"),
    Column(
        "kl_divergence",
        "float",
        "mean over predictions of sum p log(p / q), p the dense model's probabilities, q the pruned one's; 0: the same",
        heading="KL divergence from the dense model (nats)",
        printed="number",
    ),
    Column(
        "top1_agreement",
        "float",
        "share of predictions whose likeliest token is the dense model's",
        heading="Top-1 agreement with the dense model",
        printed="share",
    ),
    Column(
        "block_errors",
        "text",
        "relative squared error of what leaves every block, pruned against dense, in order, with spaces between",
        heading="Errors behind the blocks",
    ),
    Column("dtype", "text", "what the model computed in", heading="Computed in"),
    Column("windows", "int", "windows evaluated"),
    Column("seq_len", "int", "tokens a window", heading="Tokens a window"),
    Column("text", "text", "file name of the evaluation text", heading="Evaluation text"),
    Column("text_sha256", "text", "hash of the token ids evaluated", heading="Hash of the text"),
    Column("seed", "int", "seed of the masks"),
    Column("tool_version", "text", "prunesim version"),
)
