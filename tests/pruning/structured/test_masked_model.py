"""The loss with silent units against the same model, loaded by transformers alone, that has lost them, and against
plain cross-entropy."""

import math
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs
from pruning import parallel
from pruning.evaluation.perplexity import perplexity
from pruning.evaluation.whole_model import whole_model
from pruning.forward.blockwise import BlockwiseModel
from pruning.forward.feeding import small_batch
from pruning.methods.structured.method import UNITS
from pruning.methods.structured.wanda_sp import WandaSp
from pruning.run.driver import prune
from pruning.structured.layouts import Layouts
from pruning.structured.masked_model import MaskedModel
from pruning.structured.problem import UnitProblem
from pruning.structured.units import UnitGroup
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import load_whole, quiet, save, token_ids
from workloads.errors import NotForThisModel, UserError
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
    "family",
    [
        "llama-tied",
        "qwen3",
        "gpt2",
        "opt-projected",
        "phi3",
        "falcon",
        "mixtral",
        "qwen2_moe",
        "gpt_oss",
        "llama4_text",
    ],
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
        silent = {group.key: np.zeros(group.count, dtype=bool) for group in groups}
        assert masked.losses([other, {}, silent, kept], IDS)[3] == first
    assert all(parameter.is_meta for parameter in checkpoint.model.parameters())


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_a_block_without_units_hands_its_states_through(family: str, tmp_path: Path):
    folder = save(family, tmp_path)
    checkpoint, smaller = Checkpoint(folder), load_whole(folder)
    groups = groups_of_model(checkpoint)
    blocks = smaller.get_submodule(checkpoint.block_paths[1].rpartition(".")[0])
    del blocks[1]
    expected = plain_loss(smaller, IDS)
    none = {group.key: np.zeros(group.count, dtype=bool) for group in groups if group.block == 1}
    with MaskedModel(checkpoint, groups) as masked:
        first, second = masked.losses([none, {}], IDS)
    assert first == pytest.approx(expected, abs=1e-5)
    assert second == pytest.approx(plain_loss(load_whole(folder), IDS), abs=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_silent_features_may_be_filled_in(family: str, tmp_path: Path):
    """R of the others: the loss of outputs with W_K + W_gone R."""
    folder = save(family, tmp_path)
    checkpoint, other = Checkpoint(folder), Checkpoint(folder)
    groups, others = groups_of_model(checkpoint), groups_of_model(other)
    kept, made = drawn(groups, 1), {}
    with torch.no_grad():
        whole_model(other, None)
        for group in others:
            stays = torch.from_numpy(kept[group.key][group.columns])
            draw = torch.Generator().manual_seed(len(made))
            made[group.key] = 0.3 * torch.randn(int((~stays).sum()), int(stays.sum()), generator=draw)
            matrix = group.output.matrix(other.blocks[group.block])
            matrix[:, stays] += matrix[:, ~stays] @ made[group.key]
            matrix[:, ~stays] = 0
        expected = plain_loss(other.model, IDS)
    with MaskedModel(checkpoint, groups) as masked:
        (filled,) = masked.losses([kept], IDS, lambda key, own: made[key])
        assert filled == pytest.approx(expected, abs=1e-5)
        assert abs(filled - masked.loss(kept, IDS)) > 1e-3


def test_the_same_bits_whatever_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checkpoint = Checkpoint(save("llama", tmp_path))
    groups = groups_of_model(checkpoint)
    monkeypatch.setitem(parallel.PIECE_TOKENS, "cpu", 12)
    found = []
    with MaskedModel(checkpoint, groups) as masked:
        for threads in ("1", "3"):
            monkeypatch.setenv("PRUNESIM_THREADS", threads)
            found.append(masked.losses([drawn(groups, 0), {}, drawn(groups, 1)], IDS))
    assert found[0] == found[1]


class Contrary(WandaSp):
    """Keeps what Wanda-sp would not, and notes its losses."""

    searches = True
    losses: ClassVar[list[float]] = []

    def search(self, problem: UnitProblem) -> dict[str, np.ndarray]:
        found = {key: ~kept for key, kept in problem.start.items()}
        self.losses += problem.model.losses([problem.start, found], problem.ids)
        return found


def test_a_method_that_searches_has_the_last_word(tmp_path: Path):
    checkpoint = Checkpoint(save("llama", tmp_path / "model"))
    plain = prune(checkpoint, recipe("wanda-sp", 0.5, ids=IDS), tmp_path / "plain", quiet, quiet)
    asked = replace(recipe("wanda-sp", 0.5, ids=IDS), method=Contrary())
    found = prune(Checkpoint(checkpoint.folder), asked, tmp_path / "found", quiet, quiet)
    for one, two in zip(plain.removal.units, found.removal.units, strict=True):
        assert one.kept.tolist() == (~two.kept).tolist()
    expected = [math.log(perplexity(Checkpoint(checkpoint.folder), IDS, bundle, quiet)) for bundle in (plain, found)]
    assert Contrary.losses == pytest.approx(expected, abs=1e-5)


def test_what_has_no_loss(tmp_path: Path):
    folder = save("bert", tmp_path / "bert")
    asked = replace(recipe("wanda-sp", 0.5, ids=IDS), method=Contrary())
    with pytest.raises(NotForThisModel, match="has no perplexity"):
        prune(Checkpoint(folder), asked, tmp_path / "out", quiet, quiet)
    asked = replace(recipe("wanda-sp", 0.5, ids=IDS[:, :1]), method=Contrary())
    with pytest.raises(UserError, match="at least 2 tokens; raise `seq_len`"):
        prune(Checkpoint(save("llama", tmp_path / "llama")), asked, tmp_path / "out", quiet, quiet)
    assert not (tmp_path / "out").exists()
