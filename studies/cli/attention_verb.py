"""prunesim attention"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from studies.cli.output import check_format, emit


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
        json, csv or table; the table shows some of the columns.
    out
        Write to this file instead of stdout.
    """
    check_format(format)
    from simulator.accelerators.vitcod.attention.masks import AttentionMasks
    from simulator.accelerators.vitcod.attention.target import model_rows, open_attention
    from studies.progress import ProgressLine, counted, warn
    from studies.simulate import extra_columns
    from workloads.rows import to_frame

    opened = AttentionMasks.open(masks, pruned_is_one)
    target = open_attention(on, set_ or [])
    layers = counted(opened.operations(), f"counting cycles on {target.name}", opened.layers, ProgressLine())
    frame = to_frame(model_rows(target, opened, layers), extra=extra_columns([target]))
    for reason in frame.loc[(frame["reason"] != "") & frame["feasible"].any(), "reason"].drop_duplicates():
        warn(reason)
    emit(frame, format, out, target.table)
