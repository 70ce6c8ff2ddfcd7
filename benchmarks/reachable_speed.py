"""The most that a whole phase of a model gains on a machine with the cheapest choice everywhere, by kinds of choices.

    python benchmarks/reachable_speed.py [--model llama-7b] [--on vitcod,stc,a100-sxm] [--context 1024] [--prompt 2048]

From shapes alone: what no choice changes (attention, head, host) is what stands in the way, and machines that gain
nothing from a kind.
"""

import argparse

import numpy as np

from checkpoints.catalog import resolve_config
from checkpoints.catalog_layers import linears_of
from checkpoints.decoders import decoder_of
from studies.speed.costs import Machine, cost_table
from workloads.choices import choices_of
from workloads.phases import decode, prefill

KINDS = ("unstructured", "2:4", "bits:4", "2:4,bits:4", "unstructured,2:4,bits:4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="llama-7b")
    parser.add_argument("--on", default="vitcod,stc,a100-sxm")
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--prompt", type=int, default=2048)
    parser.add_argument("--kinds", default=";".join(KINDS))
    arguments = parser.parse_args()
    _, config = resolve_config(arguments.model)
    decoder, layers = decoder_of(config), linears_of(config)
    for on in arguments.on.split(","):
        machine = Machine.open(on)
        for phase in (decode(1, arguments.context), prefill(1, arguments.prompt)):
            found = []
            for kinds in arguments.kinds.split(";"):
                table = cost_table(decoder, layers, machine, phase, choices_of(kinds.split(",")), even=True)
                best = table.dense / (table.fixed + float(np.nanmin(table.costs, axis=1).sum()))
                found.append(f"{kinds} {best:.2f}")
            print(f"{on} {phase.name}: fixed {table.fixed / table.dense:.0%}; {'; '.join(found)}", flush=True)


if __name__ == "__main__":
    main()
