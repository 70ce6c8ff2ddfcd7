"""Perplexity at equal speed: uniform and allocated sparsities, each tuned until the whole model is as fast as asked on
the machine, beside plans of the knapsack.

    python -m benchmarks.equal_speed --out results.jsonl [--seeds 1] [--methods uniform,knapsack] [--on vitcod:decode]

One line of JSON a run; lines that are there are not made again. Written for the demo model; --model takes another.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pruning.config import CalibrationConfig, EvaluationConfig, PruneConfig
from pruning.families import family_of
from pruning.run.driver import prune
from studies.progress import Silent
from studies.prune import open_checkpoint, recipe_for
from studies.speed.asked import SpeedConfig
from studies.speed.meet import Meeting, whole_us
from studies.speed.planners import knapsack
from workloads.bundle import MaskBundle
from workloads.cost_curve import priced
from workloads.errors import UserError

DEMO = Path(__file__).parents[1] / "examples" / "demo-model"
SPEEDS = (1.25, 1.5, 1.75)
NEAR = 0.005  # of the speed asked for
TRIES = 6
STEP = 0.02  # from the sparsity that the table says to the next one that is tried
UNIFORM: dict[str, dict[str, Any]] = {
    "uniform": {"method": "wanda"},
    "owl": {"method": "wanda", "allocation": "owl"},
    "alpha": {"method": "wanda", "allocation": "alpha"},
    "besa": {"method": "besa"},
}
PLANNED: dict[str, dict[str, Any]] = {
    "knapsack-output": {"choices": "unstructured", "errors": "output"},
    "knapsack": {"choices": "unstructured", "errors": "probe"},
    "knapsack-kl": {"choices": "unstructured", "errors": "kl"},
    "mixed": {"choices": "unstructured,2:4,bits:4", "errors": "probe"},
    "knapsack-2:4": {"choices": "2:4", "errors": "probe"},
    "besa-knapsack": {"choices": "unstructured", "errors": "probe", "method": "besa"},
    "besa-mixed": {"choices": "unstructured,2:4,bits:4", "errors": "probe", "method": "besa"},
}


@dataclass(frozen=True)
class Setting:
    model: str
    samples: int
    seq_len: int
    windows: int
    size: int  # of the context, or of the prompt

    def data(self) -> CalibrationConfig:
        text = Path(self.model) / "calibration.txt"
        return CalibrationConfig(calibration=str(text), samples=self.samples, seq_len=self.seq_len)

    def perplexity(self, masks: MaskBundle) -> float:
        checkpoint = open_checkpoint(self.model, "float32")
        text = str(Path(self.model) / "evaluation.txt")
        asked = EvaluationConfig(text=text, seq_len=self.seq_len, windows=self.windows)
        return family_of(checkpoint).quality(checkpoint, masks, asked, Silent()).value

    def meeting(self, on: str, phase: str, speed: float, seed: int, choices: str, errors: str, method: str) -> Meeting:
        sizes: dict[str, Any] = {"context": self.size} if phase == "decode" else {"prompt": self.size}
        asked = SpeedConfig(speedup=speed, on=on, phase=phase, choices=choices, errors=errors, **sizes)
        return Meeting(
            partial(open_checkpoint, self.model, "float32"), self.model, PruneConfig(method, seed=seed), self.data(),
            asked, Silent(), lambda text: None,
        )  # fmt: skip


def tuned(setting: Setting, meeting: Meeting, asked: PruneConfig, work: Path) -> tuple[MaskBundle, float]:
    """(masks, speedup) at the least sparsity found whose model is as fast as asked: the even one by the cost table,
    then steps from there, halved once they have it between them."""
    machine, phase, decoder = meeting.machine(), meeting.phase(), meeting.decoder()
    table = meeting.table(machine, phase, decoder, work / "costs.json")
    wanted = meeting.speed.speedup or 1.0
    budget, curves = table.budget(wanted), priced(table)  # of even rows, as all of UNIFORM make
    sparsity, step, best = curves.even(budget / curves.dense), STEP, None
    low, high = 0.0, 0.94
    for number in range(TRIES):
        sparsity = round(sparsity, 5)
        recipe = recipe_for(setting.model, meeting.opened(), replace(asked, sparsity=sparsity), setting.data())
        masks = prune(meeting.opened(), recipe, work / f"try-{number}", Silent(), lambda text: None)
        found = table.dense / whole_us(machine, phase, decoder, masks)
        if found >= wanted:
            high, best = sparsity, (masks, found)
            if found <= wanted * (1 + NEAR):
                break
        else:
            low = sparsity
        beside = sparsity - step if found >= wanted else sparsity + step
        sparsity, step = beside if low < beside < high else (low + high) / 2, 2 * step
    if best is None:
        raise UserError(f"not reached: {found:.3f} at {sparsity:g}")
    return best


def run(setting: Setting, on: str, phase: str, speed: float, seed: int, name: str, shared: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        try:
            if name in UNIFORM:
                meeting = setting.meeting(on, phase, speed, seed, "unstructured", "probe", "wanda")
                masks, found = tuned(setting, meeting, PruneConfig(seed=seed, **UNIFORM[name]), work)
                more: dict[str, Any] = {}
            else:
                of = {"method": "wanda", **PLANNED[name]}
                meeting = setting.meeting(on, phase, speed, seed, **of)
                machine, phased, decoder = meeting.machine(), meeting.phase(), meeting.decoder()
                kept = shared / f"{on}-{phase}-{seed}-{of['choices'].replace(':', '')}-{of['errors']}"
                kept.mkdir(parents=True, exist_ok=True)
                table = meeting.table(machine, phased, decoder, kept / "costs.json")
                budget = table.budget(speed)
                errors = meeting.errors(table, kept)
                planner = knapsack(table, errors)
                masks, one, rounds = meeting.meet(table, budget, planner, machine, phased, decoder, work)
                found, more = one.final, {"additive": one.additive, "gap": one.gap, "rounds": rounds}
        except UserError as error:
            return {"reason": str(error)}
        bits = sum(entry.layer.n_weights * (entry.weight_bits or 16) for entry in masks.layers)
        weights = sum(entry.layer.n_weights for entry in masks.layers)
        return {
            "perplexity": setting.perplexity(masks), "speedup": found, "sparsity": masks.sparsity,
            "bits": bits / weights, **more,
        }  # fmt: skip


def wanted(arguments: argparse.Namespace) -> Iterator[tuple[int, str, str, float, str]]:
    for seed in range(arguments.seeds):
        for place in arguments.on.split(","):
            on, phase = place.rsplit(":", 1)
            for speed in map(float, arguments.speeds.split(",")):
                for name in arguments.methods.split(","):
                    yield seed, on, phase, speed, name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default=str(DEMO))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--speeds", default=",".join(map(str, SPEEDS)))
    parser.add_argument("--on", default="vitcod:decode,vitcod:prefill")
    parser.add_argument("--methods", default="uniform,owl,alpha,besa,knapsack,mixed,besa-knapsack")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--size", type=int, default=256)
    arguments = parser.parse_args()
    setting = Setting(arguments.model, arguments.samples, arguments.seq_len, arguments.windows, arguments.size)
    there = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.is_file() else []
    names = ("seed", "on", "phase", "speed", "method")
    done = {tuple(row[name] for name in names) for row in there if row["setting"] == asdict(setting)}
    for key in wanted(arguments):
        if key in done:
            continue
        seed, on, phase, speed, name = key
        found = run(setting, on, phase, speed, seed, name, arguments.out.with_suffix(".work"))
        row = dict(zip(names, key, strict=True)) | found | {"setting": asdict(setting)}
        with arguments.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print({name: value for name, value in row.items() if name != "setting"}, flush=True)


if __name__ == "__main__":
    main()
