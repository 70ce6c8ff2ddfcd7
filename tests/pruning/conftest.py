"""Tiny models gain nothing from threads inside an operation, and lose much on a busy machine. Nor from long
training."""

from collections.abc import Iterator

import pytest
import torch

from pruning.methods.besa import budgets


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def short_rounds() -> Iterator[None]:
    """Of a module, whose fixtures train too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budgets, "ROUND", 8)
        yield
