"""A whole DeiT on ViTCoD, part by part, beside the logs of the published simulator: linears, FFNs, and attention under
its own masks.

    python -m validation.sources.vitcod_model FOLDER [DENSITY]

FOLDER as in validation/sources/vitcod_log.py, with the log of linears and FFNs. The model is what the masks are of:
T tokens, heads of 64 features, FFNs four times as wide. Linears are dense, as in the publication, or keep DENSITY of
their weights at random. `vitcod` has 512 MACs for them, which is what the program counts there; the program counts
4,096 for attention, where `vitcod-attention` has the 512 of the paper. Patch embedding, norms, softmax outside the
attention engines and the head are in no log, and not here.
"""

import re
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from simulator.accelerators.named import open_accelerator
from simulator.accelerators.vitcod.attention.target import model_rows, open_attention
from simulator.simulate import simulate_layers
from validation.sources.vitcod_log import open_masks, read_log
from workloads.bundle import BundleHeader
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.mask import PackedMask
from workloads.operations import Linear, Weights
from workloads.synthetic import stream, unstructured

HEAD, FFN = 64, 4  # features of a head; FFN features an embedding feature
MACS = ("array.height=8",)  # of 64 lanes: 512 MACs
LINEAR, WIDE, ATTENTION, ALL = "linears (qkv, projection)", "FFNs", "attention", "whole model"


@dataclass(frozen=True)
class Part:
    """Cycles of all layers together: `log` what the publication prints, None where it prints none; `ideal` MACs / 512
    of linears; `paper` its formula (level "paper"); `cycles` ours, `dense_cycles` the unpruned part on the same
    machine."""

    name: str
    log: int | None
    ideal: float | None
    paper: int | None
    cycles: int
    dense_cycles: int


def parts(folder: Path, density: float = 1.0, seed: int = 0) -> list[Part]:
    """Linears, FFNs, attention, and their sums. Raises UserError where the data are absent."""
    masks, logged = open_masks(folder), read_linears(folder)
    layers, heads, tokens = masks.values.shape[:3]
    width = heads * HEAD
    shapes = {
        LINEAR: [(3 * width, width), (width, width)],
        WIDE: [(FFN * width, width), (width, FFN * width)],
    }
    found = []
    for name, sides in shapes.items():
        rows = on_array(sides, tokens, density, seed)
        macs = sum(a * b for a, b in sides) * tokens * layers
        cycles, dense = (layers * sum(row[key] for row in rows) for key in ("cycles", "dense_cycles"))
        found.append(Part(name, logged[name], macs / 512, None, cycles, dense))
    paper, ours = (model_rows(open_attention(on), masks)[-1] for on in ("vitcod-attention-paper", "vitcod-attention"))
    log = int(read_log(folder)["Total"])
    found.append(Part(ATTENTION, log, None, paper["cycles"], ours["cycles"], ours["dense_cycles"]))
    total = sum(part.log or 0 for part in found)
    sums = (sum(part.cycles for part in found), sum(part.dense_cycles for part in found))
    return [*found, Part(ALL, total, None, None, *sums)]


def on_array(sides: list[tuple[int, int]], tokens: int, density: float, seed: int) -> list[dict]:
    """Rows of one layer's matrices on `vitcod` with 512 MACs."""
    layers = []
    for number, (rows, cols) in enumerate(sides):
        draw = stream(seed, f"{rows}x{cols} {number}")
        mask = PackedMask.dense(rows, cols) if density == 1 else unstructured(draw, rows, cols, density)
        weights = Weights("unstructured", mask.nnz, mask.sha256(), partial(_itself, mask), 8)
        layers.append(Linear(f"{rows}x{cols}", "other", 0, rows, cols, weights))
    header = BundleHeader("deit", "dense" if density == 1 else "generated")
    return list(simulate_layers([open_accelerator("vitcod", MACS)], header, layers, Conditions(tokens)))


def _itself(mask: PackedMask) -> PackedMask:
    return mask


def read_linears(folder: Path) -> dict[str, int]:
    """The totals of the last complete run, by part. Raises UserError for an absent or other log."""
    path = folder / "vitcod_atten_ffn.txt"
    if not path.exists():
        raise UserError(f"{path} is absent: this comparison needs ViTCoD's log of linears and FFNs")
    text = path.read_text(encoding="utf-8")
    found = {}
    for name, word in ((LINEAR, "linear"), (WIDE, "ffn")):
        totals = re.findall(rf"total {word} cycles: (\d+)", text)
        if not totals:
            raise UserError(f"{path} holds no complete run")
        found[name] = int(totals[-1])
    return found


def main(folder: Path, density: float) -> None:
    try:
        found = parts(folder, density)
    except UserError as error:
        sys.exit(f"skipped: {error}")
    heads = ("part", "published log", "MACs / 512", "cycles", "x log", "dense", "speedup")
    print("| " + " | ".join(heads) + " |\n|---" + "|---:" * (len(heads) - 1) + "|")
    for part in found:
        ideal = f"{part.ideal:,.0f}" if part.ideal else ""
        ratio = f"{part.cycles / part.log:.3f}" if part.log else ""
        gain = f"{part.dense_cycles / part.cycles:.2f}"
        cells = (part.name, f"{part.log or 0:,}", ideal, f"{part.cycles:,}", ratio, f"{part.dense_cycles:,}", gain)
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 1.0)
