"""Ranks, masks from counts, and sums below candidate counts, against sorting and dense loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.methods.besa import ranks as module
from pruning.methods.besa.ranks import keep_above, ranks_of, sums_below, write_masked


@pytest.mark.parametrize(("cols", "width"), [(12, 12), (12, 4), (8, 2), (1, 1)])
def test_ranks_are_places_in_a_stable_sort(cols: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 20)  # a row or two at a time
    scores = torch.randint(0, 5, (7, cols), generator=torch.Generator().manual_seed(0)).float()  # many ties
    ranks = ranks_of(scores, width)
    assert ranks.dtype == torch.int16
    for row in range(7):
        for start in range(0, cols, width):
            order = np.argsort(scores[row, start : start + width].numpy(), kind="stable")
            assert ranks[row, start : start + width].numpy()[order].tolist() == list(range(width))


def test_long_rows_need_wider_ranks() -> None:
    assert ranks_of(torch.arange(1 << 15).float()[None], 1 << 15).dtype == torch.int32


def test_the_least_important_go_first() -> None:
    ranks = ranks_of(torch.tensor([[3.0, 1.0, 2.0, 0.0]]), 4)
    assert keep_above(ranks, torch.tensor([0])).tolist() == [[True] * 4]
    assert keep_above(ranks, torch.tensor([2])).tolist() == [[True, False, True, False]]
    assert keep_above(ranks, torch.tensor([4])).tolist() == [[False] * 4]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("transposed", [False, True])
def test_masked_weights_are_written_in_pieces(dtype: torch.dtype, transposed: bool, monkeypatch) -> None:
    monkeypatch.setattr(module, "PIECE", 25)  # two rows a piece
    draw = torch.Generator().manual_seed(3)
    weight, ranks = torch.randn(7, 12, generator=draw), ranks_of(torch.rand(7, 12, generator=draw), 12)
    counts = torch.tensor([0, 1, 5, 12, 6, 6, 11])
    target = (
        torch.full((12, 7), torch.nan, dtype=dtype).T if transposed else torch.full((7, 12), torch.nan, dtype=dtype)
    )
    write_masked(target, weight, ranks, counts)
    expected = torch.where(ranks >= counts[:, None], weight, 0.0).to(dtype)
    assert torch.equal(target, expected)
    assert target.count_nonzero(dim=1).tolist() == [12, 11, 7, 0, 6, 6, 1]


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 30), st.integers(1, 3), st.integers(2, 12))
@settings(max_examples=80, deadline=None)
def test_sums_below_are_sums_over_ranks(seed: int, rows: int, width: int, runs: int, count: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    gradient, weight, scores = (torch.randn(rows, width * runs, generator=draw) for _ in range(3))
    ranks = ranks_of(scores, width)
    thresholds = torch.randint(0, width + 1, (count,), generator=draw).sort().values
    found = sums_below(gradient, weight, ranks, thresholds, width)
    for d, threshold in enumerate(thresholds.tolist()):
        expected = (gradient.double() * weight.double() * (ranks < threshold)).sum(dim=1)
        torch.testing.assert_close(found[:, d].double(), expected, rtol=1e-5, atol=1e-5)
