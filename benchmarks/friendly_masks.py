"""What masks that suit a machine cost in perplexity and gain in cycles: Wanda at one sparsity, more and more even.

    python -m benchmarks.friendly_masks [--on vitcod:prefill,vitcod:decode,sparten:prefill]

layer: the lowest scores of a matrix; row: as many of every row; N:M with long and short runs: as many of each run of M
inputs of a row, so that no lane waits for another; BESA with a budget a row, and with one for each 64 rows (lanes).
Speedups are of the linears alone: the unpruned time of all of them over that under the masks.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.equal_speed import DEMO, Setting
from pruning.config import PruneConfig
from pruning.run.driver import prune
from simulator.inference.steps import times_of
from studies.phase_rows import phase_of
from studies.progress import Silent
from studies.prune import open_checkpoint, recipe_for
from studies.speed.costs import Machine
from workloads.bundle import MaskBundle

KINDS: dict[str, dict[str, Any]] = {
    "layer": {"method": "wanda", "sparsity": 0.5, "rule": "layer"},
    "row": {"method": "wanda", "sparsity": 0.5, "rule": "row"},
    "32:64": {"method": "wanda", "pattern": "32:64"},
    "16:32": {"method": "wanda", "pattern": "16:32"},
    "8:16": {"method": "wanda", "pattern": "8:16"},
    "4:8": {"method": "wanda", "pattern": "4:8"},
    "2:4": {"method": "wanda", "pattern": "2:4"},
    "besa": {"method": "besa", "sparsity": 0.5},
    "besa, lanes=64": {"method": "besa", "sparsity": 0.5, "set": {"lanes": 64}},
}


def linears_us(machine: Machine, setting: Setting, phase: str, masks: MaskBundle | None) -> float:
    from checkpoints.decoders import decoder_of

    size = {"context": setting.size} if phase == "decode" else {"prompt": setting.size}
    work = phase_of(phase, 1, size.get("prompt"), size.get("context"))
    assert work is not None
    decoder = decoder_of(open_checkpoint(setting.model, "float32").config.to_dict())
    runner, left = machine.runner, decoder
    if masks is not None:
        runner, left, _ = runner.holding(decoder, masks, frozenset({work.tokens}))
    times = times_of(runner, left, work, machine.numbers, machine.stack)
    return sum(row.us for row in times.rows if row.group == "linears")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(DEMO))
    parser.add_argument("--on", default="vitcod:prefill,vitcod:decode,sparten:prefill")
    parser.add_argument("--kinds", default=";".join(KINDS))
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--windows", type=int, default=32)
    arguments = parser.parse_args()
    setting = Setting(arguments.model, arguments.samples, 256, arguments.windows, 256)
    places = [place.rsplit(":", 1) for place in arguments.on.split(",")]
    machines = {on: Machine.open(on) for on, _ in places}
    dense = [linears_us(machines[on], setting, phase, None) for on, phase in places]
    print("| masks | perplexity |", " | ".join(f"{on} {phase}" for on, phase in places), "|")
    print("|---|---|" + "---|" * len(places))
    for kind in arguments.kinds.split(";"):
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = open_checkpoint(setting.model, "float32")
            recipe = recipe_for(setting.model, checkpoint, PruneConfig(**KINDS[kind]), setting.data())
            masks = prune(checkpoint, recipe, Path(folder) / "masks", Silent(), lambda text: None)
            speeds = [
                before / linears_us(machines[on], setting, phase, masks)
                for (on, phase), before in zip(places, dense, strict=True)
            ]
            shown = " | ".join(f"{speed:.2f}" for speed in speeds)
            print(f"| {kind} | {setting.perplexity(masks):.2f} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
