"""Embed, every block, head: the same logits as the whole model, for many families."""

from pathlib import Path

import pytest
import torch

from pruning.blockwise import BlockwiseModel
from tests.pruning.models import FAMILIES, load_whole, save, token_ids
from workloads.checkpoint import Checkpoint


@torch.no_grad()
def streamed_logits(model: BlockwiseModel, batches: list[torch.Tensor]) -> list[torch.Tensor]:
    hidden = [model.embed(batch) for batch in batches]
    for number in range(len(model.blocks)):
        block = model.checkpoint.load_block(number)
        hidden = [model.run(number, states) for states in hidden]
        model.checkpoint.release(block)
    with model.heads():
        return [model.logits(*pair) for pair in zip(batches, hidden, strict=True)]


@pytest.mark.parametrize("family", FAMILIES)
def test_streamed_logits_equal_the_whole_models(family: str, tmp_path: Path) -> None:
    save(family, tmp_path, shard_size="30KB" if list(FAMILIES).index(family) % 2 else "1GB")
    whole = load_whole(tmp_path)
    model = BlockwiseModel(Checkpoint(tmp_path))
    # Micro-batches of 2 and a short last one of 1; then other lengths; then a shape seen before, with other tokens.
    for batches in (
        list(token_ids(5, 12).split(2)), [token_ids(1, 7)], [token_ids(3, 2)], list(token_ids(2, 12, seed=1).split(2)),
    ):  # fmt: skip
        for ids, logits in zip(batches, streamed_logits(model, batches), strict=True):
            expected = whole(ids, use_cache=False).logits
            assert expected.std() > 0.05  # random weights tell tokens apart
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
