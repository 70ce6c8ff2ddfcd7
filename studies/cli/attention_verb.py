"""prunesim attention"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from studies.cli.output import check_format, emit

SHOWN = {
    "paper": (
        "layer", "global_keys", "dense_preload_cycles", "dense_decoder_cycles", "sparse_preload_cycles", "sparse_decoder_cycles",
        "dense_sddmm_cycles", "sparse_sddmm_cycles", "dense_value_cycles", "dense_spmm_cycles", "sparse_value_cycles",
        "sparse_spmm_cycles", "cycles", "dense_cycles", "speedup",
    ),
    "cycle": (
        "layer", "global_keys", "sparsity", "cycles", "sddmm_cycles", "spmm_cycles", "decoder_cycles", "softmax_cycles",
        "stall_cycles", "ideal_cycles", "dense_cycles", "speedup", "paper_cycles", "paper_ratio",
    ),
}  # fmt: skip


def attention(
    masks: Path,
    /,
    *,
    on: str,
    pruned_is_one: Annotated[bool, Parameter(negative="")] = False,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    format: str = "table",
    out: Path | None = None,
) -> None:
    """Cycles of sparse attention, SDDMM and SpMM, from the attention masks in MASKS.npy.

    Parameters
    ----------
    masks
        An .npy array (layers, heads, T, T) or (heads, T, T), rows queries and columns keys, boolean or 0/1, 1 = kept.
    on
        vitcod-attention-paper (the published simulator's formula) or vitcod-attention (our cycle model).
    pruned_is_one
        The masks have 1 (True) where a position is pruned, as ViTCoD's own files do.
    set_
        key=value of the accelerator, e.g. array.height=64.
    format
        json, csv or table; the table shows some of the columns in workloads/attention_rows.py.
    out
        Write to this file instead of stdout.
    """
    check_format(format)
    from simulator.accelerators.vitcod.attention import ATTENTION_MODELS, AttentionMasks, simulate_attention
    from studies.progress import warn
    from workloads.attention_rows import ATTENTION_COLUMNS
    from workloads.rows import to_frame

    opened = AttentionMasks.open(masks, pruned_is_one)
    frame = to_frame(simulate_attention(opened, on, set_ or []), ATTENTION_COLUMNS)
    for reason in frame.loc[(frame["reason"] != "") & frame["feasible"].any(), "reason"].drop_duplicates():
        warn(reason)
    emit(frame, format, out, SHOWN[ATTENTION_MODELS[on].level])
