"""A report as Markdown."""

import re
from collections.abc import Iterable

from reports.render.layout import lay_out
from reports.section import Block, Drawing, Form, Heading, Listing, Pairs, Points, Report, Table, Text, Verdicts


def markdown_report(report: Report) -> str:
    parts = [f"# {escaped(report.title)}\n", _pairs(report.facts)]
    for section, blocks in report.of(Form.TEXT):
        parts.append(f"## {escaped(section.title)}\n")
        listed = False
        for block in blocks:
            said, is_list = _said(block), isinstance(block, Pairs | Points | Verdicts)
            if is_list and listed:  # two lists without a word between them are one
                parts[-1] += said
            else:
                parts.append(said)
            listed = is_list
    return "\n".join(parts)


def _said(block: Block) -> str:
    match block:
        case Text():
            return f"{escaped(block.text)}\n"
        case Listing():
            return f"{escaped(block.name)}\n\n```\n{block.text.strip()}\n```\n"
        case Heading():
            return f"### {escaped(block.text)}\n"
        case Points():
            return "".join(f"- {escaped(sentence)}\n" for sentence in block.sentences)
        case Verdicts():
            return "".join(f"- {escaped(sentence)}\n" for sentence, _ in block.sentences)
        case Pairs():
            return _pairs(block.pairs)
        case Table():
            return f"### {escaped(block.name)}\n\n{markdown_table(block)}" if block.name else markdown_table(block)
        case Drawing():
            return f"![{escaped(block.text)}](figures/{block.name}.svg)\n"
    raise TypeError(f"no Markdown for {type(block).__name__}")


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(f"- **{escaped(name)}**: {escaped(value)}\n" for name, value in pairs)


def markdown_table(table: Table) -> str:
    """A pipe table; numbers to the right; what is worse than dense in bold."""
    grid = lay_out(table, table.most_in_text)
    lines = ["| " + " | ".join(escaped(head.flat) for head in grid.heads) + " |"]
    lines.append("|" + "|".join(" ---: " if head.numeric else " --- " for head in grid.heads) + "|")
    for line in grid.lines:
        texts = [f"**{escaped(cell.text)}**" if cell.worse else escaped(cell.text) for cell in line.cells]
        lines.append("| " + " | ".join(texts) + " |")
    if last := [text for said, width in grid.below for text in [escaped(said), *[""] * (width - 1)]]:
        lines.append("| " + " | ".join(last) + " |")
    if grid.more:
        lines += ["", f"The first {len(grid.lines):,} of {len(table.frame):,} lines; {table.file} has all."]
    return "\n".join(lines) + "\n"


def escaped(text: object) -> str:
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|$~])", r"\\\1", line)
