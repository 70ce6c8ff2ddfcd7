"""What is published of unstructured masks on GPUs."""

from reports.contents import Contents
from reports.section import Section, Table
from reports.words import statements

COLUMNS = [
    *("model", "target", "tokens", "method", "pattern", "sparsity", "speedup", "published_low", "published_high"),
    "published_source",
]


def spmm(contents: Contents) -> Section | None:
    if contents.spmm.empty:
        return None
    caption = "Unstructured masks, published elsewhere"
    table = Table(contents.spmm, COLUMNS, caption=caption, shared=("model",), fold=False)
    return Section("Unstructured masks on GPUs", [table], statements.HOW_SPMM)
