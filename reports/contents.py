"""What all sections of a report are made from: rows and perplexities, checked, and the tables that several sections
need, each computed when it is first asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import numpy as np
import pandas as pd

from reports.limits import MOST_CHARTS, MOST_COMPARED, MOST_RUNS
from reports.tables import layers
from reports.tables.compare import compare_tables
from reports.tables.designs import design_tables, split
from reports.tables.networks import parted
from reports.tables.quality import perplexity_table, quality_tables
from reports.tables.serving import serving_table
from reports.tables.sums import CONFIG, KERNEL, MASKS, by, checked, counted_mask, known, numbered, ratios, totals
from reports.words.headings import by_name
from workloads.columns.column import Column
from workloads.errors import UserError
from workloads.rows import undeclared
from workloads.searched import Searched
from workloads.whole_models import WholeModels

Configuration = tuple[dict, pd.DataFrame]


@dataclass(frozen=True)
class Contents:
    """rows is empty where nothing was run on a target, quality where nothing was evaluated; so are the tables made of
    them.

    `plain`: the rows but for those of sweeps, which `designs` sums up, and for published figures that are a ratio or
    one time alone; all other tables of rows are made of `plain`. `declared`: columns that targets have of their own.
    `after`: of methods that go on from others, the one before each. `whole`: of whole models, None where none were
    asked for. `networks`: the quality of networks that are no language models. `searched`: of a search, None without.
    """

    title: str
    notes: Sequence[str]
    rows: pd.DataFrame
    quality: pd.DataFrame
    perplexities: pd.DataFrame
    quality_tables: list[tuple[dict, pd.DataFrame]]
    timelines: pd.DataFrame = field(default_factory=pd.DataFrame)
    constants: pd.DataFrame = field(default_factory=pd.DataFrame)
    spmm: pd.DataFrame = field(default_factory=pd.DataFrame)
    declared: Sequence[Column] = ()
    after: Mapping[str, str] = field(default_factory=dict)
    whole: WholeModels | None = None
    networks: pd.DataFrame = field(default_factory=pd.DataFrame)
    searched: Searched | None = None

    @cached_property
    def _split(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        if self.rows.empty:
            return pd.DataFrame(), pd.DataFrame()
        return split(self.rows[(self.rows["source"] != "published") | known(self.rows)])

    @property
    def plain(self) -> pd.DataFrame:
        return self._split[0]

    @cached_property
    def with_cycles(self) -> list[Configuration]:
        """(CONFIG, counted rows) of those with figures of their own; of more runs than anyone compares, those of most
        speedup. A GPU's layers of one shape are alike: there is nothing to map."""
        plain = self.plain
        each = by(plain[(plain["level"] != KERNEL) & counted_mask(plain)], CONFIG) if len(plain) else []
        return [(key, _fastest(rows)) for key, rows in each[:MOST_CHARTS]] + each[MOST_CHARTS:]

    @cached_property
    def designs(self) -> list[tuple[dict, pd.DataFrame]]:
        swept = self._split[1]
        return [] if swept.empty else list(design_tables(swept))

    @cached_property
    def headline(self) -> pd.DataFrame:
        return pd.DataFrame() if self.plain.empty else layers.headline_table(self.plain, self.quality)

    @property
    def energy(self) -> pd.DataFrame:
        """The lines of `headline` with energies."""
        return self.headline if self.headline.empty else self.headline[self.headline["energy_pj"].notna()]

    @cached_property
    def compared(self) -> list[tuple[dict, pd.DataFrame]]:
        """The first of `compare_tables`; of very many methods nobody reads them all side by side."""
        return [] if self.plain.empty else list(islice(compare_tables(self.plain, self.perplexities), MOST_COMPARED))

    @cached_property
    def roles(self) -> pd.DataFrame:
        return pd.DataFrame() if self.plain.empty else layers.role_table(self.plain)

    @cached_property
    def serving(self) -> pd.DataFrame:
        """Whole models, a line a configuration."""
        return pd.DataFrame() if self.whole is None else serving_table(self.whole)

    @cached_property
    def known(self) -> Mapping[str, Column]:
        """Every column by its name, those that targets have of their own among them."""
        return by_name((*undeclared(self.rows), *self.declared))


def _fastest(rows: pd.DataFrame) -> pd.DataFrame:
    run, each = numbered(rows, MASKS)
    if len(each) <= MOST_RUNS:
        return rows
    speedup = ratios(*(totals(rows[name], run, len(each)) for name in ("dense_cycles", "cycles")))
    kept = np.argsort(-np.nan_to_num(speedup), kind="stable")[:MOST_RUNS]
    return rows[np.isin(run, kept)]


def check_any(
    rows: pd.DataFrame | None,
    quality: pd.DataFrame | None,
    whole: WholeModels | None = None,
    searched: Searched | None = None,
) -> None:
    """Raises UserError when there is nothing to report, or rows are incomplete or ambiguous."""
    if rows is not None and not rows.empty:
        checked(rows)
    elif (quality is None or quality.empty) and whole is None and searched is None:
        raise UserError("there are no result rows to report on; run a study that simulates or evaluates something")


def gather(
    rows: pd.DataFrame | None,
    quality: pd.DataFrame | None,
    title: str = "",
    notes: Sequence[str] = (),
    timelines: pd.DataFrame | None = None,
    constants: pd.DataFrame | None = None,
    spmm: pd.DataFrame | None = None,
    declared: Sequence[Column] = (),
    after: Mapping[str, str] | None = None,
    whole: WholeModels | None = None,
    searched: Searched | None = None,
) -> Contents:
    """Raises UserError as `check_any`, and where two perplexities stand for one thing."""
    check_any(rows, quality, whole, searched)
    nothing = pd.DataFrame()
    quality, networks = parted(nothing if quality is None else quality)
    perplexities = perplexity_table(quality)
    evaluated = perplexities, list(quality_tables(perplexities))
    if rows is None or rows.empty:
        return Contents(title, notes, nothing, quality, *evaluated, whole=whole, networks=networks, searched=searched)
    rows = checked(rows)
    powered = constants is not None and rows["energy_pj"].notna().any()
    return Contents(
        title,
        notes,
        rows,
        quality,
        *evaluated,
        nothing if timelines is None else timelines,
        constants if powered and constants is not None else nothing,
        nothing if spmm is None else spmm,
        declared,
        after or {},
        whole,
        networks,
        searched,
    )
