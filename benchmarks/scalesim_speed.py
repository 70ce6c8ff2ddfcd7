"""Time and memory of `systolic` beside the scalesim package 3.0.0, and array cycles of both.

    python -m benchmarks.scalesim_speed          # small GEMMs, three dataflows, five arrays, and 2:4
    python -m benchmarks.scalesim_speed --big    # one 4096 x 4096 layer too: minutes and gigabytes for scalesim

scalesim's time is that of its run, without start and imports; ours that of one evaluation, the mapper's search for
tiles included, with its compiled kernels loaded; memory is the peak of the whole process. Two programs that do
different work: scalesim writes down every operand of every cycle, ours evaluates whole folds.
"""

import argparse
from collections.abc import Iterable

from benchmarks.measuring import measure
from validation.sources.scalesim import BIG, CASES, Case, Row, environment, prepare_ours, row, scalesim


def rows(cases: Iterable[Case]) -> list[Row]:
    """Cycles, seconds and peak GB of both."""
    python = environment()
    result: list[Row] = []
    for case in cases:
        cycles, seconds, peak = scalesim(python, case)
        ours = measure(prepare_ours, case)
        for gemm, theirs, their_seconds, (found, took) in zip(case.gemms, cycles, seconds, ours.result, strict=True):
            times = {"scalesim_seconds": their_seconds, "seconds": took}
            peaks = {"scalesim_peak_gb": peak, "peak_gb": ours.peak_gb}
            result.append(row(case, gemm, theirs, found) | times | peaks)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--big", action="store_true", help="also one 4096 x 4096 layer")
    args = parser.parse_args()
    found = rows([*CASES, BIG] if args.big else CASES)
    print("| array | dataflow | N:M | M | N | K | scalesim | ours | error | scalesim s | ours s |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for r in found:
        shape = f"{r['array']} | {r['dataflow']} | {r['nm']} | {r['m']} | {r['n']} | {r['k']}"
        times = f"{r['scalesim_seconds']:.3f} | {r['seconds']:.5f}"
        print(f"| {shape} | {r['scalesim_cycles']} | {r['cycles']} | {r['error']:.2%} | {times} |")
    theirs, ours = (sum(r[name] for r in found) for name in ("scalesim_seconds", "seconds"))
    worst = max(abs(r["error"]) for r in found)
    print(f"\n{len(found)} cases, largest error {worst:.2%}")
    print(f"{theirs:.1f} s against {ours:.3f} s, {theirs / ours:,.0f} times")
    last = found[-1]
    if args.big:
        speed, memory = last["scalesim_seconds"] / last["seconds"], last["scalesim_peak_gb"] / last["peak_gb"]
        print(
            f"4096 x 4096, {last['m']} tokens, {last['dataflow']} on {last['array']}: {last['scalesim_seconds']:.1f} s "
            f"against {last['seconds'] * 1e3:.2f} ms ({speed:,.0f} times), peak {last['scalesim_peak_gb']:.2f} GB "
            f"against {last['peak_gb']:.2f} GB ({memory:.1f} times)"
        )


if __name__ == "__main__":
    main()
