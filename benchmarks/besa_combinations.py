"""Which combination of BESA's settings is best: ranking, budgets a row or a matrix, a limit on budgets, updated
survivors, several blocks at once, N by row, 4 bits; beside Wanda and SparseGPT at equal sparsity, seeds 0 to 2.

    python benchmarks/besa_combinations.py examples/demo-model CALIBRATION.txt TEST.txt [--sparsities 0.5 0.6 0.7]
        [--seeds 0 1 2] [--only besa "besa, updated"] [--work out/benchmarks/besa-combinations]

Calibration sequences (64 x 256) come from the first four fifths of CALIBRATION.txt. Perplexity is measured on windows
of 512 tokens of the last fifth, by which a combination would be chosen (24 of them), and of TEST.txt, by which it is
reported (48). Results are kept in the work folder; what is there is not made again.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from checkpoints.checkpoint import Checkpoint
from pruning.config import PruneConfig
from pruning.data.calibration import read_calibration, windows
from pruning.evaluation.perplexity import perplexity
from pruning.methods.besa import constraint
from pruning.run.driver import prune
from pruning.run.make_recipe import make_recipe

SAMPLES, SEQ_LEN, WINDOW = 64, 256, 512
HELD_OUT, TEST = 24, 48  # windows
WAYS: dict[str, dict[str, Any]] = {
    "wanda": {"method": "wanda"},
    "sparsegpt": {"method": "sparsegpt"},
    "besa": {},
    "besa, ranking sparsegpt": {"set": {"ranking": "sparsegpt"}},
    "besa, ranking gblm": {"set": {"ranking": "gblm"}},
    "besa, a matrix": {"set": {"granularity": "layer"}},
    "besa, at most 0.95": {"most": 0.95},
    "besa, updated": {"set": {"update": "obs"}},
    "besa, two blocks at once": {"set": {"span": 2}},
    "besa, three blocks at once": {"set": {"span": 3}},
    "besa, three blocks at once, updated": {"set": {"span": 3, "update": "obs"}},
    "besa, all blocks at once": {"set": {"span": 99}},
    "besa, ranking sparsegpt, updated": {"set": {"ranking": "sparsegpt", "update": "obs"}},
    "wanda, 4 bits": {"method": "wanda", "bits": 4},
    "sparsegpt, 4 bits": {"method": "sparsegpt", "bits": 4},
    "besa, 4 bits": {"bits": 4},
    "wanda, 2:4": {"method": "wanda", "pattern": "2:4"},
    "sparsegpt, 2:4": {"method": "sparsegpt", "pattern": "2:4"},
    "besa, 2 by row of 4": {"pattern": "2:4", "set": {"nm_budget": "row"}},
}


@contextmanager
def limited(most: float) -> Iterator[None]:
    """No row's budget is above `most`."""
    plain = constraint.shift_to_target

    def shift(matrices: Sequence[constraint.Budgeted]) -> None:
        plain(matrices)
        for _ in range(20):  # what the limit cuts off is shared out again
            for matrix in matrices:
                matrix.budgets.clamp_(max=most)
            plain(matrices)
        for matrix in matrices:
            matrix.budgets.clamp_(max=most)

    constraint.shift_to_target = shift
    try:
        yield
    finally:
        constraint.shift_to_target = plain


def parts(calibration: Path, folder: Path) -> tuple[Path, Path]:
    """(what is drawn from, what is held out)"""
    text = calibration.read_text(encoding="utf-8")
    cut = text.find("\n", len(text) * 4 // 5) + 1
    found = folder / f"{calibration.stem}-first.txt", folder / f"{calibration.stem}-last.txt"
    for file, piece in zip(found, (text[:cut], text[cut:]), strict=True):
        file.write_text(piece, encoding="utf-8")
    return found


def measured(model: Path, drawn: Path, texts: dict[str, torch.Tensor], way: str, sparsity: float, seed: int) -> dict:
    asked = dict(WAYS[way])
    most = asked.pop("most", 1.0)
    target = None if "pattern" in asked else sparsity
    recipe = make_recipe(PruneConfig(asked.pop("method", "besa"), target, seed=seed, **asked))
    recipe = replace(
        recipe, model_id=model.name, calibration=read_calibration(str(drawn), model, SAMPLES, SEQ_LEN, seed)
    )
    said: list[str] = []
    began = time.process_time()
    with TemporaryDirectory() as folder, limited(most):
        bundle = prune(Checkpoint(model, torch.float32), recipe, Path(folder) / "masks", lambda *_: None, said.append)
        seconds = time.process_time() - began
        found = {
            name: perplexity(Checkpoint(model, torch.float32), ids, bundle, lambda *_: None)
            for name, ids in texts.items()
        }
        return {
            "way": way, "sparsity": target or 0.5, "seed": seed, "achieved": bundle.sparsity, "seconds": seconds,
            "matrices_with_dead_rows": sum("lost every weight" in text for text in said), **found,
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.5, 0.6, 0.7])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--work", type=Path, default=Path("out/benchmarks/besa-combinations"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    drawn, held_out = parts(args.calibration, args.work)
    texts = {
        name: windows(source, args.model, WINDOW, count)
        for name, source, count in (("held_out", held_out, HELD_OUT), ("test", args.test, TEST))
    }
    file = args.work / f"{args.model.name}.json"
    rows = json.loads(file.read_text()) if file.exists() else []
    done = {(row["way"], row["sparsity"], row["seed"]) for row in rows}
    for seed in args.seeds:
        for sparsity in args.sparsities:
            for way in args.only:
                if (way, sparsity, seed) in done or ("pattern" in WAYS[way] and sparsity != 0.5):
                    continue
                rows.append(measured(args.model, drawn, texts, way, sparsity, seed))
                file.write_text(json.dumps(rows, indent=1))
                print(rows[-1], flush=True)
    table(rows)


def table(rows: list[dict]) -> None:
    """Mean and spread (largest less smallest) over seeds."""
    for way, sparsity in dict.fromkeys((row["way"], row["sparsity"]) for row in rows):
        these = [row for row in rows if (row["way"], row["sparsity"]) == (way, sparsity)]
        text = f"{way:<34} {sparsity:.0%} {len(these)} seeds"
        for name in ("held_out", "test"):
            values = [row[name] for row in these]
            text += f"   {name} {statistics.mean(values):8.2f} ({max(values) - min(values):.2f})"
        print(f"{text}   {statistics.mean(row['seconds'] for row in these):.1f} s")


if __name__ == "__main__":
    main()
