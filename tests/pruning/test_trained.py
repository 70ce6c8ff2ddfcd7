"""Methods that train: schedules and choices by hand, and whole runs against obvious programs."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs, parameter_name
from pruning.bundle_values import read_weight
from pruning.data.calibration import in_own_order
from pruning.methods.trained.choosing import Choosing
from pruning.recovery.cubic import risen
from pruning.recovery.schedule import Schedule
from pruning.recovery.trainer import Trainer
from pruning.rules import keep_by_layer, keep_by_pattern, keep_by_row
from pruning.run.base import Base
from pruning.run.driver import prune
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import load_whole, quiet, save, token_ids
from workloads.bundle import MaskBundle
from workloads.errors import UserError
from workloads.patterns import NofM

METHODS = ["gradual", "iss-p"]
QUICK: dict[str, Any] = {"steps": 6, "batch": 2, "lr": 0.01}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"))


def made(model: Path, out: Path, method: str, sparsity: float = 0.5, **asked: Any) -> MaskBundle:
    return prune(Checkpoint(model), recipe(method, sparsity, **(QUICK | asked)), out, quiet, quiet)


def test_the_cubic_by_hand() -> None:
    assert [risen(step, 4) for step in (0, 1, 2, 4, 5)] == [0, 37 / 64, 7 / 8, 1, 1]


def scores_of(rows: int, cols: int, seed: int) -> torch.Tensor:
    return torch.rand(rows, cols, generator=torch.Generator().manual_seed(seed))


class Ref:
    def __init__(self, name: str):
        self.layer = type("Layer", (), {"name": name})


@given(st.floats(0, 1), st.sampled_from(["row", "layer", "2:4"]), st.integers(0, 9))
def test_a_share_is_a_part_of_the_whole_and_exact(share: float, rule: str, seed: int) -> None:
    """Whatever goes at a share goes at the full target too, and it is the lowest of that."""
    scores, pattern = scores_of(6, 12, seed), NofM(2, 4) if rule == "2:4" else None
    keeper = {"row": keep_by_row, "layer": keep_by_layer}.get(rule)
    full = keep_by_pattern(scores, pattern) if pattern else keeper(scores, 0.4)
    chosen = Choosing([Ref("a")], lambda ref, own: full, {"a": pattern}, rule if pattern is None else "layer", 0.4)
    keep = chosen.keep([scores], share)[0]
    assert not bool((~keep & full).any())
    assert int((~keep).sum()) == math.floor(share * int((~full).sum()) + 1e-4)
    if rule != "row":
        gone, next_ones = scores[~keep], scores[keep & ~full]
        assert not len(gone) or not len(next_ones) or float(gone.max()) <= float(next_ones.min())
    else:
        counts = (~keep).sum(dim=1)
        assert int(counts.max() - counts.min()) <= 1


def test_the_rule_global_compares_all_matrices() -> None:
    first, second = scores_of(4, 5, 0), scores_of(3, 7, 1) * 0.5
    chosen = Choosing([Ref("a"), Ref("b")], lambda ref, own: own, {"a": None, "b": None}, "global", 0.5)
    for share in (0.3, 1.0):
        keeps = chosen.keep([first, second], share)
        gone = torch.cat([s[~k] for s, k in zip([first, second], keeps, strict=True)])
        left = torch.cat([s[k] for s, k in zip([first, second], keeps, strict=True)])
        assert len(gone) == math.floor(41 * 0.5 * share)
        assert float(gone.max()) <= float(left.min())


def test_scores_that_are_not_finite_are_refused() -> None:
    chosen = Choosing([Ref("a")], lambda ref, own: own > 0, {"a": None}, "layer", 0.5)
    with pytest.raises(UserError, match="a score is NaN or Inf"):
        chosen.keep([torch.tensor([[1.0, math.nan]])], 0.5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("method", METHODS)
def test_training_is_plain_adam_with_the_hook_written_out(method: str, family: str, tmp_path: Path) -> None:
    """Against the obvious program: transformers' model, autograd, clipping, Adam, and the method's own lines."""
    model = save(family, tmp_path / "model")
    bundle = made(model, tmp_path / "masks", method, rule="layer", **({"gamma": 0.5} if method == "iss-p" else {}))
    whole, ids = load_whole(model), in_own_order(token_ids(5, 12))
    refs = [ref for block in all_refs(Checkpoint(model)) for ref in block]
    places = {parameter_name(r): whole.get_parameter(parameter_name(r)) for r in refs}
    leaves = {name: p.detach().clone().requires_grad_() for name, p in places.items()}
    masks = {name: torch.ones_like(p) for name, p in places.items()}
    adam, schedule = torch.optim.Adam(leaves.values()), Schedule(6, 0.01, 0, 2, 0)
    for step in range(6):
        batch = ids[schedule.sequences_at(step, 5)]
        held = {name: leaf * masks[name] for name, leaf in leaves.items()}
        logits = torch.func.functional_call(whole, held, (), {"input_ids": batch, "use_cache": False}).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch[:, 1:].flatten())
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(leaves.values(), 1.0)
        for group in adam.param_groups:
            group["lr"] = 0.01 * (1 + math.cos(math.pi * step / 6)) / 2
        adam.step()
        done, last = step + 1, 4  # round(0.7 * 6)
        share = 1 - (1 - min(done, last) / last) ** 3
        if done > last:
            continue
        for name, leaf in leaves.items():
            ref = next(r for r in refs if parameter_name(r) == name)
            own = leaf.detach().T if ref.transposed else leaf.detach()  # ties go by the order of outputs
            count = math.floor(share * math.floor(0.5 * own.numel()))
            gone = torch.zeros(own.numel(), dtype=torch.bool)
            gone[own.abs().flatten().argsort(stable=True)[:count]] = True
            gone = gone.reshape(own.shape).T if ref.transposed else gone.reshape(own.shape)
            if method == "iss-p" and done < last:
                leaf.data[gone] *= 0.5
                continue
            masks[name] = (~gone).float()
            if method == "gradual":
                adam.state[leaf]["exp_avg"][gone] = 0
    for ref in refs:
        name = parameter_name(ref)
        wanted = ref.view((leaves[name] * masks[name]).detach())
        found = read_weight(bundle, ref.layer.name)
        assert found is not None
        assert torch.equal(torch.from_numpy(bundle[ref.layer.name].to_dense()), ref.view(masks[name]).bool())
        assert torch.allclose(found, wanted, atol=2e-5)
        assert not torch.allclose(found, wanted * 0, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_zeros_stay_zero_while_it_recovers(
    method: str, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[torch.Tensor]] = []
    write = Trainer.write

    def spying(self: Trainer) -> None:
        write(self)
        model = [weight.weight().detach() for weight in self.weights]
        seen.append([weight == 0 for weight in model])

    monkeypatch.setattr(Trainer, "write", spying)
    bundle = made(llama, tmp_path / "masks", method, steps=8, ramp=0.5)
    assert len(seen) == 9  # before the first step and after each
    for zeros in seen[5:]:
        assert all(torch.equal(one, other) for one, other in zip(zeros, seen[4], strict=True))
    final = [torch.from_numpy(~mask.to_dense()) for _, mask in bundle]
    assert all(torch.equal(one, other) for one, other in zip(final, seen[4], strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_the_inputs_that_nothing_comes_into_go_first_by_wandas_scores(method: str, tmp_path: Path) -> None:
    """Channels that every norm scales to 0: their columns in q, k, v, gate and up score 0, whatever their weights."""
    model = load_whole(save("llama", tmp_path / "before"))
    dead = [1, 5, 9, 20]
    for block in model.model.layers:
        for norm in (block.input_layernorm, block.post_attention_layernorm):
            norm.weight.data[dead] = 0
    model.save_pretrained(tmp_path / "model")
    bundle = made(tmp_path / "model", tmp_path / "masks", method, 0.25, scores="wanda", rule="row")
    for entry, mask in bundle:
        if entry.role in ("q", "k", "v", "gate", "up"):
            assert not mask.to_dense()[:, dead].any()


@pytest.mark.parametrize("method", METHODS)
def test_a_model_of_one_block(method: str, tmp_path: Path) -> None:
    model = save("llama", tmp_path / "model", num_hidden_layers=1)
    bundle = made(model, tmp_path / "masks", method)
    assert all(2 * entry.nnz == entry.layer.n_weights for entry in bundle.layers)


def test_distilling_is_another_run(llama: Path, tmp_path: Path) -> None:
    found = {d: made(llama, tmp_path / d, "gradual", distill=d).sha256 for d in ("none", "logits", "layers")}
    assert len(set(found.values())) == 3


def test_only_some_matrices_and_bits_afterwards(llama: Path, tmp_path: Path) -> None:
    bundle = made(llama, tmp_path / "masks", "gradual", only=("q,down",), bits=4, group_size=8)
    for entry in bundle.layers:
        chosen = entry.role in ("q", "down")
        assert (entry.weight_bits == 4) == chosen
        assert (2 * entry.nnz == entry.layer.n_weights) == chosen


def test_after_a_smaller_model_and_never_after_masks(llama: Path, tmp_path: Path) -> None:
    smaller = prune(Checkpoint(llama), recipe("shortgpt", 0.5), tmp_path / "smaller", quiet, quiet)
    asked = replace(recipe("iss-p", 0.5, **QUICK), base=Base(smaller))
    bundle = prune(Checkpoint(llama), asked, tmp_path / "both", quiet, quiet)
    assert bundle.removal.blocks == smaller.removal.blocks
    assert all(2 * entry.nnz == entry.layer.n_weights for entry in bundle.layers)
    masks = prune(Checkpoint(llama), recipe("magnitude", 0.3), tmp_path / "masks", quiet, quiet)
    with pytest.raises(UserError, match="cannot keep to them"):
        prune(Checkpoint(llama), replace(asked, base=Base(masks)), tmp_path / "c", quiet, quiet)
    assert not (tmp_path / "c").exists()


def test_what_cannot_be_trained_is_refused_and_leaves_nothing(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 2 tokens"):
        made(llama, tmp_path / "a", "gradual", ids=token_ids(4, 1))
    with pytest.raises(UserError, match="use a lower `lr`"):
        made(llama, tmp_path / "b", "gradual", lr=1e30)
    with pytest.raises(UserError, match=r"predicts no|see later tokens|next token"):
        made(save("bert", tmp_path / "bert"), tmp_path / "c", "gradual")
    assert [each.name for each in tmp_path.iterdir()] == ["bert"]


def test_the_order_of_the_calibration_set_changes_nothing(llama: Path, tmp_path: Path) -> None:
    ids = token_ids(5, 12)
    one, two = (made(llama, tmp_path / n, "iss-p", ids=i) for n, i in (("a", ids), ("b", ids.flip(0))))
    assert [e.values_sha256 for e in one.layers] == [e.values_sha256 for e in two.layers]
