"""What the functions of prunesim give back: thin objects around a frame."""

from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd

from workloads.arguments import typed
from workloads.csv_text import csv_text
from workloads.errors import UserError
from workloads.files import write_text

SHOWN_ROWS = 10


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """`frame` holds everything; `shown` are the columns a person sees first."""

    frame: pd.DataFrame
    shown: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def headline(self) -> str:
        """The first line that is printed."""
        return f"{len(self)} rows"

    @typed
    def save(self, path: str | Path) -> Path:
        """Writes the frame as CSV, every column of it."""
        write_text(Path(path), csv_text(self.frame))
        return Path(path)

    def _table(self) -> pd.DataFrame:
        return self.frame[[name for name in self.shown if name in self.frame]]

    def __repr__(self) -> str:
        table = self._table().to_string(
            index=False, max_rows=SHOWN_ROWS, float_format=lambda value: f"{value:.4g}", line_width=None
        )
        return f"{self.headline}\n{table}"

    def _repr_html_(self) -> str:
        table = self._table().to_html(index=False, max_rows=SHOWN_ROWS, float_format=lambda value: f"{value:.4g}")
        return f"<p>{escape(self.headline)}</p>{table}"


@dataclass(frozen=True, repr=False, eq=False)
class Gemms(Result):
    """Predicted times, one row a GEMM."""

    @property
    def speedup(self) -> pd.Series:
        """Of 2:4 over dense, one a GEMM; missing where no 2:4 kernel takes it."""
        return self.frame["speedup"]


@dataclass(frozen=True, repr=False, eq=False)
class Rows(Result):
    """Result rows: one row a layer, target and number of tokens. `a + b` holds the rows of both."""

    def __add__(self, other: "Rows") -> "Rows":
        if not isinstance(other, Rows):
            return NotImplemented
        return Rows(pd.concat([self.frame, other.frame], ignore_index=True), self.shown)

    @property
    def totals(self) -> pd.DataFrame:
        """One line for each configuration (masks, target, settings, tokens): its layers added up, as reports add
        them."""
        from reports.tables.sums import KEYS, checked, sums_by

        return sums_by(checked(self.frame), KEYS)

    @property
    def speedup(self) -> float:
        """Dense time / time of all layers together. Raises UserError where the rows are of several configurations."""
        totals = self.totals
        if len(totals) != 1:
            raise UserError(f"these rows are of {len(totals)} configurations; take `totals`, which has a line for each")
        return float(totals["speedup"].iloc[0])

    @property
    def headline(self) -> str:
        what = f"{len(self)} rows"
        try:
            totals = self.totals
        except UserError:  # none, or such as add up to nothing: shown all the same
            return what
        first = totals.iloc[0]
        if len(totals) > 1:
            return f"{what} of {len(totals)} configurations; `totals` has a line for each"
        on = f"{first['target']} {first['settings']}".strip()
        left = int(first["infeasible_layers"])
        missing = f", {left} layers cannot run" if left else ""
        gained = "" if pd.isna(first["speedup"]) else f", speedup {first['speedup']:.3g} of all layers together"
        return f"{what} on {on}, {first['tokens']:,} tokens{gained}{missing}"


@dataclass(frozen=True)
class Report:
    """The folder of a report; `files` by their names in it."""

    folder: Path
    files: dict[str, Path]

    @property
    def page(self) -> Path:
        return self.files["report.html"]

    @property
    def rows(self) -> Rows:
        """The result rows it is of. Raises UserError where it is one of quality alone."""
        from prunesim.masks import rows_at

        if "rows.csv" not in self.files:
            raise UserError(f"{self.folder} reports quality alone and has no result rows")
        return rows_at(self.files["rows.csv"])

    def _repr_html_(self) -> str:
        return f'<p>report: <a href="{escape(str(self.page))}">{escape(str(self.page))}</a></p>'
