"""Perplexity of a model without some of its units, method by method and share by share, before and after recovery.

The dense model runs over the calibration text once; every method scores its units from what that pass has seen, so
`obs-sp` and `wanda-sp` here go by the dense model's activations, where `prune` gives them what the pruned blocks before
a block produce. Bundles are written by the driver, as `prune` does. Perplexities go to a JSON file, and a repeated
command goes on with those that are missing.

    python benchmarks/structured_grid.py MODEL --train TRAIN --test TEST --work FOLDER [--seeds 3] [--recover 32]
"""

import argparse
import json
import logging
import re
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import prunesim as ps
from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs
from pruning.config import PruneConfig
from pruning.data.calibration import Calibration, read_calibration, windows
from pruning.evidence.gradients import gradient_file, read_gradients, write_gradients
from pruning.evidence.moments import Moments
from pruning.evidence.needs import GRADIENTS
from pruning.families.transformer import PROBE
from pruning.forward.blockwise import BlockwiseModel
from pruning.forward.feeding import small_batch
from pruning.forward.hidden_states import micro_batches, read_tensors, write_tensors
from pruning.methods.structured.cfsp import Cfsp
from pruning.methods.structured.method import UNITS, StructuredMethod
from pruning.parallel import one_thread_per_operation
from pruning.run.driver import prune
from pruning.run.make_recipe import make_recipe
from pruning.structured.choice import kept_units, scored
from pruning.structured.evidence import IMPORTANCES, BlockEvidence, observe
from pruning.structured.layouts import Layouts
from pruning.structured.scores import ScoredBlock, as_scored
from pruning.structured.units import UnitGroup
from workloads.bundle import MaskBundle
from workloads.bundle_writer import BundleWriter
from workloads.removal import NEURON

FFN = {"units": "ffn"}
Table = dict[str, tuple[str, dict[str, Any]]]  # methods and their settings by the names of lines
OF_NEURONS: Table = {
    "cfsp": ("cfsp", {}),
    "flap": ("flap", FFN),
    "obs-sp": ("obs-sp", FFN),
    "wanda-sp": ("wanda-sp", FFN),
    "taylor-sp": ("taylor-sp", FFN),
}
OF_ALL: Table = {name: (name, {}) for name in ("flap", "obs-sp", "wanda-sp", "taylor-sp")}
COARSE: Table = {
    f"cfsp {importance}, {score}": ("cfsp", {"importance": importance, "score": score})
    for score in ("activation", "wanda")
    for importance in ("uniform", "angular", "cosine", "mse", "mae")
}
TABLES: dict[str, Table] = {"neurons": OF_NEURONS, "all units": OF_ALL, "coarse": COARSE}
KINDS = {"lora": ("uniform", "importance"), "full": ("full",)}  # of training: ranks of adapters, or every weight
LAST_STEP_ALONE = 10**6  # of `eval_every` and `save_every`


@dataclass(frozen=True)
class Cell:
    """Of one perplexity: `units` as the tables call them; `ranks`: how it was trained, "" before (KINDS)."""

    units: str
    name: str
    share: float
    seed: int = 0
    ranks: str = ""

    @property
    def key(self) -> str:
        return " | ".join([self.units, self.name, f"{self.share:.0%}", f"seed {self.seed}", self.ranks or "before"])


