"""prunesim formats"""

import re
from pathlib import Path

from studies.cli.output import Whole, check_format, emit
from workloads.errors import UserError

COLUMNS = (
    "layer", "out_features", "in_features", "sparsity", "format", "block", "weight_bits", "value_bytes",
    "metadata_bytes",
    "scale_bytes", "total_bytes", "dense_bytes", "bits_per_weight", "compression", "pruned_blocks", "unified_blocks",
    "free_blocks", "reason",
)  # fmt: skip
USUAL = "dense,bitmap,csr,csc,coo,rle,2:4"


def formats(
    bundle: Path | None = None,
    /,
    *,
    mask: Path | None = None,
    formats: str = USUAL,
    block: str = "64x64",
    bits: Whole = 16,
    format: str = "table",
    out: Path | None = None,
) -> None:
    """Exact bytes of every layer of BUNDLE (or of --mask) in each weight format: values, metadata, group scales; beside
    them those of the unpruned matrix, stored dense at the same bits.

    Parameters
    ----------
    bundle
        A folder of masks that prune, generate, import or finetune wrote.
    mask
        One .npy mask (out_features, in_features), boolean or 0/1, 1 = kept.
    formats
        Comma separated: dense, bitmap, csr, csc, coo, rle (4-bit runs), macko (a GPU's, see --block whole), any N:M;
        unified, or unified:1x8: blocks of one magnitude as that and signs, added where the bundle is of such blocks.
    block
        OUTPUTSxINPUTS that are compressed on their own, or "whole".
    bits
        Bits of a value where the bundle keeps floats; quantized layers take their own.
    format
        json, csv or table.
    out
        Write to this file instead of stdout.
    """
    check_format(format)
    from simulator.storage import storage_rows
    from simulator.unified_blocks import NAME, block_of, is_unified
    from studies.progress import ProgressLine, counted
    from studies.simulate import open_source
    from workloads.columns.formats import FORMAT_COLUMNS, UNIFIED_COLUMNS
    from workloads.rows import to_frame

    if (bundle is None) == (mask is None):
        raise UserError("formats: give either BUNDLE or --mask FILE.npy")
    if not 1 <= bits <= 64:
        raise UserError(f"--bits {bits}: a value has 1 to 64 bits")
    source = open_source(bundle, mask, None, "unstructured", None, 0)
    names = [name.strip() for name in formats.split(",") if name.strip()]
    if formats == USUAL and block_of(source.header) is not None:
        names.append(NAME)
    if not names:
        raise UserError("--formats names no format; such as dense,bitmap")
    layers = counted(source.linears, "counting bytes", source.count, ProgressLine())
    rows = storage_rows(source.header, layers, names, parse_block(block), bits)
    emit(to_frame(rows, FORMAT_COLUMNS, UNIFIED_COLUMNS if any(map(is_unified, names)) else ()), format, out, COLUMNS)


def parse_block(text: str) -> tuple[int, int]:
    """ "64x128" -> (64, 128); "whole" -> larger than any matrix. Raises UserError for anything else."""
    from simulator.storage import WHOLE

    if text == "whole":
        return WHOLE, WHOLE
    match = re.fullmatch(r"(\d{1,9})x(\d{1,9})", text)
    if not match:
        raise UserError(f"--block {text!r}: expected OUTPUTSxINPUTS such as 64x64, or whole")
    return int(match[1]), int(match[2])
