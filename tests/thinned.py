"""Combinations of parameters of which the usual run takes one in several, all of them `pytest -m slow`."""

from collections.abc import Iterable
from itertools import product
from typing import Any

import pytest


def thinned(*axes: Iterable[Any], every: int) -> list[Any]:
    """Of the product of the axes; what is not marked slow has every value of an axis, where the others have as many as
    `every` values."""
    placed = product(*(list(enumerate(axis)) for axis in axes))
    return [_parameter(combination, slow=sum(place for place, _ in combination) % every != 0) for combination in placed]


def _parameter(combination: tuple[tuple[int, Any], ...], slow: bool) -> Any:
    values = [value for _, value in combination]
    name = "-".join(str(getattr(value, "name", value)).removeprefix("torch.") for value in values)
    return pytest.param(*values, marks=[pytest.mark.slow] if slow else [], id=name)
