"""BlockPruner on what an earlier bundle left, against that smaller model whole in memory without each part in turn."""

from pathlib import Path

import pytest
import torch

import prunesim as ps
from checkpoints.checkpoint import Checkpoint
from pruning.evaluation.whole_model import whole_model
from pruning.run import elimination
from pruning.saving.smaller import save_smaller
from tests.pruning.saving.removals import take_out, uneven
from tests.pruning.saving.sublayers import hand_on, hush
from tests.pruning.test_after import CLOSE, after, logits, plain
from tests.thinned import thinned
from validation.conformance.tiny_models import contents, save, token_ids
from workloads.bundle import MaskBundle

IDS = token_ids(5, 12)
STACK = "model.layers"


def begun(first: str, source: Path, folder: Path) -> MaskBundle:
    if first == "units":
        return take_out(source, folder, uneven, bias=True)
    if first == "new weights":
        return plain(source, folder, method="obs-sp", sparsity=0.3)
    if first == "blocks":
        return plain(source, folder, method="shortgpt", sparsity=0.25)
    return plain(source, folder, method="blockpruner", sparsity=0.4, remove="attention")


@torch.no_grad()
def loss_without(source: Path, base: MaskBundle, number: int, name: str) -> float:
    model = whole_model(Checkpoint(source), base)
    hush(model, [f"{STACK}.{number}.{name}"]) if name else hand_on(model, [number])
    return sum(float(model(input_ids=one[None], labels=one[None], use_cache=False).loss) for one in IDS)


@pytest.mark.parametrize(
    ("first", "remove"),
    thinned(["units", "new weights", "blocks", "sub-layers"], ["sublayers", "attention", "ffn", "blocks"], every=3),
)
def test_the_part_that_the_smaller_model_misses_least_goes(first: str, remove: str, tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model", num_hidden_layers=4)
    base = begun(first, source, tmp_path / "base")
    bundle = after(source, base, tmp_path / "out", method="blockpruner", sparsity=0.3, remove=remove)
    bundle.validate()
    before, now = base.removal, bundle.removal
    names = {"attention": ("self_attn",), "ffn": ("mlp",), "blocks": ("",)}.get(remove, ("self_attn", "mlp"))
    left = [
        (number, name) for number in range(4) if number not in before.blocks
        for name in names if f"{STACK}.{number}.{name}" not in before.sublayers
    ]  # fmt: skip
    gone = {(n, name) for n, name in left if n in now.blocks or f"{STACK}.{n}.{name}" in now.sublayers}
    losses = {part: loss_without(source, base, *part) for part in left}
    assert min(losses, key=losses.__getitem__) in gone
    assert gone < set(left)
    assert before.blocks <= now.blocks
    assert all(path in now.sublayers or int(path.split(".")[2]) in now.blocks for path in before.sublayers)
    found = logits(whole_model(Checkpoint(source), bundle))
    save_smaller(source, bundle, tmp_path / "saved", lambda *_: None)
    torch.testing.assert_close(logits(ps.load_pruned(tmp_path / "saved")), found, **CLOSE)


def test_a_killed_search_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save("llama", tmp_path / "model", num_hidden_layers=4)
    base = begun("new weights", source, tmp_path / "base")
    asked = {"method": "blockpruner", "sparsity": 0.5}
    after(source, base, tmp_path / "whole", **asked)
    tried, loss = [], elimination.Elimination._loss

    def killed(self: elimination.Elimination, *part: object) -> float:
        tried.append(part)
        if len(tried) == 12:  # in the second round
            raise KeyboardInterrupt
        return loss(self, *part)  # type: ignore[arg-type]

    monkeypatch.setattr(elimination.Elimination, "_loss", killed)
    with pytest.raises(KeyboardInterrupt):
        after(source, base, tmp_path / "killed", **asked)
    monkeypatch.undo()
    after(source, base, tmp_path / "killed", **asked)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
