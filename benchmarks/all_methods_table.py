"""What all_methods.py found, as Markdown: a line a model, method and target, mean and spread over seeds; refusals once
each."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def table(cells: Mapping[str, Mapping[str, Any]], on: Sequence[str]) -> str:
    """cells: facts by "model | method | target | seed N"; `on`: the machines that they have speedups on."""
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for key, facts in cells.items():
        lines.setdefault(key.rpartition(" | ")[0], []).append(facts)
    timed = any("measured" in facts for facts in cells.values())
    named = [*on, *(["this CPU (--measure)"] if timed else [])]
    head = "| model | method | target | before | after | " + " | ".join(named) + " | CPU s to prune | peak GB |"
    return "\n".join([head, "|" + "---|" * (7 + len(named)), *(row(*line, on, timed) for line in lines.items())])


def row(line: str, every: Sequence[Mapping[str, Any]], on: Sequence[str], timed: bool) -> str:
    made = [facts for facts in every if "before" in facts]
    if not made:
        return f"| {line} | {every[0]['refused']} |"
    speeds = [over([f.get("speedup", {}).get(name) for f in made], "x") for name in on]
    speeds += [over([f.get("measured") for f in made], "x")] if timed else []
    quality = [over([f[when] for f in made if when in f]) for when in ("before", "after")]
    cost = [over([f["seconds"].get("prune") for f in made]), over([f.get("peak_gb") for f in made])]
    return f"| {line} | " + " | ".join([*quality, *speeds, *cost]) + " |"


def over(values: Sequence[Any], unit: str = "") -> str:
    """Mean and standard deviation of the numbers among them, "" of none."""
    known = [value for value in values if isinstance(value, float)]
    if not known:
        return ""
    spread = f" +- {statistics.stdev(known):.2g}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.4g}{unit}{spread}"
