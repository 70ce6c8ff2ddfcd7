"""Tables as text for other programs: CSV with every digit, Markdown and LaTeX (booktabs) with rounded values."""

import re
from collections.abc import Iterable

import pandas as pd

from reports import explain
from reports.contents import Contents
from reports.present import MISSING, cells, filled, heading
from reports.tables import ALL_ROLES, CONFIG, groups

HEADLINE_COLUMNS = [
    # The speedup early: on a phone only the first columns are seen without scrolling.
    *("model", "target", "tokens", "method", "pattern", "speedup", "sparsity", "perplexity", "dense_perplexity"),
    *("compute_speedup", "published_speedup", "infeasible_layers", "layers", "dense_cycles", "cycles"),
    *("bound_compute_share", "bound_imbalance_share", "bound_memory_share", "slowest_role", "slowest_role_share"),
    *("level", "source"),
]
# A page of paper is narrow: LaTeX gets one table per model, and what decides.
LATEX_HEADLINE_COLUMNS = [
    *("target", "tokens", "method", "pattern", "sparsity", "dense_cycles", "cycles", "speedup", "compute_speedup"),
    *("published_speedup", "perplexity", "infeasible_layers"),
]
ROLE_COLUMNS = [
    *("method", "pattern", "role", "sparsity", "mean_dense_cycles", "mean_cycles", "speedup", "compute_speedup"),
    *("mean_published_dense_cycles", "published_speedup", "cycles_share", "stall_share", "shapes", "layers"),
    "infeasible_layers",
]
LEVELS_COLUMNS = [
    *("model", "target_paper", "target_cycle", "tokens", "method", "pattern", "role", "sparsity"),
    *("published_speedup", "paper_speedup", "cycle_compute_speedup", "cycle_speedup", "cycle_stall_share"),
    *("paper_dense_cycles", "paper_cycles", "cycle_dense_cycles", "cycle_cycles", "layers"),
]
QUALITY_COLUMNS = [
    *("model", "method", "pattern", "sparsity", "perplexity", "text", "windows", "seq_len", "seed"),
]
INFEASIBLE_COLUMNS = ["model", "target", "tokens", "method", "pattern", "infeasible_layers", "reason"]

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", MISSING: "--",
    # After a line's end, LaTeX takes these two for arguments of that end.
    "[": "{[}", "*": "{*}",
}  # fmt: skip


def csv_text(rows: pd.DataFrame) -> str:
    """Every row and column, floats with all their digits, missing values empty."""
    return rows.to_csv(index=False, lineterminator="\n")


def one_line(text: object) -> str:
    return " ".join(str(text).split())


def latex_escape(text: object) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in one_line(text))


def markdown_escape(text: object) -> str:
    line = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|$~])", r"\\\1", line)


def markdown_table(table: pd.DataFrame, columns: Iterable[str]) -> str:
    """A pipe table of the columns that hold anything; numbers to the right."""
    columns = filled(table, columns)
    heads = [heading(column) for column in columns]
    lines = ["| " + " | ".join(head.text for head in heads) + " |"]
    lines.append("|" + "|".join(" ---: " if head.numeric else " --- " for head in heads) + "|")
    for line in cells(table, columns):
        texts = [f"**{markdown_escape(c.text)}**" if c.slower else markdown_escape(c.text) for c in line]
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def latex_table(table: pd.DataFrame, columns: Iterable[str], caption: str, label: str) -> str:
    """A booktabs table of the columns that hold anything; slowdowns in bold. Needs booktabs and adjustbox."""
    columns = filled(table, columns)
    heads = [heading(column) for column in columns]
    body = []
    for line in cells(table, columns):
        texts = [rf"\textbf{{{latex_escape(c.text)}}}" if c.slower else latex_escape(c.text) for c in line]
        body.append("    " + " & ".join(texts) + r" \\")
        if any(c.text == ALL_ROLES for c in line):
            body.append(r"    \addlinespace")
    return "\n".join([
        r"\begin{table}[htbp]",
        r"  \centering\small",
        rf"  \caption{{{latex_escape(caption)}}}",
        rf"  \label{{tab:{label}}}",
        # Shrinks a table that is wider than the text, leaves the others alone.
        r"  \adjustbox{max width=\linewidth}{%",
        rf"  \begin{{tabular}}{{{''.join('r' if head.numeric else 'l' for head in heads)}}}",
        r"    \toprule",
        "    " + " & ".join(latex_escape(head.text) for head in heads) + r" \\",
        r"    \midrule",
        *body,
        r"    \bottomrule",
        r"  \end{tabular}}",
        r"\end{table}",
        "",
    ])  # fmt: skip


def latex_report(headline: pd.DataFrame, roles: pd.DataFrame, title: str) -> str:
    """Headline table per model, then the table per role for each model, target and tokens; for \\input."""
    parts = [f"% {one_line(title)}", r"% Needs \usepackage{booktabs} and \usepackage{adjustbox}.", ""]
    for number, (key, lines) in enumerate(groups(headline, ["model"]), start=1):
        caption = f"{key['model']}: whole model. Speedup is the sum of dense cycles over the sum of cycles."
        parts.append(latex_table(lines, LATEX_HEADLINE_COLUMNS, caption, f"headline-{number}"))
    for number, (key, lines) in enumerate(groups(roles, CONFIG), start=1):
        if lines["cycles"].notna().any():
            caption = f"{explain.config_text(key)}: mean cycles per layer of each role."
            parts.append(latex_table(lines, ROLE_COLUMNS, caption, f"roles-{number}"))
    return "\n".join(parts)


def markdown_list(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(f"- **{markdown_escape(name)}**: {markdown_escape(value)}\n" for name, value in pairs)


def markdown_report(contents: Contents, pictures: Iterable[tuple[str, str]]) -> str:
    """The whole report but the per-layer rows. `pictures`: (what it shows, path relative to the report)."""
    rows = contents.rows
    parts = [
        f"# {markdown_escape(contents.title)}\n",
        markdown_list(explain.what_was_run(rows)),
        "## Whole model\n",
        "".join(f"- {markdown_escape(line)}\n" for line, _ in explain.verdict(contents.headline)),
        markdown_table(contents.headline, HEADLINE_COLUMNS),
        "## How these numbers were got\n",
        markdown_list(explain.how_got(rows)) + "".join(f"- {markdown_escape(note)}\n" for note in contents.notes),
    ]
    if not contents.infeasible.empty:
        table = markdown_table(contents.infeasible, INFEASIBLE_COLUMNS)
        parts += ["## What cannot run\n", markdown_escape(explain.coverage(rows)) + "\n", table]
    if not contents.quality.empty:
        parts += ["## Perplexity\n", markdown_table(contents.quality, QUALITY_COLUMNS)]
    parts.append("## Per role, mean cycles per layer\n")
    for key, lines in groups(contents.roles, CONFIG):
        parts += [f"### {markdown_escape(explain.config_text(key))}\n", markdown_table(lines, ROLE_COLUMNS)]
    if not contents.levels.empty:
        parts += ["## The two levels side by side\n", explain.WHY_LEVELS_DIFFER + "\n"]
        parts.append(markdown_table(contents.levels, LEVELS_COLUMNS))
    parts += [f"![{markdown_escape(text)}]({path})\n" for text, path in pictures]
    parts += ["## Provenance\n", markdown_list(explain.provenance(rows))]
    return "\n".join(parts)
