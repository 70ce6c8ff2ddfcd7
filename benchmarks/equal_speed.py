"""Perplexity at equal speed: allocated sparsities, each tuned until the whole model is as fast as asked on the machine,
beside every plan that `prune --speedup` tries, with its divergence on held-out sequences, by which that one chooses.

    python -m benchmarks.equal_speed --out results.jsonl [--seeds 1] [--methods owl,plans] [--on vitcod:decode]

One line of JSON a run; lines that are there are not made again. Written for the demo model; --model takes another.
`plans` and `mixed` make a line each for the knapsack's plan, the even one, OWL's and the searched one; `owl` is tuned
by its final masks. `shapes` and `both`, also with other choices, are what that command takes: where neurons, kv groups
and blocks may go too, and where the other phase is to be 1.25 times as fast as well.
"""

import argparse
import json
import tempfile
import time
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
from studies.speed.demands import whole_us
from studies.speed.meet import Meeting
from workloads.bundle import MaskBundle
from workloads.cost_curve import priced
from workloads.errors import UserError

DEMO = Path(__file__).parents[1] / "examples" / "demo-model"
SPEEDS = (1.25, 1.5, 1.75)
NEAR = 0.005  # of the speed asked for
TRIES = 6
LONG_TRIES = 3  # of a method that trains
STEP = 0.02  # from the sparsity that the table says to the next one that is tried
TUNED: dict[str, dict[str, Any]] = {
    "owl": {"method": "wanda", "allocation": "owl"},
    "alpha": {"method": "wanda", "allocation": "alpha"},
    "besa": {"method": "besa"},
    "besa-cost": {"method": "besa"},
    "besa-cost-lanes": {"method": "besa", "set": {"lanes": 64}},
    "besa-span": {"method": "besa", "set": {"span": 3}},
    "besa-cost-span": {"method": "besa", "set": {"span": 3}},
}
PLANNED: dict[str, dict[str, Any]] = {
    "plans": {"choices": "unstructured", "errors": "probe"},
    "mixed": {"choices": "unstructured,2:4,bits:4", "errors": "probe"},
    "mixed-8": {"choices": "unstructured,bits:8", "errors": "probe"},  # of records, which may have no other kernels
    "plans-output": {"choices": "unstructured", "errors": "output"},
    "mixed-output": {"choices": "unstructured,2:4,bits:4", "errors": "output"},
    "plans-kl": {"choices": "unstructured", "errors": "kl"},
    "besa-plans": {"choices": "unstructured", "errors": "probe", "method": "besa"},
}
TAKEN: dict[str, dict[str, Any]] = {  # of these what `prune --speedup` takes alone
    "shapes": {"choices": "unstructured,neurons,heads,blocks"},
    "shapes-mixed": {"choices": "unstructured,2:4,bits:4,neurons,heads,blocks"},
    "both": {"choices": "unstructured", "also": True},
    "both-mixed": {"choices": "unstructured,2:4,bits:4", "also": True},
}
ALSO = 1.25  # times as fast in the other phase too


@dataclass(frozen=True)
class Setting:
    model: str
    samples: int
    seq_len: int
    windows: int
    size: int  # of the context, or of the prompt
    calibration: str = ""  # text, "": that in the model's folder
    evaluation: str = ""
    searches: int = 40

    def data(self) -> CalibrationConfig:
        text = self.calibration or str(Path(self.model) / "calibration.txt")
        return CalibrationConfig(calibration=text, samples=self.samples, seq_len=self.seq_len)

    def perplexity(self, masks: MaskBundle) -> float:
        checkpoint = open_checkpoint(self.model, "float32")
        text = self.evaluation or str(Path(self.model) / "evaluation.txt")
        asked = EvaluationConfig(text=text, seq_len=self.seq_len, windows=self.windows)
        return family_of(checkpoint).quality(checkpoint, masks, asked, Silent()).value

    def meeting(
        self, on: str, phase: str, speed: float, seed: int, choices: str, errors: str, method: str, also: bool = False
    ) -> Meeting:
        of = {"decode": ("context", "prefill"), "prefill": ("prompt", "decode")}[phase]
        sizes: dict[str, Any] = {"context": self.size, "prompt": self.size} if also else {of[0]: self.size}
        asked = SpeedConfig(
            speedup=speed, on=on, phase=phase, choices=choices, errors=errors, searches=self.searches,
            also=f"{of[1]}:{ALSO:g}" if also else None, **sizes,
        )  # fmt: skip
        return Meeting(
            partial(open_checkpoint, self.model, "float32"), self.model, PruneConfig(method, seed=seed), self.data(),
            asked, Silent(), lambda text: None,
        )  # fmt: skip


