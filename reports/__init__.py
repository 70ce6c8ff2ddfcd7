"""Result rows go in; tables, figures and pages come out."""

from reports.tables import headline_table
from reports.write import write_report

__all__ = ["headline_table", "write_report"]
