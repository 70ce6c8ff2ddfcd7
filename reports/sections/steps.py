"""Runs that go on from others, step by step."""

from reports.contents import Contents
from reports.section import PAPER, READ, Section, Table
from reports.tables.steps import step_table
from reports.words import statements
from reports.words.units import with_time_unit

_COLUMNS = [
    *("model", "target", "settings", "tokens", "activation_density", "source", "method", "pattern", "sparsity"),
    *("perplexity", "dense_perplexity", "latency_us", "step_speedup", "total_speedup"),
]


def steps(contents: Contents) -> Section | None:
    found = step_table(contents.headline, contents.after)
    if found.empty:
        return None
    table = Table(
        found,
        _COLUMNS,
        "Smaller, then masked, then quantized: each step after the one before it",
        label="steps",
        paper_caption="Each step after the one before it.",
        shared=("model", "settings", "activation_density", "source", "dense_perplexity"),
        units=with_time_unit,
        only=READ | PAPER,
        file="steps.csv",
    )
    return Section("Step by step", [table], statements.HOW_STEPS, {"steps.csv": found})
