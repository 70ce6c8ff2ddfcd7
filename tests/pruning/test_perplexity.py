"""Streamed perplexity against the naive one: whole model, one window at a time, log-softmax by hand."""

import math
from pathlib import Path

import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import block_linears, find_blocks
from pruning.data.calibration import windows
from pruning.evaluation import perplexity as evaluate
from pruning.evaluation.perplexity import perplexity
from pruning.forward import hidden_states as states
from pruning.run.driver import prune
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import build, load_whole, quiet, save, token_ids
from workloads.bundle import MaskBundle
from workloads.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"


@torch.no_grad()
def naive_perplexity(folder: Path, ids: torch.Tensor, masks: MaskBundle | None = None) -> float:
    model = load_whole(folder)
    path, blocks = find_blocks(model)
    for number, block in enumerate(blocks):
        for ref in block_linears(block, f"{path}.{number}", number) if masks else ():
            ref.matrix(block).mul_(torch.from_numpy(masks[ref.layer.name].to_dense()))
    means = []
    for window in ids:
        logits = model(input_ids=window[None]).logits[0].double()
        chances = logits.softmax(dim=-1)
        means.append(-sum(math.log(chances[t, window[t + 1]]) for t in range(len(window) - 1)) / (len(window) - 1))
    return math.exp(sum(means) / len(means))


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "mixtral", "bloom", "gpt_oss", "opt-projected"])
def test_perplexity_equals_the_naive_one(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With batches of 2, 2 and 1 windows, states in groups of 3 and 2, and logits taken 5 tokens at a time."""
    save(family, tmp_path / "model", shard_size="30KB")
    ids = token_ids(5, 12, seed=3)
    monkeypatch.setattr(states, "BATCH_TOKENS", 30)
    monkeypatch.setattr(evaluate, "LOGIT_ROWS", 5)
    checkpoint = Checkpoint(tmp_path / "model")
    bundle = prune(checkpoint, recipe("magnitude", 0.5), tmp_path / "masks", quiet, quiet)
    for masks in (None, bundle):
        expected = naive_perplexity(tmp_path / "model", ids, masks)
        assert perplexity(checkpoint, ids, masks, quiet) == pytest.approx(expected, rel=1e-6)
    monkeypatch.setattr(evaluate, "GROUP_BYTES", 3 * 12 * 32 * 4)
    seen: list[tuple[int, int]] = []
    in_groups = perplexity(checkpoint, ids, bundle, lambda _, done, of: seen.append((done, of)))
    assert in_groups == pytest.approx(expected, rel=1e-6)
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert naive_perplexity(tmp_path / "model", ids) != pytest.approx(expected, rel=1e-5)


def test_the_same_bits_with_any_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save("llama", tmp_path)
    monkeypatch.setattr(states, "BATCH_TOKENS", 30)
    ids, seen = token_ids(9, 12), set()
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("PRUNESIM_THREADS", threads)
        for torch_threads in (1, 2):
            torch.set_num_threads(torch_threads)
            seen.add(perplexity(Checkpoint(tmp_path), ids, None, quiet))
    assert len(seen) == 1


def test_a_checkpoint_pruned_in_this_process_can_be_evaluated(tmp_path: Path) -> None:
    """The driver gives the embeddings back once it needs them no more; evaluation reads them again."""
    save("llama-tied", tmp_path / "model")
    checkpoint, ids = Checkpoint(tmp_path / "model"), token_ids(3, 12)
    masks = prune(checkpoint, recipe("wanda", 0.5), tmp_path / "masks", quiet, quiet)
    assert all(parameter.is_meta for parameter in checkpoint.model.parameters())
    found = perplexity(checkpoint, ids, masks, quiet)
    assert found == pytest.approx(naive_perplexity(tmp_path / "model", ids, masks), rel=1e-6)
    assert found == perplexity(checkpoint, ids, masks, quiet)


@pytest.mark.parametrize(
    ("other", "what"), [({"num_hidden_layers": 3}, "is not in this model"), ({"intermediate_size": 64}, "has shape")]
)
def test_masks_of_another_model_are_refused(other: dict, what: str, tmp_path: Path) -> None:
    save("llama", tmp_path / "model")
    save("llama", tmp_path / "other", **other)
    masks = prune(Checkpoint(tmp_path / "other"), recipe("magnitude"), tmp_path / "masks", quiet, quiet)
    with pytest.raises(UserError, match=what) as refusal:
        perplexity(Checkpoint(tmp_path / "model"), token_ids(1, 12), masks, quiet)
    assert str(tmp_path / "masks") in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("where", ["model.layers.1.mlp.up_proj.weight", "lm_head.weight"])
def test_a_loss_that_is_not_finite_is_an_error(where: str, tmp_path: Path) -> None:
    model = build("llama")
    model.get_parameter(where)[5, 7] = float("nan")
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="the loss is nan"):
        perplexity(Checkpoint(tmp_path), token_ids(2, 12), None, quiet)


def test_a_hopeless_model_has_a_finite_perplexity(tmp_path: Path) -> None:
    model = build("llama")
    model.lm_head.weight *= 1e6
    model.save_pretrained(tmp_path)
    assert 1e300 < perplexity(Checkpoint(tmp_path), token_ids(2, 12), None, quiet) < math.inf


@pytest.mark.skipif(not (SHARED / "models/stories260K").is_dir(), reason="stories260K is not beside this repository")
def test_a_real_model_has_its_published_perplexity(monkeypatch: pytest.MonkeyPatch) -> None:
    """3.727 over 64 windows, measured without the <s> that the tokenizer sets in front here."""
    monkeypatch.setenv("PRUNESIM_THREADS", "1")
    model = SHARED / "models/stories260K"
    ids = windows(SHARED / "text/tinystories_valid_clean.txt", model, 512, 64)
    assert perplexity(Checkpoint(model), ids, None, quiet) == pytest.approx(3.727, abs=0.01)
