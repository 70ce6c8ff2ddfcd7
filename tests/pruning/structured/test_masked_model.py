"""The loss with silent units against the same model, loaded by transformers alone, that has lost them, and against
plain cross-entropy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs
from pruning import parallel
from pruning.evaluation.whole_model import whole_model
from pruning.forward.blockwise import BlockwiseModel
from pruning.forward.feeding import small_batch
from pruning.methods.structured.method import UNITS
from pruning.structured.layouts import Layouts
from pruning.structured.masked_model import MaskedModel
from pruning.structured.units import UnitGroup
from validation.conformance.tiny_models import load_whole, save, token_ids
from workloads.errors import NotForThisModel
from workloads.removal import Removal

IDS = token_ids(5, 12)


def groups_of_model(checkpoint: Checkpoint, units: str = "all") -> list[UnitGroup]:
    with torch.no_grad():
        model = BlockwiseModel(checkpoint)
        layouts = Layouts(model, UNITS[units], model.embed(small_batch(checkpoint, 2, 8, 0)))
        found = []
        for number, refs in enumerate(all_refs(checkpoint)):
            block = checkpoint.load_block(number)
            found += layouts.groups(number, block, refs)
            checkpoint.release(block)
    return found


def drawn(groups: list[UnitGroup], seed: int) -> dict[str, np.ndarray]:
    """Half of every group, at least one unit; as many of every expert."""
    draw = np.random.default_rng(seed)
    return {g.key: np.isin(np.arange(g.count), draw.permutation(g.count)[: max(1, g.count // 2)]) for g in groups}


def plain_loss(model, ids: torch.Tensor) -> float:
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits.double()
    return float(cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()))


@pytest.mark.parametrize(
    "family", ["llama-tied", "qwen3", "gpt2", "opt-projected", "phi3", "falcon", "mixtral", "qwen2_moe", "gpt_oss"]
)
def test_the_loss_is_the_smaller_models(family: str, tmp_path: Path):
    folder = save(family, tmp_path)
    checkpoint, smaller = Checkpoint(folder), Checkpoint(folder)
    groups = groups_of_model(checkpoint, "ffn" if family == "gpt_oss" else "all")  # its heads have sinks of their own
    kept, other = drawn(groups, 1), drawn(groups, 2)
    cuts = {name: cut for group in groups for name, cut in group.cuts(kept[group.key])}
    smaller.take_out(Removal(frozenset(), tuple(group.units(kept[group.key]) for group in groups), cuts))
    with torch.no_grad():
        expected = plain_loss(whole_model(smaller, None), IDS)
    dense = plain_loss(load_whole(folder), IDS)
    with MaskedModel(checkpoint, groups) as masked:
        first = masked.loss(kept, IDS)
        assert first == pytest.approx(expected, abs=1e-5)
        assert abs(first - dense) > 1e-3
        assert masked.loss(other, IDS) != first
        assert masked.loss({}, IDS) == pytest.approx(dense, abs=1e-5)
        assert masked.loss(kept, IDS) == first  # nothing of other sets stays behind
    assert all(parameter.is_meta for parameter in checkpoint.model.parameters())


def test_the_same_bits_whatever_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checkpoint = Checkpoint(save("llama", tmp_path))
    groups = groups_of_model(checkpoint)
    monkeypatch.setitem(parallel.PIECE_TOKENS, "cpu", 12)
    found = []
    with MaskedModel(checkpoint, groups) as masked:
        for threads in ("1", "3"):
            monkeypatch.setenv("PRUNESIM_THREADS", threads)
            found.append(masked.loss(drawn(groups, 0), IDS))
    assert found[0] == found[1]


def test_a_model_that_predicts_nothing(tmp_path: Path):
    with pytest.raises(NotForThisModel, match="has no perplexity"):
        MaskedModel(Checkpoint(save("bert", tmp_path)), [])
