"""KL divergence, agreement and errors behind blocks against a plain pass of two whole models."""

from pathlib import Path

import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import block_linears, find_blocks
from pruning.evaluation.against_dense import against_dense, divergence_of
from pruning.evaluation.perplexity import perplexity
from pruning.run.driver import prune
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import load_whole, quiet, save, token_ids


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_it_equals_two_whole_models(family: str, tmp_path: Path) -> None:
    folder, ids = save(family, tmp_path / "model"), token_ids(5, 12, seed=3)
    bundle = prune(Checkpoint(folder), recipe("magnitude", 0.5), tmp_path / "masks", quiet, quiet)
    found = against_dense(Checkpoint(folder), ids, bundle, quiet)
    dense, pruned = load_whole(folder), load_whole(folder)
    path, blocks = find_blocks(pruned)
    for number, block in enumerate(blocks):
        for ref in block_linears(block, f"{path}.{number}", number):
            ref.matrix(block).mul_(torch.from_numpy(bundle[ref.layer.name].to_dense()))
    states = []
    for model in (dense, pruned):
        behind: list[torch.Tensor] = []
        for block in find_blocks(model)[1]:
            block.register_forward_hook(lambda _, args, output, behind=behind: behind.append(output))
        states.append((model(input_ids=ids).logits[:, :-1].double(), behind))
    (whole, before), (other, after) = states
    p, q = whole.softmax(-1), other.softmax(-1)
    assert found.kl == pytest.approx(float((p * (p / q).log()).sum(-1).mean()), rel=1e-4)
    assert found.agreement == pytest.approx(float((p.argmax(-1) == q.argmax(-1)).double().mean()))
    errors = [float((a - b).square().sum() / a.square().sum()) for a, b in zip(before, after, strict=True)]
    assert found.block_errors == pytest.approx(errors, rel=1e-4)
    assert found.perplexity == perplexity(Checkpoint(folder), ids, bundle, quiet)
    assert found.dense_perplexity == perplexity(Checkpoint(folder), ids, None, quiet)


def test_divergences_of_closed_form() -> None:
    """Two tokens, probabilities (1/4, 3/4) against (1/2, 1/2): 1/4 log 1/2 + 3/4 log 3/2."""
    logits = torch.tensor([[0.25, 0.75], [0.25, 0.75]]).log()
    other = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).log()
    expected = 0.25 * torch.tensor(0.5).log() + 0.75 * torch.tensor(1.5).log()
    assert divergence_of(logits, other) == pytest.approx((float(expected) / 2, 0.5), rel=1e-5)
    assert divergence_of(logits, logits) == (0.0, 1.0)
