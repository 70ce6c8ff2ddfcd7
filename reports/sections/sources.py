"""One GEMM by several sources: what was predicted beside what was measured or published."""

from reports.contents import Contents
from reports.section import PAPER, TERMINAL, Block, Points, Section, Table, Text
from reports.tables.gemms import error_sentences, sources_table
from reports.words import statements

COLUMNS = [
    *("where", "target", "dtype", "tokens", "shapes", "reference"),
    *("given@dense_us", "given@sparse24_us", "given@speedup"),
    *("predicted@dense_us", "predicted@sparse24_us", "predicted@speedup"),
    *("error (%)@dense_error", "error (%)@sparse24_error", "error (%)@speedup_error", "stated_p90"),
]
_IN_TERMINAL = 10  # lines


def sources(contents: Contents) -> Section | None:
    table = contents.rows if contents.rows.empty else sources_table(contents.rows)
    if table.empty:
        return None
    errors = error_sentences(table)
    said = [*errors, *filter(None, [ratios_alone(contents)])]
    caption = "The same GEMM by each source"
    blocks: list[Block] = [Points(said)] if said else []
    blocks.append(Table(table, COLUMNS, caption=caption, shared=("target", "dtype", "tokens")))
    on_paper = " ".join([f"{caption}.", *errors])
    blocks.append(Table(table, COLUMNS, label="sources", paper_caption=on_paper, only=PAPER))
    more = f", the first {_IN_TERMINAL} of {len(table):,} lines" if len(table) > _IN_TERMINAL else ""
    narrow = [name for name in COLUMNS if name not in ("where", "target")]
    blocks.append(Table(table.head(_IN_TERMINAL), narrow, caption=f"One GEMM by each source{more}", only=TERMINAL))
    blocks += [Text(sentence, only=TERMINAL) for sentence in errors]
    return Section("Predicted, measured, published", blocks, statements.HOW_SOURCES, files={"sources.csv": table})


def ratios_alone(contents: Contents) -> str:
    """How many published figures are only in the table of sources; empty when none."""
    published = [
        0 if rows.empty else int((rows["source"] == "published").sum()) for rows in (contents.rows, contents.plain)
    ]
    out = published[0] - published[1]
    said = f"{out:,} published rows are a ratio, or one of both times, alone: they are in this table and in no sum."
    return said if out else ""
