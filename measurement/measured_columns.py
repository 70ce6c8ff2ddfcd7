"""What rows of measured layers say beside the columns of all rows, and what a reader must know of their times."""

from workloads.columns.column import Column

NOTES = (
    "Measured: the multiplication with operands that are ready; padding of tokens, quantizing of inputs and scaling of "
    "integer results are not in the time. Speedups of quantized kernels are over the dense kernel of 16 bits; "
    "predicted ones over the dense kernel of their own type.",
)
CPU_NOTES = (
    "Measured on a CPU: the least time of all rounds, all kernels of a layer taking turns in one process; masks are "
    "drawn, with the share of kept weights that the layer has, to a hundredth. Speedups of every kernel are over the "
    "dense kernel of `dtype`.",
)
CPU_COLUMNS = (
    Column("spread", "float", "median over least time of the rounds", printed="ratio"),
    Column(
        "bytes_break_even", "float", "share kept at which the kernel reads as many bytes of weights as the dense one",
        heading="Break-even density by bytes", printed="share",
    ),
    Column(
        "measured_break_even", "text", "share kept below which the kernel was the faster one, among those measured",
        heading="Break-even density measured",
    ),
)  # fmt: skip
MEASURED_COLUMNS = (
    "layer", "role", "out_features", "in_features", "tokens", "kernel", "latency_us", "dense_latency_us", "speedup",
    "feasible",
    "reason", "pattern", "sparsity", "spread", "bytes_break_even", "measured_break_even",
)  # fmt: skip
