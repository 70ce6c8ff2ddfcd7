"""What a row of quality has besides where the model is no language model: its own number in the place of a
perplexity."""

from workloads.columns.column import Column

NETWORK_COLUMNS = (
    Column("metric", "text", "what the quality of a network is measured by, with its unit", heading="Measured by"),
    Column("value", "float", "in the metric's unit", heading="Quality", printed="number"),
    Column("better", "text", "'lower' or 'higher'", heading="Better is"),
    Column("samples", "int", "samples it is of"),
)
