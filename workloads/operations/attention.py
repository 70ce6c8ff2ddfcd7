"""Attention under masks of its own, read when they are needed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from workloads.operations.base import Operation


@dataclass(frozen=True)
class Attention(Operation):
    """Scores Q K^T and outputs S V on kept positions; `mask` reads (heads, queries, keys) bool, True = kept.

    `head_features` is None where the masks come alone: the target then takes its own.
    """

    heads: int
    kv_heads: int
    queries: int
    keys: int
    mask: Callable[[], np.ndarray]
    head_features: int | None = None
