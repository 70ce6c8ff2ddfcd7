"""What BlockPruner's search takes out, against brute force: the whole model in memory, run by transformers alone
without each candidate in turn."""

import math
from pathlib import Path

import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import block_linears, find_blocks
from pruning.forward.blockwise import BlockwiseModel
from pruning.run.driver import prune
from tests.pruning.recipes import recipe
from tests.pruning.saving.sublayers import hand_on, hush
from tests.thinned import thinned
from validation.conformance.tiny_models import contents, load_whole, quiet, save, token_ids
from workloads.errors import NotForThisModel, UserError

IDS = token_ids(5, 12)
NAMES = {"llama": ("self_attn", "mlp"), "gpt2": ("attn", "mlp"), "mixtral": ("self_attn", "mlp")}


def pruned(model: Path, tmp_path: Path, sparsity: float, told=quiet, **settings):
    return prune(Checkpoint(model), recipe("blockpruner", sparsity, ids=IDS, **settings), tmp_path / "out", told, quiet)


@torch.no_grad()
def loss_without(model, stack: str, gone: list[tuple[int, str]], names: tuple[str, ...]) -> float:
    """Mean next-token cross-entropy; a block without all of its sub-layers is left out whole, which is the same."""
    blocks = [n for n, _ in gone if all((n, name) in gone for name in names) or (n, "") in gone]
    handles = hush(model, [f"{stack}.{n}.{name}" for n, name in gone if n not in blocks])
    handles += hand_on(model, sorted(set(blocks)))
    total = [float(model(input_ids=one[None], labels=one[None], use_cache=False).loss) for one in IDS]
    for handle in handles:
        handle.remove()
    return math.fsum(total) / len(total)


def by_brute_force(folder: Path, names: tuple[str, ...], tried: tuple[str, ...], sparsity: float):
    """[(block, sub-layer)] in the order in which they go; "" is a whole block."""
    model = load_whole(folder, torch.float32)
    stack, blocks = find_blocks(model)
    weights = {}
    for number, block in enumerate(blocks):
        for name in tried:
            refs = [ref for ref in block_linears(block, stack, number) if ref.module_path.startswith(name)]
            weights[number, name] = sum(ref.layer.n_weights for ref in refs) if name else 1
    target, gone, taken = sparsity * sum(weights.values()), [], 0
    while True:
        left = [p for p in weights if p not in gone and abs(taken + weights[p] - target) < abs(taken - target)]
        if not left:
            return gone
        losses = {part: loss_without(model, stack, [*gone, part], names) for part in left}
        best = min(losses, key=losses.__getitem__)
        second = sorted(losses.values())[1] if len(losses) > 1 else math.inf
        assert second - losses[best] > 1e-5  # else rounding decides
        gone.append(best)
        taken += weights[best]


@pytest.mark.parametrize(
    ("family", "remove", "sparsity"), thinned(NAMES, ["sublayers", "attention", "ffn", "blocks"], [0.25, 0.6], every=2)
)
def test_every_round_takes_what_costs_least(family, remove, sparsity, tmp_path):
    count = {"n_layer": 4} if family == "gpt2" else {"num_hidden_layers": 4}
    model, names = save(family, tmp_path / "model", **count), NAMES[family]
    tried = {"sublayers": names, "attention": names[:1], "ffn": names[1:], "blocks": ("",)}[remove]
    expected = by_brute_force(model, names, tried, sparsity)
    removal = pruned(model, tmp_path, sparsity, remove=remove).removal
    blocks = {n for n, _ in expected if all((n, name) in expected for name in names) or (n, "") in expected}
    assert expected
    assert removal.blocks == blocks
    stack = find_blocks(load_whole(model))[0]
    assert set(removal.sublayers) == {f"{stack}.{n}.{name}" for n, name in expected if n not in blocks}


def test_prefixes_are_not_run_again(tmp_path, monkeypatch):
    """A round of 4 blocks and 8 candidates: 20 runs of a block for the candidates, 2 x (4 + 3 + 2 + 1), and those that
    fill in what enters the blocks."""
    model = save("llama", tmp_path / "model", num_hidden_layers=4)
    runs, run = [], BlockwiseModel.run
    monkeypatch.setattr(
        BlockwiseModel, "run", lambda self, number, hidden: runs.append(len(hidden)) or run(self, number, hidden)
    )
    pruned(model, tmp_path, 0.1)
    of_batches = [count for count in runs if count == len(IDS)]
    assert len(of_batches) == 20 + 3
    assert not [name for name in contents(tmp_path / "out") if "rounds" in name or "hidden" in name]


def test_rounds_are_told(tmp_path):
    told = []
    pruned(save("llama", tmp_path / "model"), tmp_path, 0.5, told=lambda *args: told.append(args))
    assert ("round 1: trying", 0, 4) in told
    assert any(what.startswith("round 2") for what, *_ in told)


def test_something_stays(tmp_path):
    model = save("llama", tmp_path / "model")
    removal = pruned(model, tmp_path, 0.999).removal
    assert len(removal.blocks) == 1
    assert len(removal.sublayers) == 1
    with pytest.raises(NotForThisModel, match="all 2 blocks would go"):
        pruned(model, tmp_path / "all", 0.9, remove="blocks")


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("opt", {}, r"has fc1 and fc2 in no sub-layer.*`remove=blocks`"),
        ("bloom", {}, r"BloomBlock without its sub-layers changes hidden states"),
        ("mamba", {"remove": "attention"}, r"its blocks have no attention"),
        ("bert", {}, r"has no perplexity"),
    ],
)
def test_models_that_have_no_such_parts(family, settings, message, tmp_path):
    with pytest.raises(NotForThisModel, match=message):
        pruned(save(family, tmp_path / "model"), tmp_path, 0.5, **settings)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_one_token_has_no_loss(tmp_path):
    with pytest.raises(UserError, match="at least 2 tokens"):
        prune(
            Checkpoint(save("llama", tmp_path / "model")), recipe("blockpruner", 0.5, ids=token_ids(3, 1)),
            tmp_path / "out", quiet, quiet,
        )  # fmt: skip
