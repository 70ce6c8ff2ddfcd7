"""ViTCoD's published attention log against `vitcod-attention-paper`, and how far `vitcod-attention` moves from it.

    python -m validation.sources.vitcod_log FOLDER

Reads ViTCoD's DeiT-Tiny masks at 95 % and the log of its simulator's run on them (GATECH-EIC/ViTCoD, Apache-2.0, not
part of this repository) from FOLDER; compared is the last complete run in the file.
"""

import re
import sys
from pathlib import Path
from typing import Any

from simulator.accelerators.vitcod.attention.masks import AttentionMasks
from simulator.accelerators.vitcod.attention.target import model_rows, open_attention
from workloads.errors import UserError

FOLDER = "deit_tiny_0.95"  # within the folder of what does not ship

# Columns of our rows in the order in which the log prints a layer's lines.
LINES = (
    "global_keys", "dense_preload_cycles", "dense_decoder_cycles", "sparse_preload_cycles", "sparse_decoder_cycles",
    "dense_sddmm_cycles", "sparse_sddmm_cycles", "dense_value_cycles", "dense_spmm_cycles", "sparse_value_cycles",
    "sparse_spmm_cycles",
)  # fmt: skip
TOTALS = ("preloading", "processing", "Computation", "Total")  # the log's words for its last lines

MOVES = (  # what is set, and what it stands for
    ((), "cycle level as set by default: 64 x 8 = 512 MACs"),
    (("array.height=64",), "the program's 64 x 64 MACs"),
    (
        ("array.height=64", "dram.bandwidth_gbps=1e6", "engines.softmax_per_cycle=65536"),
        "64 x 64, without memory and softmax",
    ),
    (("dram.bandwidth_gbps=1e6",), "512 MACs, without memory"),
    (("engines.softmax_per_cycle=65536",), "512 MACs, without softmax"),
    (("attention.encoder_ratio=1.0",), "512 MACs, without encoder"),
    (("engines.stationary=keys",), "512 MACs, keys outer (scores of all queries wait on chip)"),
    (("engines.stationary=keys", "buffers.query_kib=20"), "512 MACs, keys outer, query buffer too small to keep Q"),
)


def rows(folder: Path) -> list[dict[str, Any]]:
    """Every line of the log as {"layer", "line", "log", "model", "difference"}, then the totals (layer "total").

    Raises UserError where the data are absent or the log has another form.
    """
    ours = model_rows(open_attention("vitcod-attention-paper"), open_masks(folder))
    published = read_log(folder)
    compared = []
    for layer, (row, lines) in enumerate(zip(ours[:-1], published["layers"], strict=True)):
        compared += [_compared(str(layer), name, value, row[name]) for name, value in zip(LINES, lines, strict=True)]
    total = ours[-1]
    model = {
        "preloading": total["transfer_cycles"],
        "processing": total["decoder_cycles"],
        "Computation": total["sddmm_cycles"] + total["spmm_cycles"],
        "Total": total["cycles"],
    }
    return compared + [_compared("total", f"{name} cycles", published[name], model[name]) for name in TOTALS]


def moves(folder: Path) -> list[dict[str, Any]]:
    """Totals of the cycle level under several settings as {"settings", "what", "cycles", "dense_cycles", "ratio"}.

    `ratio` is to the published total, which always has its encoder.
    """
    *_, paper = model_rows(open_attention("vitcod-attention-paper"), open_masks(folder))
    found = []
    for sets, what in MOVES:
        *_, total = model_rows(open_attention("vitcod-attention", sets), open_masks(folder))
        facts = {
            "settings": " ".join(sets),
            "what": what,
            "cycles": total["cycles"],
            "dense_cycles": total.get("dense_cycles"),
        }
        found.append({**facts, "ratio": total["cycles"] / paper["cycles"]})
    return found


def head_totals(folder: Path) -> list[int]:
    """The published decoding + computation if head 0, 1, ... stood for all heads (preloading hardly depends on it)."""
    masks = open_masks(folder)
    totals = []
    for head in range(masks.heads):
        order = [head, *(other for other in range(masks.heads) if other != head)]
        turned = AttentionMasks(masks.name, masks.values[:, order], masks.pruned_is_one)
        *_, total = model_rows(open_attention("vitcod-attention-paper"), turned)
        totals.append(total["compute_cycles"])
    return totals


def open_masks(folder: Path) -> AttentionMasks:
    return AttentionMasks.open(folder / "info_0.95.npy", pruned_is_one=True)


def read_log(folder: Path) -> dict[str, Any]:
    """{"layers": eleven numbers a layer, "preloading": ..., ...} of the last complete run."""
    path = folder / "vitcod_atten_0.95_wo.txt"
    if not path.exists():
        raise UserError(f"{path} is absent: this comparison needs ViTCoD's log")
    for run in reversed(path.read_text(encoding="utf-8").split("Shape:")[1:]):
        totals = dict(re.findall(r"(\w+) cycles: ([\d.]+)", run.split("non-zeros")[-1]))
        if set(totals) >= set(TOTALS) and float(totals["Total"]) > 0:
            layers = re.split(r"Layer: \d+; Head: 0", run.split("non-zeros")[0])[1:]
            lines = [[int(float(n)) for n in re.findall(r"(?:tokens|cycles): ([\d.]+)", layer)] for layer in layers]
            return {"layers": lines, **{name: int(float(totals[name])) for name in TOTALS}}
    raise UserError(f"{path} holds no complete run")


def _compared(layer: str, line: str, log: int, model: int) -> dict[str, Any]:
    return {"layer": layer, "line": line, "log": log, "model": model, "difference": model - log}


def main(folder: Path) -> None:
    try:
        compared = rows(folder)
    except UserError as error:
        sys.exit(f"skipped: {error}")
    print(f"{'layer':<7}{'line':<26}{'log':>8}{'model':>8}{'difference':>12}")
    for row in compared:
        print(f"{row['layer']:<7}{row['line']:<26}{row['log']:>8}{row['model']:>8}{row['difference']:>12}")
    print(f"\n{sum(row['difference'] != 0 for row in compared)} of {len(compared)} lines differ")
    by_head = ", ".join(f"{cycles:,}" for cycles in head_totals(folder))
    print(f"\nIts processing + computation with head 0, 1, 2 standing for all heads: {by_head}")
    print(f"\n{'vitcod-attention':<68}{'cycles':>9}{'x paper':>9}{'dense':>10}")
    for move in moves(folder):
        dense = f"{move['dense_cycles']:,}" if move["dense_cycles"] else "no fit"
        print(f"{move['what']:<68}{move['cycles']:>9,}{move['ratio']:>9.2f}{dense:>10}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
