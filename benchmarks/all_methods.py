"""Every method on a decoder, a CNN, a recurrent and a graph network: quality before and after the same recovery, speed
on three accelerators, and what it took. A method refuses what it is not meant for, and the table has its reason.

Cells go to cells.json in the work folder, and a repeated command goes on with those that are missing: of every seed all
models and methods, of each method its targets in a process of its own, whose peak memory is kept. Recovery trains every
surviving weight for `--steps` steps at the default rate: decoders on the text, networks by their distance to the
unpruned network. Methods that train take as many steps of their own before it. Texts are tokenized beforehand, in no
cell's seconds. Commands for different cells may fill a folder side by side.

The decoder is `stories`, which is not part of this repository (../shared/data); `demo` is there with any copy of it,
and takes several times as long.

    python benchmarks/all_methods.py --work out/all [--models demo,crepe] [--only REGEX] [--seeds 3] [--show]

Times on this machine's CPU (measured_masks.py) only count while nothing else runs, so they are a command of their own:

    python benchmarks/all_methods.py --work out/all --keep-masks    of seed 1; of cells that are there masks alone
    python benchmarks/all_methods.py --work out/all --measure       what such masks bring, and no cells
"""

import argparse
import fcntl
import json
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from all_methods_table import page, table
from measuring import measure
from token_ids import TokenIds

EXAMPLES = Path(__file__).parents[1] / "examples"
DEMO = EXAMPLES / "demo-model"
SHARED = Path(__file__).parents[2] / "shared" / "data"
STORIES = SHARED / "text"
ON, TOKENS = ("vitcod", "stc", "systolic"), 16
MASKED, SMALLER, FACTORED = (0.5, 0.7, "2:4"), (0.3,), (0.5, 0.7)
Targets = tuple[float | str, ...]


@dataclass(frozen=True)
class Model:
    """What it is pruned, evaluated and recovered with."""

    path: str
    prune: dict[str, Any] = field(default_factory=dict)
    evaluate: dict[str, Any] = field(default_factory=dict)
    recover: dict[str, Any] = field(default_factory=dict)

    @property
    def lacks(self) -> str:
        """What of it is not on this machine: a folder, a text, or the package with its weights; "" where all is."""
        from pruning.networks import is_network, package_missing

        if is_network(self.path):
            return package_missing(self.path)
        files = self.path, self.prune["calibration"], self.evaluate["text"], self.recover["text"]
        return next((file for file in files if not Path(file).exists()), "")


@dataclass(frozen=True)
class Line:
    """A method with settings; `trains`: its steps are as many as recovery's."""

    method: str
    targets: Targets
    settings: dict[str, Any] = field(default_factory=dict)
    trains: bool = False


