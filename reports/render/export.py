"""Tables as text for other programs: CSV with every digit, Markdown and LaTeX (booktabs) with rounded values."""

import re
from collections.abc import Iterable

import pandas as pd

from reports.tables.sums import ALL_ROLES
from reports.words.headings import Heading, heading, spans
from reports.words.present import MISSING, cells, filled

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "±": r"$\pm$", "µ": r"$\mu$", "²": r"\textsuperscript{2}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", MISSING: "--",
    # After a line's end, LaTeX takes these two for arguments of that end.
    "[": "{[}", "*": "{*}",
}  # fmt: skip


def one_line(text: object) -> str:
    return " ".join(str(text).split())


def latex_escape(text: object) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in one_line(text))


def markdown_escape(text: object) -> str:
    line = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|$~])", r"\\\1", line)


def markdown_table(table: pd.DataFrame, columns: Iterable[str], below: Iterable[tuple[str, int]] = ()) -> str:
    """A pipe table of the columns that hold anything; numbers to the right. `below`: (text, columns it spans) of a last line."""
    columns = filled(table, columns)
    heads = [heading(column) for column in columns]
    lines = ["| " + " | ".join(markdown_escape(head.flat) for head in heads) + " |"]
    lines.append("|" + "|".join(" ---: " if head.numeric else " --- " for head in heads) + "|")
    for line in cells(table, columns):
        texts = [f"**{markdown_escape(c.text)}**" if c.worse else markdown_escape(c.text) for c in line]
        lines.append("| " + " | ".join(texts) + " |")
    if last := [text for said, width in below for text in [markdown_escape(said), *[""] * (width - 1)]]:
        lines.append("| " + " | ".join(last) + " |")
    return "\n".join(lines) + "\n"


def latex_table(
    table: pd.DataFrame, columns: Iterable[str], caption: str, label: str, below: Iterable[tuple[str, int]] = ()
) -> str:
    """A booktabs table of the columns that hold anything; slowdowns in bold. Needs booktabs and adjustbox. `below`: (text,
    columns it spans) of a last line."""
    columns = filled(table, columns)
    heads = [heading(column) for column in columns]
    body = []
    for line in cells(table, columns):
        texts = [rf"\textbf{{{latex_escape(c.text)}}}" if c.worse else latex_escape(c.text) for c in line]
        body.append("    " + " & ".join(texts) + r" \\")
        if any(c.text == ALL_ROLES for c in line):
            body.append(r"    \addlinespace")
    if last := [latex_spanning(text, width) for text, width in below]:
        body.append("    " + " & ".join(last) + r" \\")
    return "\n".join([
        r"\begin{table}[htbp]",
        r"  \centering\small",
        rf"  \caption{{{latex_escape(caption)}}}",
        rf"  \label{{tab:{label}}}",
        # Shrinks a table that is wider than the text, leaves the others alone.
        r"  \adjustbox{max width=\linewidth}{%",
        rf"  \begin{{tabular}}{{{''.join('r' if head.numeric else 'l' for head in heads)}}}",
        r"    \toprule",
        *latex_heads(heads),
        r"    \midrule",
        *body,
        r"    \bottomrule",
        r"  \end{tabular}}",
        r"\end{table}",
        "",
    ])  # fmt: skip


def latex_heads(heads: list[Heading]) -> list[str]:
    """One row of headings, or two where groups span several columns."""
    above = spans(heads)
    if not above:
        return ["    " + " & ".join(latex_escape(head.flat) for head in heads) + r" \\"]
    rules, column = "", 1
    for text, width in above:
        rules += rf"\cmidrule(lr){{{column}-{column + width - 1}}}" if text else ""
        column += width
    return [
        "    " + " & ".join(latex_spanning(text, width, "c") for text, width in above) + r" \\",
        f"    {rules}",
        "    " + " & ".join(latex_escape(head.text) for head in heads) + r" \\",
    ]


def latex_spanning(text: str, width: int, align: str = "r") -> str:
    return latex_escape(text) if width == 1 else rf"\multicolumn{{{width}}}{{{align}}}{{{latex_escape(text)}}}"
