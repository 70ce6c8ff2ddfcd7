"""Seconds that the cost table of LLaMA-7B takes on a machine (224 matrices, 15 levels each), and a plan by it.

    python benchmarks/cost_table_7b.py [--on vitcod,stc,sparten,a100-sxm]

Masks are made, so the first table of a process pays for compiling too. Errors are made up: they rise with the sparsity.
"""

import argparse
import time

import numpy as np

from checkpoints.catalog import resolve_config
from checkpoints.catalog_layers import linears_of
from checkpoints.decoders import decoder_of
from pruning.budget.knapsack import solve
from studies.speed.costs import Machine, cost_table
from workloads.choices import choices_of
from workloads.phases import decode, prefill


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--on", default="vitcod,stc,sparten,a100-sxm")
    arguments = parser.parse_args()
    _, config = resolve_config("llama-7b")
    decoder, layers, choices = decoder_of(config), linears_of(config), choices_of(["unstructured"])
    draw = np.random.default_rng(0)
    for name in arguments.on.split(","):
        machine = Machine.open(name)
        for phase in (decode(1, 1024), prefill(1, 2048)):
            begin = time.perf_counter()
            table = cost_table(decoder, layers, machine, phase, choices, even=True)
            made = time.perf_counter() - begin
            weights = draw.lognormal(0, 1, (len(table.units), 1))
            errors = weights * np.array([choice.zeros for choice in choices]) ** 3
            solve(list(errors[:2]), list(table.costs[:2]), float(table.costs[:2, 0].sum()))  # compiled
            begin = time.perf_counter()
            found = solve(list(errors), list(table.costs), 0.7 * float(table.costs[:, 0].sum())) if (
                np.nanmin(table.costs, axis=1).sum() < 0.7 * table.costs[:, 0].sum()
            ) else None  # fmt: skip
            spent = time.perf_counter() - begin
            plan = "no choice saves enough" if found is None else f"plan {spent:.2f} s, gap {found.gap:.3%}"
            print(f"{name} {phase.name}: {len(table.units)} units, table {made:.1f} s, {plan}", flush=True)


if __name__ == "__main__":
    main()
