"""Tiny models gain nothing from threads inside an operation, and lose much on a busy machine."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
