"""Result rows go in; tables, figures and pages come out."""

import reports.figures.plotting  # noqa: F401  (before anything that imports matplotlib)
from reports.tables.layers import headline_table
from reports.write import print_report, write_report

__all__ = ["headline_table", "print_report", "write_report"]
