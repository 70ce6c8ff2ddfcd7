"""Streamed gradients against one backward pass a sequence over the whole model, and GBLM's scores from them."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs, parameter_name
from pruning.evidence.gradients import read_gradients, write_gradients
from pruning.forward.blockwise import BlockwiseModel
from pruning.run.driver import prune
from tests.pruning.contract import masks_of
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import contents, load_whole, quiet, save, token_ids
from workloads.errors import UserError


def plain_gradients(folder: Path, ids: torch.Tensor, norm: str) -> dict[str, torch.Tensor]:
    """One loss.backward() a sequence, labels = inputs, float64 sums."""
    model = load_whole(folder).requires_grad_()
    refs = [ref for block in all_refs(Checkpoint(folder)) for ref in block]
    sums = {ref.layer.name: torch.zeros(ref.layer.shape, dtype=torch.float64) for ref in refs}
    for sequence in ids:
        model.zero_grad()
        model(input_ids=sequence[None], labels=sequence[None], use_cache=False).loss.backward()
        for ref in refs:
            gradient = ref.view(model.get_parameter(parameter_name(ref)).grad).double()
            sums[ref.layer.name] += {"l1": gradient.abs(), "l2": gradient**2, "sum": gradient}[norm]
    return {name: total.sqrt() if norm == "l2" else total for name, total in sums.items()}


@pytest.mark.parametrize("norm", ["l1", "l2", "sum"])
@pytest.mark.parametrize("family", ["llama-tied", "gpt2", "gemma2", "mixtral", "opt-projected"])
def test_streamed_gradients_equal_whole_model_backward_passes(family: str, norm: str, tmp_path: Path) -> None:
    save(family, tmp_path / "model", shard_size="30KB")
    ids = token_ids(3, 12)
    checkpoint = Checkpoint(tmp_path / "model")
    refs = all_refs(checkpoint)
    write_gradients(BlockwiseModel(checkpoint), refs, ids, [norm], tmp_path, quiet)
    assert not [name for name in contents(tmp_path) if "states" in name]
    expected = plain_gradients(tmp_path / "model", ids, norm)
    found = {**read_gradients(tmp_path, 0)[norm], **read_gradients(tmp_path, 1)[norm]}
    assert found.keys() == expected.keys()
    for name, total in expected.items():
        assert found[name].dtype == torch.float32
        atol = 1e-5 * float(total.abs().max())
        torch.testing.assert_close(found[name].double(), total, rtol=1e-3, atol=atol, msg=name)


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("scaling", ["invariant", "released"])
def test_gblm_scores_are_the_papers(norm: str, scaling: str, tmp_path: Path) -> None:
    """The first block's masks from |W| sqrt(a) + |W| G, by hand."""
    save("llama", tmp_path / "model")
    ids = token_ids(5, 12)
    chosen = recipe("gblm", 0.5, ids=ids, norm=norm, scaling=scaling, alpha=30.0)
    found = masks_of(prune(Checkpoint(tmp_path / "model"), chosen, tmp_path / "out", quiet, quiet))
    gradients = plain_gradients(tmp_path / "model", ids, norm)
    model, seen = load_whole(tmp_path / "model"), {}
    names = [name for name in found if ".layers.0." in name]
    for name in names:
        model.get_submodule(name).register_forward_pre_hook(lambda _, args, n=name: seen.update({n: args[0]}))
    model(input_ids=ids, use_cache=False)
    factor = 30.0
    if scaling == "invariant":
        factor *= 128 / 5 if norm == "l1" else math.sqrt(128 / 5)
    for name in names:
        energy = seen[name].double().square().sum(dim=(0, 1)) / 5
        weight = model.get_submodule(name).weight.double().abs()
        scores = (weight * energy.sqrt() + weight * factor * gradients[name]).numpy()
        pruned = np.argsort(scores, axis=1, kind="stable")[:, : scores.shape[1] // 2]
        keep = np.ones(scores.shape, bool)
        np.put_along_axis(keep, pruned, False, axis=1)
        assert (keep == found[name]).mean() > 0.999, name


def test_invariant_scaling_does_not_see_how_often_a_sequence_is_given(tmp_path: Path) -> None:
    save("llama", tmp_path / "model")
    once, masks = token_ids(2, 12), {}
    for scaling in ("invariant", "released"):
        for times in (1, 3):
            out = tmp_path / f"{scaling}{times}"
            chosen = recipe("gblm", ids=once.repeat(times, 1), scaling=scaling)
            masks[scaling, times] = masks_of(prune(Checkpoint(tmp_path / "model"), chosen, out, quiet, quiet))
    same = {
        scaling: np.mean([(masks[scaling, 1][n] == m).mean() for n, m in masks[scaling, 3].items()])
        for scaling in ("invariant", "released")
    }
    assert same["invariant"] > 0.9999  # float rounding at ties
    assert same["released"] < same["invariant"]


def test_gblm_gradient_needs_no_activations(tmp_path: Path) -> None:
    """S = |W| G alone, of the dense model: block 1's masks do not know that block 0 was pruned."""
    save("llama", tmp_path / "model")
    ids = token_ids(4, 12)
    found = masks_of(
        prune(Checkpoint(tmp_path / "model"), recipe("gblm", ids=ids, form="gradient"), tmp_path / "o", quiet, quiet)
    )
    model = load_whole(tmp_path / "model")
    for name, gradient in plain_gradients(tmp_path / "model", ids, "l1").items():
        scores = (model.get_submodule(name).weight.double().abs() * gradient).numpy()
        pruned = np.argsort(scores, axis=1, kind="stable")[:, : scores.shape[1] // 2]
        keep = np.ones(scores.shape, bool)
        np.put_along_axis(keep, pruned, False, axis=1)
        assert (keep == found[name]).mean() > 0.999, name


def test_alpha_zero_is_wanda(tmp_path: Path) -> None:
    save("llama", tmp_path / "model")
    gblm = masks_of(prune(Checkpoint(tmp_path / "model"), recipe("gblm", alpha=0.0), tmp_path / "g", quiet, quiet))
    wanda = masks_of(prune(Checkpoint(tmp_path / "model"), recipe("wanda"), tmp_path / "w", quiet, quiet))
    assert all((gblm[name] == mask).all() for name, mask in wanda.items())


def test_gradients_that_overflow_are_told(tmp_path: Path) -> None:
    """float16 with weights so large that the backward pass leaves its range, where the forward pass does not."""
    model = load_whole(save("llama", tmp_path / "seed"))
    for name, parameter in model.named_parameters():
        if "lm_head" in name:
            parameter.data *= 3e4
        if "layernorm" in name or ".norm." in name:
            parameter.data *= 1e-3
        if "up_proj" in name:
            parameter.data *= 3e3
    model.half().save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match=r"gradient is NaN or Inf in float16; use `dtype=float32` or bfloat16"):
        prune(Checkpoint(tmp_path / "model"), recipe("gblm"), tmp_path / "out", quiet, quiet)
    assert not (tmp_path / "out").exists()


def test_one_token_has_no_loss(tmp_path: Path) -> None:
    save("llama", tmp_path / "model")
    with pytest.raises(UserError, match="at least 2 tokens"):
        prune(Checkpoint(tmp_path / "model"), recipe("gblm", ids=token_ids(3, 1)), tmp_path / "out", quiet, quiet)