@dataclass
class Grid:
    asked: argparse.Namespace
    found: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.asked.work.mkdir(parents=True, exist_ok=True)
        dtype = self.asked.dtype
        self.file = self.asked.work / ("perplexities.json" if dtype == "float32" else f"perplexities-{dtype}.json")
        if self.file.exists():
            self.found = json.loads(self.file.read_text())

    @cached_property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.asked.model, torch.float32)

    def folder(self, seed: int) -> Path:
        return self.asked.work / f"seed-{seed}"

    def calibration(self, seed: int) -> Calibration:
        """Drawn once, as `prune` does."""
        asked, file = self.asked, self.folder(seed) / "calibration.npy"
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            drawn = read_calibration(str(asked.train), asked.model, asked.samples, asked.seq_len, seed)
            np.save(file, drawn.ids.numpy())
        return read_calibration(str(file), asked.model, None, None, seed)

    def ids_of(self, name: str, text: Path, length: int, most: int | None) -> str:
        """Of a text, tokenized once."""
        file = self.asked.work / f"{name}.npy"
        if not file.exists():
            np.save(file, windows(text, self.asked.model, length, most).numpy())
        return str(file)

    def measure(self, cell: Cell) -> None:
        if cell.key in self.found:
            return
        began = time.process_time()
        self.tidy()  # a killed run may not have come to it
        asked, bundle = self.asked, self.trained(cell) if cell.ranks else self.pruned(cell)
        text = self.ids_of("test", asked.test, asked.window, asked.windows)
        rows = ps.evaluate(asked.model, text=text, masks=bundle, seq_len=asked.window, dtype=asked.dtype).frame
        self.found[cell.key] = float(rows["perplexity"][0])
        self.file.write_text(json.dumps(self.found, indent=1))
        seconds = time.process_time() - began
        print(f"{cell.key:<70} {self.found[cell.key]:9.3f}   {seconds:6.0f} s of a processor", flush=True)
        self.tidy()

    def show_blocks(self, cell: Cell) -> None:
        """The share of its neurons that every block keeps, in percent."""
        self.tidy()
        kept: dict[int, list[float]] = {}
        for each in self.pruned(cell).removal.units:
            if each.kind == NEURON:
                kept.setdefault(each.block, []).append(100 * each.kept.mean())
        shares = " ".join(f"{statistics.mean(kept[number]):.0f}" for number in sorted(kept))
        print(f"{cell.key:<50} {shares}", flush=True)
        self.tidy()

    def tidy(self) -> None:
        for name in ("bundle", "trained"):
            shutil.rmtree(self.asked.work / name, ignore_errors=True)

    def pruned(self, cell: Cell) -> MaskBundle:
        if cell.units == "dense":
            return ps.generate(self.asked.model, out=self.asked.work / "bundle", density=1.0)
        method, settings = TABLES[cell.units][cell.name]
        out = self.asked.work / "bundle"
        recipe = make_recipe(PruneConfig(method, cell.share, set=settings, seed=cell.seed))
        calibration = self.calibration(cell.seed)
        recipe = replace(recipe, model_id=self.asked.model.name, calibration=calibration)
        checkpoint = Checkpoint(self.asked.model, torch.float32)
        assert isinstance(recipe.method, StructuredMethod)
        BundleWriter(out, recipe.header(checkpoint)).begin()
        for number, tensors in enumerate(self.scores(recipe.method, cell.share, cell.seed)):
            write_tensors(out / f"scores-{number:05d}.safetensors", tensors)
        if recipe.needs & GRADIENTS:
            write_tensors(gradient_file(out, 0), {})  # they are in the scores already
        return prune(checkpoint, recipe, out, lambda *_: None, lambda _: None)

    def scores(self, method: StructuredMethod, share: float, seed: int) -> Iterator[dict[str, torch.Tensor]]:
        """What the driver keeps of every block, from the statistics of the dense model."""
        self.gather(seed, bool(method.needs & GRADIENTS))
        checkpoint = self.checkpoint
        with torch.no_grad():
            model = BlockwiseModel(checkpoint)
            layouts = Layouts(model, method.kinds, model.embed(small_batch(checkpoint, *PROBE, 0)))
            for number, refs in enumerate(all_refs(checkpoint)):
                block = checkpoint.load_block(number)
                evidence = self.evidence(seed, number)
                tensors = {
                    "importance": torch.tensor([evidence.importance[n] for n in IMPORTANCES], dtype=torch.float64),
                    "tokens": torch.tensor([evidence.tokens]),
                }
                groups = layouts.groups(number, block, refs)
                outputs = {group.key: group.output.matrix(block).float() for group in groups}
                for group in groups:
                    name = group.output.layer.name
                    weights = {ref.layer.name: ref.matrix(block).float() for ref, _ in group.members}
                    weights[name] = outputs[group.key]
                    tensors[f"score|{group.key}"] = self.score(method, seed, group, weights, evidence)
                    tensors[f"mean|{name}"] = evidence.mean(name, group.output.layer.in_features)
                if method.changes_weights:
                    found = as_scored(number, groups, tensors)
                    kept = kept_units(scored([found]), method.keep([found], share, 1))
                    for group in groups:
                        stays = torch.from_numpy(kept[group.key])
                        weight = method.update(group, outputs[group.key], evidence, stays)
                        assert weight is not None
                        columns = stays.repeat_interleave(group.features)
                        tensors[f"weight|{group.output.layer.name}"] = weight[:, columns].contiguous()
                checkpoint.release(block)
                yield tensors

    def score(
        self, method: StructuredMethod, seed: int, group: UnitGroup, weights: dict[str, torch.Tensor],
        evidence: BlockEvidence,
    ) -> torch.Tensor:  # fmt: skip
        """One sweep of obs-sp orders all units, whatever the share, so scores are kept."""
        if method.name != "obs-sp":
            return method.scores(group, weights, evidence)
        file = self.folder(seed) / f"order-{group.key}.safetensors"
        if not file.exists():
            write_tensors(file, {"score": method.scores(group, weights, evidence)})
        return read_tensors(file)["score"]

    def evidence_file(self, seed: int, number: int) -> Path:
        return self.folder(seed) / f"evidence-{number:05d}.safetensors"

    def evidence(self, seed: int, number: int) -> BlockEvidence:
        tensors = read_tensors(self.evidence_file(seed, number))
        tokens = int(tensors.pop("tokens"))
        importance = dict(zip(IMPORTANCES, tensors.pop("importance").tolist(), strict=True))
        sums: dict[str, Moments] = {}
        for key, tensor in tensors.items():
            what, _, name = key.partition("|")
            setattr(sums.setdefault(name, Moments(tokens, tensor)), what, tensor)
        found = BlockEvidence(self.asked.samples, tokens, sums, importance)
        if gradient_file(self.folder(seed), number).exists():
            found.gradients = read_gradients(self.folder(seed), number)
            found.samples = self.asked.gradient_samples
        return found

    def gather(self, seed: int, gradients: bool) -> None:
        folder, checkpoint = self.folder(seed), self.checkpoint
        refs, ids = all_refs(checkpoint), self.calibration(seed).ids
        if gradients and not gradient_file(folder, 0).exists():
            few = ids[: self.asked.gradient_samples]
            write_gradients(BlockwiseModel(checkpoint), refs, few, ["sum"], folder, lambda *_: None)
        if self.evidence_file(seed, len(refs) - 1).exists():
            return
        began = time.process_time()
        with torch.no_grad(), one_thread_per_operation():
            model = BlockwiseModel(checkpoint)
            layouts = Layouts(model, UNITS["all"], model.embed(small_batch(checkpoint, *PROBE, 0)))
            hidden = [model.embed(batch) for batch in micro_batches(ids)]
            for number, own in enumerate(refs):
                block = checkpoint.load_block(number)
                outputs = [group.output for group in layouts.groups(number, block, own)]
                found, hidden = observe(block, partial(model.run, number), hidden, outputs, len(ids), hessian=True)
                tensors = {
                    "importance": torch.tensor([found.importance[n] for n in IMPORTANCES], dtype=torch.float64),
                    "tokens": torch.tensor([found.tokens]),
                }
                for name, moments in found.sums.items():
                    for what in ("energy", "total", "hessian"):
                        tensors[f"{what}|{name}"] = getattr(moments, what)
                write_tensors(self.evidence_file(seed, number), tensors)
                checkpoint.release(block)
        print(f"statistics of seed {seed}: {time.process_time() - began:.0f} s of a processor", flush=True)

    def trained(self, cell: Cell) -> MaskBundle:
        """With low-rank adapters, merged; ranks by CFSP's importance of blocks (methods 19.6), which its shares are."""
        asked, of_adapters = self.asked, dict[str, Any]()
        if asked.mode == "lora":
            of_adapters["rank"] = asked.rank
        if cell.ranks.startswith("importance"):
            self.gather(cell.seed, False)
            blocks = [
                ScoredBlock(n, (), {}, e.importance, e.tokens)
                for n in range(len(self.checkpoint.blocks))
                for e in [self.evidence(cell.seed, n)]
            ]
            shares = Cfsp().shares(blocks, cell.share)
            of_adapters["importance"] = ",".join(f"{share:.6f}" for share in shares)
        return ps.finetune(
            asked.model, masks=self.pruned(cell), out=asked.work / "trained", mode=asked.mode, distill=asked.distill,
            text=self.ids_of("train", asked.train, asked.train_len, None), steps=asked.recover, batch=asked.batch,
            seq_len=asked.train_len, lr=asked.lr, held_out="0.005", eval_every=LAST_STEP_ALONE,
            save_every=LAST_STEP_ALONE, seed=cell.seed, dtype=asked.dtype, **of_adapters,
        )  # fmt: skip