TEXT = str(DEMO / "calibration.txt")
STORIES_TEXT = str(STORIES / "tinystories_train_first2MB.txt")
MODELS = {
    "demo": Model(
        str(DEMO),
        {"calibration": TEXT, "samples": 64, "seq_len": 256},
        {"text": str(DEMO / "evaluation.txt"), "seq_len": 512, "windows": 48},
        {"text": TEXT, "seq_len": 256, "batch": 8},
    ),
    "stories": Model(
        str(SHARED / "models" / "stories260K"),
        {"calibration": STORIES_TEXT, "samples": 64, "seq_len": 256},
        {"text": str(STORIES / "tinystories_valid_clean.txt"), "seq_len": 512, "windows": 48},
        {"text": STORIES_TEXT, "seq_len": 256, "batch": 8},
    ),
    "crepe": Model("crepe:tiny/3", {"samples": 128}, {}, {"samples": 512, "batch": 16}),
    "silero": Model("silero:/3", {"samples": 128}, {}, {"samples": 512, "batch": 16}),
    "chgnet": Model("chgnet", {"samples": 64}, {}, {"samples": 512, "batch": 8}),
}
LINES = {
    **{name: Line(name, MASKED) for name in ("magnitude", "wanda", "wanda-pp", "ria", "gblm", "sparsegpt", "besa",
                                             "dpp", "unify")},
    **{name: Line(name, MASKED, trains=True) for name in ("gradual", "iss-p")},
    **{name: Line(name, SMALLER) for name in ("magnitude-sp", "wanda-sp", "flap", "obs-sp", "taylor-sp", "cfsp",
                                              "shortgpt", "blockpruner", "policy-gradient", "stamp")},
    "ffr": Line("ffr", SMALLER, trains=True),
    "evolution": Line("evolution", SMALLER, {"fitness": "inherited"}),  # its default solves for each candidate anew
    **{name: Line(name, FACTORED) for name in ("lowrank", "blockdense", "blockshuffle")},
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    model: str
    line: str
    target: float | str
    seed: int

    @property
    def key(self) -> str:
        return " | ".join([self.model, self.line, shown(self.target), f"seed {self.seed}"])


def shown(target: float | str) -> str:
    return target if isinstance(target, str) else f"{target:.0%}"


def cells(models: Sequence[str], seeds: int, only: str) -> Iterator[Cell]:
    """Those whose key holds `only` from the beginning of a word on; the dense models first."""
    every = [Cell(model, "dense", "dense", 1) for model in models]
    every += [
        Cell(model, name, target, seed)
        for seed in range(1, seeds + 1)
        for model in models
        for name, line in LINES.items()
        for target in line.targets
    ]
    yield from (cell for cell in every if re.search(f"(?<![a-z])(?:{only})", cell.key))


@dataclass(frozen=True)
class Work:
    """A folder, and the steps of recovery."""

    folder: Path
    steps: int
    keep_masks: bool = False

    @property
    def file(self) -> Path:
        return self.folder / "cells.json"

    def masks(self, cell: Cell) -> Path:
        return self.folder / "masks" / re.sub(r"[^\w.]+", "-", cell.key)

    def has_masks(self, cell: Cell) -> bool:
        return (self.masks(cell) / "bundle.json").exists()

    def keeps_masks(self, cell: Cell) -> bool:
        return self.keep_masks and cell.seed == 1

    def wants(self, cell: Cell, facts: dict[str, Any] | None) -> bool:
        """The cell, or masks of it that are to be kept."""
        if facts is None:
            return True
        return "sparsity" in facts and self.keeps_masks(cell) and not self.has_masks(cell)

    def found(self) -> dict[str, dict[str, Any]]:
        return json.loads(self.file.read_text()) if self.file.exists() else {}

    def keep(self, key: str, **facts: Any) -> None:
        """Beside what is known of the cell."""
        from workloads.files import write_text

        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = self.found()
            write_text(self.file, json.dumps(found | {key: found.get(key, {}) | facts}, indent=1) + "\n")

    def model(self, cell: Cell) -> Model:
        """The cell's, a decoder with files of token ids in the place of texts."""
        model = MODELS[cell.model]
        if "text" not in model.evaluate:
            return model
        ids = TokenIds(Path(model.path), self.folder / "ids" / cell.model)
        trained_on = ids.windows(model.recover["text"], model.recover["seq_len"])
        return replace(
            model,
            prune={"calibration": ids.crops(**model.prune, seed=cell.seed)},
            evaluate={"text": ids.windows(**model.evaluate)},
            recover=model.recover | {"text": trained_on},
        )


def prepare(work: Work, own: list[Cell]) -> Callable[[], None]:
    """In the process of its own, what `measure` times."""
    import prunesim  # noqa: F401  beforehand, as its time is no method's
    from pruning.methods import METHODS  # noqa: F401

    logging.disable(logging.WARNING)
    return partial(run, work, own)


def run(work: Work, own: list[Cell]) -> None:
    for cell in own:
        with tempfile.TemporaryDirectory(prefix="making-", dir=work.folder) as made:
            fill(work, cell, Path(made))


def fill(work: Work, cell: Cell, made: Path) -> None:
    """The cell, or the masks that it lacks."""
    began = time.process_time()
    if cell.key in work.found():
        pruned(work, cell, made / "pruned")
        print(f"{cell.key:<46} its masks", flush=True)
    else:
        facts = filled(work, cell, made)
        facts["seconds"] = facts.get("seconds", {}) | {"all": round(time.process_time() - began, 1)}
        work.keep(cell.key, **facts)
        print(f"{cell.key:<46} {json.dumps(facts)}", flush=True)
    if work.wants(cell, work.found()[cell.key]):
        kept = work.masks(cell)
        kept.parent.mkdir(exist_ok=True)
        shutil.rmtree(kept, ignore_errors=True)  # what a killed run left
        (made / "pruned").rename(kept)


def filled(work: Work, cell: Cell, made: Path) -> dict[str, Any]:
    """Quality before and after, speedups, CPU seconds; or why there is none."""
    import prunesim as ps
    from workloads.errors import UserError

    model, seconds = work.model(cell), {}

    def timed(what: str, task: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = task()
        seconds[what] = round(time.process_time() - began, 1)
        return result

    if cell.line == "dense":
        return {"before": quality(model, None), "seconds": seconds}
    try:
        bundle = timed("prune", lambda: pruned(work, cell, made / "pruned"))
    except UserError as error:
        return {"refused": str(error), "seconds": seconds}
    found: dict[str, Any] = {"before": quality(model, bundle), "sparsity": sparsity(bundle), "seconds": seconds}
    found["needs"] = sorted(str(need) for need in needs_of(LINES[cell.line], work))
    found["speedup"] = timed("simulate", lambda: {on: speedup(bundle, on) for on in ON})
    try:
        after = timed("recover", lambda: ps.finetune(
            model.path, masks=bundle, out=made / "trained", steps=work.steps, seed=cell.seed, eval_every=work.steps,
            **model.recover,
        ))  # fmt: skip
        found["after"] = quality(model, after)
    except UserError as error:
        found["unrecovered"] = str(error)
    return found


def pruned(work: Work, cell: Cell, out: Path) -> Any:
    import prunesim as ps

    model, line = work.model(cell), LINES[cell.line]
    target: dict[str, Any] = {"sparsity": cell.target}
    if isinstance(cell.target, str):
        target = {"pattern": cell.target, "fallback": "skip"}
    return ps.prune(
        model.path, out=out, method=line.method, set=settings_of(line, work), seed=cell.seed, **target, **model.prune
    )


def settings_of(line: Line, work: Work) -> dict[str, Any]:
    return line.settings | ({"steps": work.steps} if line.trains else {})


def needs_of(line: Line, work: Work) -> set[str]:
    from pruning.methods import METHODS

    return {*METHODS[line.method](**settings_of(line, work)).needs, *(["training"] if line.trains else [])}


def quality(model: Model, masks: Any) -> float:
    import prunesim as ps

    row = ps.evaluate(model.path, masks=masks, **model.evaluate).frame.iloc[0]
    return float(row["value"] if "value" in row and row["value"] == row["value"] else row["perplexity"])


def sparsity(bundle: Any) -> float:
    """Of the matrices, what was taken out of them included; of factors, their weights."""
    whole = sum(prod(entry.unpruned.shape) for entry in bundle.entries)
    return round(1 - sum(entry.nnz for entry in bundle.entries) / whole, 4)


def speedup(bundle: Any, on: str) -> float | str:
    """Of all layers together, or why it has none."""
    import prunesim as ps
    from workloads.errors import UserError

    try:
        rows = ps.simulate(bundle, on=on, tokens=TOKENS).frame
    except UserError as error:
        return str(error)
    rows = rows[rows["feasible"]]
    return round(float(rows["dense_latency_us"].sum() / rows["latency_us"].sum()), 4)


def measured(work: Work, own: Sequence[Cell]) -> None:
    """The column of cells whose masks are kept: dense over pruned time of all matrices on this machine's CPU."""
    from measured_masks import speedups

    kept = {cell.key: work.masks(cell) for cell in own if work.has_masks(cell)}
    if not kept:
        raise SystemExit(f"{work.folder} keeps no masks of these cells; make them with --keep-masks")
    for key, found in speedups(kept, TOKENS, work.folder / "measured").items():
        if isinstance(found, str):
            print(f"{key}: {found}")
        else:
            work.keep(key, measured=found)


def there(names: str) -> list[str]:
    """The models of a list that this machine has; of each other a line says what is missing."""
    models = names.split(",")
    if unknown := set(models) - set(MODELS):
        raise SystemExit(f"no model {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    for name in models:
        if lacks := MODELS[name].lacks:
            print(f"{name} is left out: there is no {lacks}")
    return [name for name in models if not MODELS[name].lacks]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", default="stories,crepe,silero,chgnet", help=f"of {', '.join(MODELS)}")
    parser.add_argument(
        "--only", default="", help="cells whose key (model | method | target | seed N) has this at a word's beginning"
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=60, help="of recovery, and of methods that train")
    parser.add_argument("--keep-masks", action="store_true", help="of seed 1, for --measure")
    parser.add_argument("--measure", action="store_true", help="time the masks that are kept on this machine's CPU")
    parser.add_argument("--show", action="store_true", help="print the table of what there is")
    parser.add_argument(
        "--page", metavar="MODEL", choices=MODELS, help="print its tables as docs/all-methods.md has them"
    )
    asked = parser.parse_args()
    work = Work(asked.work, asked.steps, asked.keep_masks)
    work.folder.mkdir(parents=True, exist_ok=True)
    if asked.page:
        print(page(work.found(), asked.page, ON))
        return
    if not asked.show:
        own = list(cells(there(asked.models), asked.seeds, asked.only))
        (measured if asked.measure else make)(work, own)
    print(table(work.found(), ON))


def make(work: Work, own: Sequence[Cell]) -> None:
    """Those that are missing, of a method its targets in a process of its own."""
    groups: dict[tuple[str, str, int], list[Cell]] = {}
    found = work.found()
    for cell in own:
        if work.wants(cell, found.get(cell.key)):
            groups.setdefault((cell.model, cell.line, cell.seed), []).append(cell)
    for some in groups.values():
        work.model(some[0])
        peak = measure(prepare, work, some).peak_gb
        for cell in some:
            if cell.key not in found:
                work.keep(cell.key, peak_gb=round(peak, 2))


if __name__ == "__main__":
    main()