def tuned(setting: Setting, meeting: Meeting, asked: PruneConfig, work: Path, costed: bool) -> tuple[MaskBundle, float]:
    """(masks, speedup) at the least sparsity found whose model is as fast as asked: the even one by the cost table,
    then steps from there, halved once they have it between them. `costed`: budgets are learned against the cost of that
    even sparsity, not against its weights."""
    machine, phase, decoder = meeting.machine(), meeting.phase(), meeting.decoder()
    table = meeting.table(machine, phase, decoder, work / "costs.json")
    wanted = meeting.speed.speedup or 1.0
    budget, curves = table.budget(wanted), priced(table)  # of even rows
    sparsity, step, best = curves.even(budget / curves.dense), STEP, None
    low, high = 0.0, 0.94
    for number in range(TRIES if asked.method != "besa" else LONG_TRIES):
        sparsity = round(sparsity, 5)
        recipe = recipe_for(setting.model, meeting.opened(), replace(asked, sparsity=sparsity), setting.data())
        recipe = replace(recipe, costs=curves) if costed else recipe
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


def run(
    setting: Setting, on: str, phase: str, speed: float, seed: int, name: str, shared: Path
) -> Iterator[dict[str, Any]]:
    """Rows: what is found, or the reason why it is not; of plans one each."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        of = {"method": "wanda", "choices": "unstructured", "errors": "probe"} | (PLANNED | TAKEN).get(name, {})
        meeting = setting.meeting(on, phase, speed, seed, **of)
        if name in TUNED:
            try:
                asked = PruneConfig(seed=seed, **TUNED[name])
                masks, found = tuned(setting, meeting, asked, work, name.startswith("besa-cost"))
                yield judged(setting, meeting, masks, {"speedup": found})
            except UserError as error:
                yield {"reason": str(error)}
            return
        if name in TAKEN:
            try:
                masks, met = meeting.run(work / "masks")
                more = {"plan": met.plan, "speedup": met.final, "additive": met.additive, "removed": met.removed}
                yield judged(setting, meeting, masks, more | {"also": met.also})
            except UserError as error:
                yield {"reason": str(error)}
            return
        kept = shared / f"{on}-{phase}-{seed}-{of['choices'].replace(':', '')}"
        errors_at = shared / f"{seed}-{of['choices'].replace(':', '')}-{of['errors']}"
        for each in (kept, errors_at):
            each.mkdir(parents=True, exist_ok=True)
        try:
            demands = meeting.demands(kept)
        except UserError as error:
            yield {"reason": str(error)}
            return
        errors = meeting.errors(demands[0].table, errors_at)
        for plan, make in meeting.planners(demands, errors, work).items():
            try:
                masks, one, rounds = meeting.meet(demands, make(), work)
                more = {"speedup": one.final, "additive": one.additive, "gap": one.gap, "rounds": rounds}
                yield {"plan": plan} | judged(setting, meeting, masks, more)
            except UserError as error:
                yield {"plan": plan, "reason": str(error)}


def judged(setting: Setting, meeting: Meeting, masks: MaskBundle, more: dict[str, Any]) -> dict[str, Any]:
    bits = sum(entry.layer.n_weights * (entry.weight_bits or 16) for entry in masks.layers)
    weights = sum(entry.layer.n_weights for entry in masks.layers)
    return {
        "perplexity": setting.perplexity(masks), "kl": meeting.apart(masks), "sparsity": masks.sparsity,
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
    parser.add_argument("--methods", default="plans,owl,alpha,mixed,besa,besa-cost")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--calibration", default="")
    parser.add_argument("--evaluation", default="")
    parser.add_argument("--searches", type=int, default=40)
    arguments = parser.parse_args()
    if strange := set(arguments.methods.split(",")) - {*TUNED, *PLANNED, *TAKEN}:
        parser.error(f"--methods: {min(strange)} is none of {', '.join((*TUNED, *PLANNED, *TAKEN))}")
    setting = Setting(
        arguments.model, arguments.samples, arguments.seq_len, arguments.windows, arguments.size,
        arguments.calibration, arguments.evaluation, arguments.searches,
    )  # fmt: skip
    there = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.is_file() else []
    names = ("seed", "on", "phase", "speed", "method")
    done = {tuple(row[name] for name in names) for row in there if row["setting"] == asdict(setting)}
    for key in wanted(arguments):
        if key in done:
            continue
        seed, on, phase, speed, name = key
        began = time.monotonic()
        rows = [
            dict(zip(names, key, strict=True)) | found | {"setting": asdict(setting)}
            for found in run(setting, on, phase, speed, seed, name, arguments.out.with_suffix(".work"))
        ]
        with arguments.out.open("a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
        for row in rows:
            print({name: value for name, value in row.items() if name != "setting"}, flush=True)
        print(f"{time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