def cells(asked: argparse.Namespace) -> Iterator[Cell]:
    """Seed 0 of everything, then the other seeds, training last: a large model takes hours."""
    shares, main, methods = asked.shares, asked.at, list(OF_NEURONS)
    late = [name for name in methods if name == "taylor-sp"]
    first = [name for name in methods if name not in late]
    yield Cell("dense", "dense", 0.0)
    yield from (Cell("neurons", name, share) for share in (main, *shares) for name in first)
    yield from (Cell("all units", name, share) for share in (main, *asked.of_all) for name in OF_ALL)
    yield from (Cell("coarse", name, share) for share in asked.coarse for name in COARSE)
    yield from (Cell("neurons", name, share) for name in late for share in (main, *shares))
    for seed in range(1, asked.seeds):
        yield from (Cell("neurons", name, main, seed) for name in first)
        if asked.every_seed:
            yield from (Cell("neurons", name, share, seed) for share in shares for name in first)
            yield from (Cell("all units", name, share, seed) for share in asked.of_all for name in OF_ALL)
        yield from (Cell("all units", name, main, seed) for name in OF_ALL)
        yield from (Cell("neurons", name, main, seed) for name in late)
        if asked.every_seed:
            yield from (Cell("neurons", name, share, seed) for name in late for share in shares)
            yield from (Cell("coarse", name, share, seed) for share in asked.coarse for name in COARSE)
    ranks = [f"{kind}, {asked.distill}" if asked.distill else kind for kind in KINDS[asked.mode]]
    for seed in range(asked.seeds if asked.every_seed else 1) if asked.recover else ():
        yield Cell("dense", "dense", 0.0, seed, ranks[0])
        yield from (Cell("neurons", name, main, seed, each) for each in ranks for name in first)


