"""What the kernels of a decoder's operations are called, and their sizes, where single operators are timed: in files of
operators (studies/operator_files.py) and in published tables of them."""

from simulator.inference.kernels import ROW_KERNELS, Values
from workloads.counts import Elements
from workloads.operations import DecoderOperation
from workloads.operations.causal import CausalAttention
from workloads.operations.ends import AllReduce, Embedding
from workloads.operations.gemm import Gemm
from workloads.phases import Phase


def sizes_of(operation: DecoderOperation, phase: Phase, elements: Elements) -> tuple[str, dict[str, int]] | None:
    """(kind, sizes) of an operation of 16-bit weights; None of one that no single measured kernel is: fused additions,
    experts, whose time depends on where the tokens go, and what is made of other kernels' times."""
    if isinstance(operation, Gemm):
        return "linear", {"m": operation.tokens(phase), "n": operation.out_features, "k": operation.in_features}
    if isinstance(operation, CausalAttention):
        if not operation.is_fused or operation.head_size != operation.value_size:
            return None
        return "attention", {
            "batch": phase.batch, "q_tokens": phase.new, "kv_tokens": phase.context, "heads": operation.heads,
            "kv_heads": operation.kv_heads, "head_dim": operation.head_size, "window": operation.window or 0,
        }  # fmt: skip
    if isinstance(operation, AllReduce):
        sent = round(operation.counts(phase, elements).bytes_link)
        return "all_reduce", {"gpus": operation.ranks, "message_bytes": sent}
    if isinstance(operation, Embedding):
        return "embedding", {"rows": phase.tokens, "cols": operation.width}
    if (row_kernel := ROW_KERNELS.get(type(operation))) is None:
        return None
    values: Values = row_kernel(operation, [phase])
    return None if values.assumed else (values.kind, {"rows": int(values.rows[0]), "cols": values.cols})
