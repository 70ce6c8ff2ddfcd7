"""What equal_speed.py found, as the table and the figure of docs/speed.md, from the lines it wrote.

    python -m benchmarks.equal_speed_figure results.jsonl --csv docs/equal-speed.csv
    python -m benchmarks.equal_speed_figure docs/equal-speed.csv --figure docs/equal-speed.png

Of the plans that were tried the one that held-out sequences are nearest to is marked as taken; perplexities are of the
test text, the mean over seeds and their spread (lowest to highest).
"""

import argparse
from pathlib import Path

import pandas as pd

COLUMNS = [
    "on",
    "phase",
    "speed",
    "seed",
    "method",
    "plan",
    "perplexity",
    "kl",
    "speedup",
    "sparsity",
    "bits",
    "reason",
]
FROM, TICKS = 15, (20, 30, 50, 100)  # of perplexity
ACROSS = 2  # panels
IN_WORDS = {
    "plans": "zeros",
    "mixed": "zeros, 2:4, 4 bits",
    "shapes": "zeros, neurons, heads, blocks",
    "shapes-mixed": "all of these",
    "both": "zeros, prefill 1.25x too",
    "owl": "OWL, tuned",
    "besa": "BESA, tuned",
    "besa-cost": "BESA with costs, tuned",
    "besa-span": "BESA, three blocks at once, tuned",
}
UNITED = ("plans", "mixed", "mixed-8", "plans-output", "mixed-output")  # methods of several plans
TAKEN = ("shapes", "shapes-mixed", "both", "both-mixed")  # of several plans too, with a line of the one taken alone


def read(path: Path) -> pd.DataFrame:
    """Both forms; the lines that are twice there as they were last made."""
    rows = pd.read_csv(path) if path.suffix == ".csv" else pd.read_json(path, lines=True)
    for name in COLUMNS:
        if name not in rows:
            rows[name] = None
    rows = rows[COLUMNS].drop_duplicates(COLUMNS[:6], keep="last")
    return rows.sort_values(["on", "phase", "speed", "method", "plan", "seed"], kind="stable").reset_index(drop=True)


def named(rows: pd.DataFrame) -> pd.DataFrame:
    """With a column `name`: the method, its plan, and of each method of several plans the taken one again."""
    ran = rows[rows["perplexity"].notna()].copy()
    ran["name"] = [f"{m}: {p}" if isinstance(p, str) else m for m, p in zip(ran["method"], ran["plan"], strict=True)]
    ran.loc[ran["method"].isin(TAKEN), "name"] = ran["method"] + ": taken"
    several = ran[ran["method"].isin(UNITED)]
    best = several.loc[several.groupby(["on", "phase", "speed", "seed", "method"])["kl"].idxmin()].copy()
    best["name"] = [f"{method}: taken" for method in best["method"]]
    return pd.concat([ran, best])


def table(rows: pd.DataFrame) -> str:
    """Markdown, a line for each place and name."""
    lines = [
        "| on | asked | | perplexity | lowest to highest | seeds | speedup | zeros |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (on, phase, speed, name), some in named(rows).groupby(["on", "phase", "speed", "name"]):
        p = some["perplexity"]
        spread = f"{p.min():.2f} to {p.max():.2f}" if len(p) > 1 else ""
        lines.append(
            f"| {on} {phase} | {speed:g} | {name} | {p.mean():.2f} | {spread} | {len(p)} "
            f"| {some['speedup'].mean():.3f} | {some['sparsity'].mean():.1%} |"
        )
    refused = rows[rows["reason"].notna()]
    why = dict.fromkeys(f"{r.on} {r.phase} {r.speed:g} {r.method}: {r.reason}" for r in refused.itertuples())
    return "\n".join([*lines, *why])  # every seed has the same reason


def in_words(name: str) -> str:
    method, colon, plan = name.partition(":")
    return IN_WORDS.get(method, method) + colon + plan


def draw(rows: pd.DataFrame, path: Path) -> None:
    """A panel for each machine, phase and speed, all on one axis; dots are seeds, circles their mean. Of several
    kinds of choices the plan that was taken alone."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = named(rows)
    shown = shown[(shown["method"] != "mixed") | shown["name"].str.endswith("taken")]
    places = list(shown.groupby(["on", "phase", "speed"]))
    lines = -(-len(places) // ACROSS)
    figure, panels = plt.subplots(lines, ACROSS, figsize=(4.6 * ACROSS, 2.7 * lines), squeeze=False, sharex=True)
    for panel in panels.flat[len(places) :]:
        panel.remove()
    for panel, ((on, phase, speed), some) in zip(panels.flat, places, strict=False):
        names = list(some.groupby("name")["perplexity"].mean().sort_values().index)
        for n, name in enumerate(names):
            p = some[some["name"] == name]["perplexity"]
            colour = "tab:orange" if name.endswith("taken") else "tab:blue"
            panel.plot(p.mean(), n, "o", color=colour, markersize=8, fillstyle="none")
            panel.plot(p, [n] * len(p), ".", color=colour, markersize=4)
            panel.annotate(f"{p.mean():.1f}", (p.max(), n), (7, 0), textcoords="offset points", va="center", fontsize=7)
        panel.set_yticks(range(len(names)), map(in_words, names), fontsize=7)
        panel.invert_yaxis()
        panel.set_xscale("log")
        panel.set_xlim(FROM, max(FROM, shown["perplexity"].max()) * 2)
        panel.set_xticks(TICKS, map(str, TICKS))
        panel.minorticks_off()
        panel.grid(axis="x", alpha=0.3)
        panel.set_title(f"{phase} on {on}, {speed:g} times", fontsize=9)
        panel.set_xlabel("perplexity (log)", fontsize=8)
        panel.tick_params(axis="x", which="both", labelsize=7, labelbottom=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    rows = read(arguments.results)
    if arguments.csv:
        rows.round(6).to_csv(arguments.csv, index=False, lineterminator="\n")
    if arguments.figure:
        draw(rows, arguments.figure)
    print(table(rows))


if __name__ == "__main__":
    main()
