"""A report as values: sections of paragraphs, lists, tables and figures. What makes a section knows nothing of how it
is laid out; what lays it out (reports/render/) knows nothing of what it is about.

rows --(reports/tables/)--> frames --(reports/sections/)--> sections --(reports/render/)--> page, text, paper, terminal.

A figure has two faces: `draw`, a matplotlib figure for paper, and `spec`, the same numbers as a Vega-Lite chart that
the page draws itself from `data`. A line of `data`, as of a table's frame, is filtered by its columns model, target,
method, pattern and tokens (reports/render/facets.py)."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property

import pandas as pd
from matplotlib.figure import Figure

from reports.limits import MOST_LINES, cut, lines_each, more_tables
from reports.words.headings import KNOWN
from reports.words.naming import slug
from workloads.columns.column import Column


class Form(Enum):
    PAGE = "HTML: all of it, with figures"
    TEXT = "Markdown: all but long tables"
    PAPER = "LaTeX: tables that fit a printed page"
    TERMINAL = "what to see first"


READ = frozenset({Form.PAGE, Form.TEXT})
PAGE, TEXT, PAPER, TERMINAL = (frozenset({form}) for form in Form)


@dataclass(frozen=True, kw_only=True)
class Block:
    """`only`: the forms of a report that show it."""

    only: frozenset[Form] = READ


@dataclass(frozen=True)
class Text(Block):
    """A paragraph. `file`: where the rest is that it speaks of. `quiet`: an aside."""

    text: str
    file: str = ""
    quiet: bool = False


@dataclass(frozen=True)
class Listing(Block):
    """The text of a file, as it is, below its `name`. `file`: where it lies."""

    name: str
    text: str
    file: str = ""


@dataclass(frozen=True)
class Heading(Block):
    """Above some blocks of a section."""

    text: str


@dataclass(frozen=True)
class Points(Block):
    """A list of sentences."""

    sentences: Sequence[str]


@dataclass(frozen=True)
class Verdicts(Block):
    """What a reader must not miss: (sentence, is a warning)."""

    sentences: Sequence[tuple[str, bool]]


@dataclass(frozen=True)
class Pairs(Block):
    """(name, value) lines."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table(Block):
    """`columns` of `frame` that hold anything, in this order, each as `known` says.

    `name`: what the table is of, where a section has several. `caption`: what its numbers are. `label`,
    `paper_caption`: on paper; a label that ends in "-" is numbered. `shared`: columns that a page names in the caption
    where all lines are alike in them. `below`: (text, columns it spans) of a last line. `units`: turns the lines shown
    into units that suit them, (table, new names of its columns). `total_in`: the column that says "all" in lines which
    sum up others. `main`: the columns that a page shows at once, where a switch shows the others too; all of them where
    it names none. `paged`: a page holds all lines as data and shows some at a time."""

    frame: pd.DataFrame
    columns: Sequence[str]
    name: str = ""
    caption: str = ""
    label: str = ""
    paper_caption: str = ""
    shared: Sequence[str] = ()
    below: Sequence[tuple[str, int]] = ()
    units: Callable[[pd.DataFrame], tuple[pd.DataFrame, dict[str, str]]] | None = None
    total_in: str = ""
    known: Mapping[str, Column] = field(default_factory=lambda: KNOWN)
    most: int = MOST_LINES  # lines that a page shows
    most_in_text: int | None = None
    file: str = "rows.csv"  # where all lines are
    fold: bool | None = None  # starts folded; None: where it is long
    main: Collection[str] = ()
    paged: bool = False


@dataclass(frozen=True)
class Drawing(Block):
    """A figure. `name`: of its files. `text`: what it shows, with its numbers, for those who cannot see it. `data`:
    what is drawn. `spec`: makes the Vega-Lite chart of the data "rows" that a page shows; a page shows what `draw`
    makes where there is none; `draw` may be missing where there is. `title`: `text` where there is none. Figures of one
    `group` that follow each other are shown one at a time, chosen by `label`. `paper`: the name of the one before it
    whose figure on paper has this one's chart among its panels."""

    name: str
    text: str
    draw: Callable[[], Figure] | None
    data: pd.DataFrame
    spec: Callable[[], dict] | None = None
    title: str = ""
    group: str = ""
    label: str = ""
    paper: str = ""

    @cached_property
    def chart(self) -> dict | None:
        """What `spec` makes, once."""
        return None if self.spec is None else self.spec()


@dataclass(frozen=True)
class Section:
    """`lead`: a paragraph on how to read it. `files`: tables with every line and digit, by the names of their .csv.
    `details`: left out of a terminal that would have to show too many of its tables."""

    title: str
    blocks: Sequence[Block] = ()
    lead: str = ""
    files: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    details: bool = False

    @property
    def anchor(self) -> str:
        return slug(self.title)

    def of(self, form: Form) -> list[Block]:
        lead = [Text(self.lead)] if self.lead else []
        return [block for block in (*lead, *self.blocks) if form in block.only]


@dataclass(frozen=True)
class Report:
    """`facts`: what was run, (name, value) lines."""

    title: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]

    def of(self, form: Form) -> Iterator[tuple[Section, list[Block]]]:
        """The sections that have anything to show in this form."""
        for section in self.sections:
            if blocks := section.of(form):
                yield section, blocks


def together(name: str, charts: Sequence[Drawing], draw: Callable[[], Figure]) -> list[Drawing]:
    """Charts that are the panels of one figure on paper, called `name`, which stands with the first."""
    first, *others = charts
    return [replace(first, name=name, draw=draw), *(replace(one, paper=name, only=PAGE) for one in others)]


def some_of(tables: Sequence[Table], file: str) -> list[Block]:
    """As many tables as anyone reads, each with its share of the lines, and how many more there are in `file`."""
    shown, more = cut(tables)
    most = lines_each(len(shown))
    blocks: list[Block] = [replace(table, most=most, file=file) for table in shown]
    if more:
        only = frozenset.union(*(table.only for table in shown)) & READ
        blocks.append(Text(more_tables(more, file), file, only=only))
    return blocks


def named_apart(sections: Sequence[Section]) -> list[Section]:
    """The sections with no two drawings of one name."""
    names: set[str] = set()
    latest: dict[str, str] = {}

    def apart(block: Block) -> Block:
        if not isinstance(block, Drawing):
            return block
        number, candidate = 1, block.name
        while candidate in names:
            number += 1
            candidate = f"{block.name}-{number}"
        names.add(candidate)
        latest[block.name] = candidate
        return replace(block, name=candidate, paper=latest.get(block.paper, ""))

    return [replace(section, blocks=[apart(block) for block in section.blocks]) for section in sections]
