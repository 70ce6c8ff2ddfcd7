"""Which kind of compression pays on which machine, where each may cost the same perplexity."""

from reports.contents import Contents
from reports.section import PAPER, READ, Section, Table, some_of
from reports.tables.equal_perplexity import equal_perplexity, side_by_side
from reports.words import statements

_COLUMNS = [
    "target",
    "settings",
    "tokens",
    "activation_density",
    "source",
    "perplexity_limit_ratio",
    "perplexity_limit",
]


def at_equal_perplexity(contents: Contents) -> Section | None:
    found = equal_perplexity(contents.headline, contents.perplexities, contents.after)
    if found.empty:
        return None
    tables = [
        Table(
            table,
            [*_COLUMNS, *(name for name in table.columns if name.endswith(("@speedup", "@run")))],
            f"{model}: the fastest of each kind",
            label="equal-perplexity-",
            paper_caption=f"{model}: the fastest of each kind within a perplexity.",
            shared=("settings", "activation_density", "source"),
            only=READ | PAPER,
        )
        for model, table in side_by_side(found)
    ]
    blocks = some_of(tables, "equal-perplexity.csv")
    return Section("At equal perplexity", blocks, statements.HOW_EQUAL_PERPLEXITY, {"equal-perplexity.csv": found})