def show(grid: Grid) -> None:
    by_line: dict[str, list[float]] = {}
    for key, value in grid.found.items():
        units, name, share, _, ranks = key.split(" | ")
        by_line.setdefault(f"{units:<20} {name:<24} {share:>4}  {ranks}", []).append(value)
    for line, values in sorted(by_line.items()):
        spread = f"+- {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        print(f"{line:<66} {statistics.mean(values):9.3f} {spread:<10} of {len(values)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path)
    for name in ("--train", "--test", "--work"):
        parser.add_argument(name, type=Path, required=True)
    numbers = {
        "samples": 64, "seq-len": 512, "window": 512, "windows": 64, "seeds": 1, "gradient-samples": 16,
        "recover": 0, "rank": 8, "batch": 2, "train-len": 256,
    }  # fmt: skip
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--at", type=float, default=0.2)
    parser.add_argument("--shares", type=float, nargs="*", default=[0.5, 0.3, 0.1])
    parser.add_argument("--of-all", type=float, nargs="*", default=[], help="of all units, beside `--at`")
    parser.add_argument("--coarse", type=float, nargs="*", default=[0.2, 0.5])
    parser.add_argument(
        "--dtype", default="float32", help="of evaluation and training; bfloat16 is several times faster"
    )
    parser.add_argument("--every-seed", action="store_true", help="not the share of `--at` alone")
    parser.add_argument("--only", default="", help="cells whose line holds this (a regular expression)")
    parser.add_argument("--blocks", action="store_true", help="print what every block keeps, and measure nothing")
    parser.add_argument("--mode", default="lora", choices=list(KINDS), help="of training")
    parser.add_argument("--distill", choices=["logits", "layers"])
    parser.add_argument("--show", action="store_true", help="print what there is")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    grid = Grid(asked)
    for cell in [] if asked.show else cells(asked):
        if re.search(asked.only, cell.key):
            (grid.show_blocks if asked.blocks else grid.measure)(cell)
    if not asked.blocks:
        show(grid)


if __name__ == "__main__":
    main()
