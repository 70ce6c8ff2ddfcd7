"""Values of which several may be given, each once: rows of two that are alike could not be told apart."""

from collections.abc import Sequence
from typing import Any

from workloads.errors import UserError


def check_once(name: str, values: Sequence[Any]) -> None:
    """Raises UserError for one that is given twice."""
    if twice := next((value for place, value in enumerate(values) if value in values[:place]), None):
        raise UserError(f"`{name}` has {twice} twice; leave one out")
