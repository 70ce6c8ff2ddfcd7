"""The tables of a report as LaTeX (booktabs), for \\input."""

from collections import Counter

from reports.render.layout import lay_out
from reports.section import Form, Report, Table
from reports.words.headings import Heading, spans
from reports.words.present import MISSING

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "±": r"$\pm$", "µ": r"$\mu$", "²": r"\textsuperscript{2}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
    MISSING: "--",
    # After a line's end, LaTeX takes these two for arguments of that end.
    "[": "{[}", "*": "{*}",
}  # fmt: skip


def latex_report(report: Report) -> str:
    """The tables that have a caption for paper; the .csv files have all."""
    parts = [f"% {_one_line(report.title)}", r"% Needs \usepackage{booktabs} and \usepackage{adjustbox}.", ""]
    count: Counter[str] = Counter()
    for _, blocks in report.of(Form.PAPER):
        for block in blocks:
            if isinstance(block, Table):
                count[block.label] += 1
                number = str(count[block.label]) if block.label.endswith("-") else ""
                parts.append(latex_table(block, block.label + number))
    return "\n".join(parts)


def latex_table(table: Table, label: str) -> str:
    """Slowdowns in bold; shrunk where it is wider than the text."""
    grid = lay_out(table)
    body = []
    for line in grid.lines:
        texts = [rf"\textbf{{{escaped(c.text)}}}" if c.worse else escaped(c.text) for c in line.cells]
        body.append("    " + " & ".join(texts) + r" \\")
        if line.whole:
            body.append(r"    \addlinespace")
    if last := [_spanning(text, width) for text, width in grid.below]:
        body.append("    " + " & ".join(last) + r" \\")
    return "\n".join([
        r"\begin{table}[htbp]",
        r"  \centering\small",
        rf"  \caption{{{escaped(table.paper_caption)}}}",
        rf"  \label{{tab:{label}}}",
        # Shrinks a table that is wider than the text, leaves the others alone.
        r"  \adjustbox{max width=\linewidth}{%",
        rf"  \begin{{tabular}}{{{''.join('r' if head.numeric else 'l' for head in grid.heads)}}}",
        r"    \toprule",
        *_heads(grid.heads),
        r"    \midrule",
        *body,
        r"    \bottomrule",
        r"  \end{tabular}}",
        r"\end{table}",
        "",
    ])  # fmt: skip


def _heads(heads: list[Heading]) -> list[str]:
    """One row of headings, or two where groups span several columns."""
    above = spans(heads)
    if not above:
        return ["    " + " & ".join(escaped(head.flat) for head in heads) + r" \\"]
    rules, column = "", 1
    for text, width in above:
        rules += rf"\cmidrule(lr){{{column}-{column + width - 1}}}" if text else ""
        column += width
    return [
        "    " + " & ".join(_spanning(text, width, "c") for text, width in above) + r" \\",
        f"    {rules}",
        "    " + " & ".join(escaped(head.text) for head in heads) + r" \\",
    ]


def _spanning(text: str, width: int, align: str = "r") -> str:
    return escaped(text) if width == 1 else rf"\multicolumn{{{width}}}{{{align}}}{{{escaped(text)}}}"


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def escaped(text: object) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in _one_line(text))
