"""Tiny models gain nothing from threads inside an operation, and lose much on a busy machine. Nor from long
training."""

import pytest
import torch

from pruning.methods.besa import budgets


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "ROUND", 8)
