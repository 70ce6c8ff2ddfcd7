"""What all_methods.py found, as Markdown, mean and spread over seeds: a line a model, method and target, refusals once
each; or the tables of one model as docs/all-methods.md has them."""

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


MASKED, SMALLER, NONE = ("50%", "70%", "2:4"), "30%", "\N{EN DASH}"


def page(cells: Mapping[str, Mapping[str, Any]], model: str, on: Sequence[str]) -> str:
    """Of one model two tables: methods by the share of zeros, with the speed on the first machine, and those that take
    something out, on all. "before / after"; +- is the standard deviation over seeds."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for key, facts in cells.items():
        of, method, target, _ = key.split(" | ")
        if of == model and "before" in facts:
            found.setdefault((method, target), []).append(facts)
    methods = list(dict.fromkeys(method for method, _ in found if method != "dense"))
    if not methods:
        return f"No cell of {model} is there."
    lines = ["| | 50 % | | 70 % | | 2:4 | |", "|---|---|---|---|---|---|---|"]
    for method in methods:
        cell = [found.get((method, target), []) for target in MASKED]
        if any(cell):
            lines.append(f"| `{method}` | " + " | ".join(part for some in cell for part in short(some, on[:1])) + " |")
    lines += ["", "| | 30 % asked, of weights gone | before / after | " + " | ".join(f"`{name}`" for name in on) + " |"]
    lines.append("|---" * (3 + len(on)) + "|")
    for method in methods:
        if some := found.get((method, SMALLER)):
            gone = statistics.mean(facts["sparsity"] for facts in some)
            lines.append(f"| `{method}` | {gone:.1%} | " + " | ".join(short(some, on)) + " |")
    return "\n".join(lines)


def short(some: Sequence[Mapping[str, Any]], on: Sequence[str]) -> list[str]:
    """Quality before and after, and the mean speedups."""
    if not some:
        return [NONE] * (1 + len(on))
    both = " / ".join(over([facts[when] for facts in some if when in facts]) or NONE for when in ("before", "after"))
    speeds = [[x for f in some if isinstance(x := f["speedup"].get(name), float)] for name in on]
    return [both, *(f"{statistics.mean(values):.2f}x" if values else NONE for values in speeds)]
