"""Which text to calibrate on, and when to prune for another domain: stories260K knows stories, WikiText-2 is the other
domain. Perplexity on both texts (48 windows of 512 tokens) by what 64 x 256 tokens of calibration came from; then what
it costs to take the model to WikiText, pruned before, after or amid the training, with as many training tokens in all.

    python benchmarks/domains.py ../shared/data [--seeds 3] [--steps 60]
"""

import argparse
import logging
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import prunesim as ps
from pruning.data.calibration import read_calibration, windows

TEXTS = {  # to calibrate and train on, to evaluate on
    "stories": ("tinystories_train_first2MB.txt", "tinystories_valid_clean.txt"),
    "WikiText": ("wikitext2_raw_train_first1MB.txt", "wikitext2_raw_test.txt"),
}
HOME, TARGET = TEXTS
METHODS = [("cfsp", 0.2), ("flap", 0.2), ("obs-sp", 0.2), ("wanda", 0.5), ("sparsegpt", 0.5)]
MOVED = ("obs-sp", 0.2)  # what is taken to the other domain


@dataclass(frozen=True)
class Lab:
    """Texts are tokenized once; `work` is a folder for what is made."""

    texts: Path
    tokenizer: Path  # a model folder with it
    work: Path

    def prune(self, model: Path, method: str, sparsity: float, drawn: str, seed: int) -> ps.MaskBundle:
        file = self.work / f"{drawn}-{seed}.npy"
        if not file.exists():
            np.save(
                file, read_calibration(str(self.texts / TEXTS[drawn][0]), self.tokenizer, 64, 256, seed).ids.numpy()
            )
        return ps.prune(model, out=self.new(), method=method, sparsity=sparsity, calibration=str(file))

    def train(self, model: Path, masks: ps.MaskBundle, steps: int, seed: int, saved: Path | None) -> ps.MaskBundle:
        return ps.finetune(
            model, masks=masks, out=self.new(), save_model=saved, text=self._windows(TEXTS[TARGET][0], 256, None),
            steps=steps, seq_len=256, lr=3e-3, held_out="0.02", eval_every=steps, seed=seed,
        )  # fmt: skip

    def perplexity(self, model: Path, masks: ps.MaskBundle | None, on: str) -> float:
        rows = ps.evaluate(model, text=self._windows(TEXTS[on][1], 512, 48), masks=masks, seq_len=512).frame
        return float(rows["perplexity"][0])

    def new(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.work)) / "made"

    def _windows(self, text: str, length: int, most: int | None) -> str:
        file = self.work / f"{text}-{length}.npy"
        if not file.exists():
            np.save(file, windows(self.texts / text, self.tokenizer, length, most).numpy())
        return str(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    model = asked.data / "models/stories260K"
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(asked.data / "text", model, Path(folder))
        calibrations(lab, model, asked.seeds)
        ways(lab, model, asked.seeds, asked.steps)


def calibrations(lab: Lab, model: Path, seeds: int) -> None:
    cells = [(drawn, on) for drawn in TEXTS for on in TEXTS]
    print(f"{'':<18}" + "".join(f"{f'from {drawn}, on {on}':>28}" for drawn, on in cells))
    print(f"{'dense':<18}" + "".join(f"{lab.perplexity(model, None, on):>28.2f}" for _, on in cells), flush=True)
    for method, sparsity in METHODS:
        found: dict[tuple[str, str], list[float]] = {cell: [] for cell in cells}
        for seed in range(seeds):
            for drawn in TEXTS:
                bundle = lab.prune(model, method, sparsity, drawn, seed)
                for on in TEXTS:
                    found[drawn, on].append(lab.perplexity(model, bundle, on))
        print(f"{f'{method} {sparsity:.0%}':<18}" + "".join(f"{told(found[c]):>28}" for c in cells), flush=True)


def ways(lab: Lab, model: Path, seeds: int, steps: int) -> None:
    print(f"\nto {TARGET}, {MOVED[0]} {MOVED[1]:.0%}, {steps} steps in all: perplexity on {TARGET}, on {HOME}")
    found: dict[str, dict[str, list[float]]] = {}

    def note(way: str, of: Path, bundle: ps.MaskBundle | None) -> None:
        for on in (TARGET, HOME):
            found.setdefault(way, {}).setdefault(on, []).append(lab.perplexity(of, bundle, on))

    for seed in range(seeds):
        whole = ps.generate(model, out=lab.new(), density=1.0)
        tuned, half = lab.new(), lab.new()
        note("dense, trained", model, lab.train(model, whole, steps, seed, tuned))
        note("trained, then pruned", tuned, lab.prune(tuned, *MOVED, TARGET, seed))
        for drawn in TEXTS:
            early = lab.prune(model, *MOVED, drawn, seed)
            note(f"pruned on {drawn}, then trained", model, lab.train(model, early, steps, seed, None))
        lab.train(model, whole, steps // 2, seed, half)
        between = lab.prune(half, *MOVED, TARGET, seed)
        note("trained, pruned, trained", half, lab.train(half, between, steps - steps // 2, seed + seeds, None))
    for way, values in found.items():
        print(f"{way:<36}" + "".join(f"{told(each):>20}" for each in values.values()))


def told(values: list[float]) -> str:
    spread = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


if __name__ == "__main__":
    main()
