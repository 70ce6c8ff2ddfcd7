"""Embed, every block, head: the same logits as the whole model, for many families."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from checkpoints.checkpoint import Checkpoint
from pruning.forward.blockwise import BlockwiseModel
from validation.conformance.tiny_models import FAMILIES, UNSUPPORTED, load_whole, save, token_ids
from workloads.errors import UserError


@torch.no_grad()
def streamed_logits(model: BlockwiseModel, batches: list[torch.Tensor]) -> list[torch.Tensor]:
    hidden = [model.embed(batch) for batch in batches]
    for number in range(len(model.blocks)):
        block = model.checkpoint.load_block(number)
        hidden = [model.run(number, states) for states in hidden]
        model.checkpoint.release(block)
    with model.heads():
        return [model.logits(*pair) for pair in zip(batches, hidden, strict=True)]


def assert_no_traces(module: nn.Module) -> None:
    for name, child in module.named_modules():
        assert "forward" not in vars(child), f"{name} still has another forward"
        assert not child._forward_hooks, name
        assert not child._forward_pre_hooks, name


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
            expected = whole(input_ids=ids, use_cache=False).logits
            assert expected.std() > 0.05  # random weights tell tokens apart
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert_no_traces(model.model)
    assert all(parameter.is_meta for block in model.blocks for parameter in block.parameters())
    assert not any(
        parameter.is_meta for name, parameter in model.model.named_parameters() if not model.checkpoint.in_blocks(name)
    )


def test_the_check_would_see_a_missing_block(tmp_path: Path) -> None:
    save("llama", tmp_path)
    ids, model = token_ids(2, 12), BlockwiseModel(Checkpoint(tmp_path))
    with torch.no_grad():
        hidden = model.embed(ids)
        model.checkpoint.load_block(0)
        hidden = model.run(0, hidden)
        with model.heads():
            logits = model.logits(ids, hidden)
    assert (logits - load_whole(tmp_path)(ids).logits).abs().max() > 0.1


def test_heads_serve_several_threads(tmp_path: Path) -> None:
    save("gemma2", tmp_path)
    model, batches = BlockwiseModel(Checkpoint(tmp_path)), list(token_ids(12, 12).split(1))
    alone = streamed_logits(model, batches)
    states = [torch.randn(1, 12, 32) for _ in batches]
    with torch.no_grad(), model.heads():
        one_by_one = [model.logits(*pair) for pair in zip(batches, states, strict=True)]
    with model.heads(), ThreadPoolExecutor(4) as pool:
        together = list(pool.map(torch.no_grad()(model.logits), batches, states))
    for one, other, dense in zip(one_by_one, together, alone, strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(one, dense)


@pytest.mark.parametrize("family", UNSUPPORTED)
def test_blocks_that_see_more_than_hidden_states_are_refused(family: str, tmp_path: Path) -> None:
    """Per-layer token embeddings would otherwise be taken from another batch, silently."""
    save(family, tmp_path)
    checkpoint = Checkpoint(tmp_path)

    def embed_two_batches() -> None:
        model = BlockwiseModel(checkpoint)
        for seed in range(2):
            model.embed(token_ids(2, 12, seed))

    with pytest.raises(UserError, match="cannot be run block by block") as refusal:
        embed_two_batches()
    assert "\n" not in str(refusal.value)
    assert_no_traces(checkpoint.model)


def test_an_interrupted_embedding_leaves_no_traces(tmp_path: Path) -> None:
    save("llama", tmp_path)
    model = BlockwiseModel(Checkpoint(tmp_path))
    with pytest.raises(IndexError):
        model.embed(torch.tensor([[10_000]]))
    assert_no_traces(model.model)


def test_blocks_are_filled_only_while_loaded(tmp_path: Path) -> None:
    save("mixtral", tmp_path, shard_size="30KB")
    checkpoint = Checkpoint(tmp_path)
    assert all(parameter.is_meta for parameter in checkpoint.model.parameters())
    block = checkpoint.load_block(1)
    assert not any(parameter.is_meta for parameter in block.parameters())
    assert all(parameter.is_meta for parameter in checkpoint.blocks[0].parameters())
    for name, parameter in load_whole(tmp_path).model.layers[1].named_parameters():
        assert torch.equal(block.get_parameter(name), parameter)
    checkpoint.release(block)
    assert all(parameter.is_meta for parameter in checkpoint.model.parameters())
