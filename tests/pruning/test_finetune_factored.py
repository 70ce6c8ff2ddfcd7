"""Fine-tuning of products: the factors move, the guide is gone in the end, and what is measured is what is stored."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from pruning.bundle_values import read_factors
from pruning.config import FinetuneConfig
from pruning.evaluation.perplexity import perplexity
from pruning.factorization import project
from pruning.methods.factorized import BlockShuffle, LowRank
from pruning.recovery import loop
from pruning.recovery.factored_weights import FactoredWeight
from pruning.recovery.finetune import finetune, read_history
from pruning.recovery.plan import make_plan
from pruning.recovery.schedule import Schedule
from pruning.run.driver import prune
from tests.pruning.block_jobs import make_job
from tests.pruning.recipes import recipe
from validation.conformance.factor_laws import module_of
from validation.conformance.tiny_models import contents, quiet, save, token_ids
from workloads.bundle import MaskBundle
from workloads.errors import UserError

QUICK: dict[str, Any] = {"steps": 4, "lr": 0.02, "batch": 2, "eval_every": 2, "held_out": "0.2", "seq_len": 12}


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ids") / "ids.npy"
    np.save(path, token_ids(10, 12).numpy())
    return str(path)


def made(model: Path, out: Path, method: str = "blockshuffle", **asked: Any) -> MaskBundle:
    return prune(Checkpoint(model), recipe(method, 0.5, **asked), out, quiet, quiet)


def trained(model: Path, masks: MaskBundle, out: Path, text: str, progress=quiet, **settings: Any) -> MaskBundle:
    plan = make_plan(FinetuneConfig(text=text, **(QUICK | settings)))
    return finetune(Checkpoint(model), masks, plan, out, progress, quiet)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("method", [LowRank(), BlockShuffle(blocks=4)])
def test_gradients_are_those_of_the_layers_that_run(method, share) -> None:
    """y = a W_g x + (1 - a) second first x, differentiated by torch through the layers themselves."""
    job, _ = make_job()
    ref = next(ref for ref in job.refs if ref.layer.role == "up")
    weight = job.weight(ref)
    pair = project(weight, method.sizes(ref.layer, 0.5))
    held = FactoredWeight(ref, pair, torch.float32, weight)
    held.share = share
    layers = module_of(pair).requires_grad_()
    guide = weight.clone().requires_grad_()
    x, wanted = torch.randn(9, weight.shape[1]), torch.randn(9, weight.shape[0])
    loss = ((share * (x @ guide.T) + (1 - share) * layers(x) - wanted) ** 2).sum()
    loss.backward()
    effective = held.weight().detach().requires_grad_()
    ((x @ effective.T - wanted) ** 2).sum().backward()
    held.receive(effective.grad)
    first, second, own = (parameter.grad for parameter in held.parameters)
    torch.testing.assert_close(first, torch.stack([block.weight.grad for block in layers.first]), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(second, torch.stack([one.weight.grad for one in layers.second]), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(own, guide.grad, rtol=1e-3, atol=1e-3)


def test_a_guide_fades_over_half_of_the_steps() -> None:
    schedule = Schedule(steps=100, lr=1e-3, warmup=5, batch=1, seed=0)
    shares = [schedule.guide_at(step) for step in range(100)]
    assert shares[0] == 1
    assert shares[25] == pytest.approx(0.5)
    assert shares[49] == pytest.approx((1 + math.cos(math.pi * 49 / 50)) / 2)
    assert shares[50:] == [0.0] * 50
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("more", [{}, {"guide": True}, {"guide": True, "distill": "layers"}])
@pytest.mark.parametrize(
    ("family", "method"),
    [("llama", "lowrank"), ("gpt2", "blockdense"), ("mixtral", "lowrank"), ("phi3", "blockshuffle")],
)
def test_factors_move_and_losses_are_those_of_eval(family, method, more, tmp_path: Path, ids: str) -> None:
    model = save(family, tmp_path / "model")
    masks = made(model, tmp_path / "masks", method)
    bundle = trained(model, masks, tmp_path / "trained", ids, **more)
    bundle.validate()
    assert bundle.header.parameters["finetune"][0].get("guide", False) == more.get("guide", False)
    moved = 0
    for old, new in zip(masks.layers, bundle.layers, strict=True):
        assert (old.name, old.pattern, old.nnz, old.factors) == (new.name, new.pattern, new.nnz, new.factors)
        before, after = read_factors(masks, old.name), read_factors(bundle, old.name)
        if before is not None:
            assert after is not None
            moved += any(not torch.equal(one, two) for one, two in zip(before, after, strict=True))
    assert moved
    looks, last = read_history(bundle), token_ids(10, 12)[8:]
    for seen, of in ((looks[0], masks), (looks[-1], bundle)):
        assert math.log(perplexity(Checkpoint(model), last, of, quiet)) == pytest.approx(seen.held_out_loss, rel=1e-5)


def test_factors_are_trained_as_they_are_stored(tmp_path: Path, ids: str) -> None:
    model = save("llama", tmp_path / "model", torch.bfloat16)
    bundle = trained(model, made(model, tmp_path / "masks"), tmp_path / "trained", ids)
    found = [read_factors(bundle, entry.name) for entry in bundle.layers if entry.factors is not None]
    assert all(torch.equal(one, one.bfloat16().float()) for pair in found for one in pair)


def test_what_is_not_chosen_stays(tmp_path: Path, ids: str) -> None:
    model = save("llama", tmp_path / "model")
    masks = made(model, tmp_path / "masks")
    bundle = trained(model, masks, tmp_path / "trained", ids, only="up", guide=True)
    for entry in masks.layers:
        if entry.factors is not None:
            before, after = read_factors(masks, entry.name), read_factors(bundle, entry.name)
            assert torch.equal(before[0], after[0]) == (entry.role != "up")


class Stopped(Exception):
    pass


@pytest.mark.parametrize("at", [1, 3])
def test_a_killed_guided_run_goes_on_to_the_same_bytes(at, tmp_path: Path, ids: str, monkeypatch) -> None:
    model = save("llama", tmp_path / "model")
    masks = made(model, tmp_path / "masks")
    settings = {"guide": True, "save_every": 1}
    trained(model, masks, tmp_path / "whole", ids, **settings)
    saved, original = [], loop.save_state

    def stop(folder, trainer, state) -> None:
        original(folder, trainer, state)
        saved.append(state.step)
        if state.step == at:
            raise Stopped

    monkeypatch.setattr(loop, "save_state", stop)
    with pytest.raises(Stopped):
        trained(model, masks, tmp_path / "parts", ids, **settings)
    monkeypatch.setattr(loop, "save_state", original)
    trained(model, masks, tmp_path / "parts", ids, **settings)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_patience_waits_until_the_guide_is_gone(tmp_path: Path, ids: str) -> None:
    """Learning noise by heart: the best look comes early, and only those without the guide are counted."""
    model = save("llama", tmp_path / "model")
    masks = made(model, tmp_path / "masks", "lowrank")
    settings = {"steps": 60, "eval_every": 5, "batch": 8, "lr": 0.02, "guide": True, "patience": 2}
    bundle = trained(model, masks, tmp_path / "trained", ids, **settings)
    looks = read_history(bundle)
    losses = [look.held_out_loss for look in looks]
    assert looks[losses.index(min(losses))].step < 30
    assert looks[-1].step == 40  # 35 and 40 are past the half
    found = perplexity(Checkpoint(model), token_ids(10, 12)[8:], bundle, quiet)
    assert math.log(found) == pytest.approx(min(losses), rel=1e-6)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("lowrank", {"mode": "lora"}, "is a product of factors, of low rank as it is; say `mode=full`"),
        ("lowrank", {"guide": True, "only": "q"}, "`guide` is of products of factors, and none is trained"),
        ("magnitude", {"guide": True}, "`guide` is of products of factors, and none is trained"),
    ],
)
def test_settings_that_cannot_be(method, settings, message, tmp_path: Path, ids: str) -> None:
    model = save("llama", tmp_path / "model")
    with pytest.raises(UserError, match=message):
        trained(model, made(model, tmp_path / "masks", method), tmp_path / "trained", ids, **settings)
    assert not (tmp_path / "trained").exists()
