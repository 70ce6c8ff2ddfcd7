"""Saved models with factors: as many weights as the bundle says, equal logits either way, never a wrong plain one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import prunesim as ps
from checkpoints.catalog import resolve_config
from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import discover_layers, find_refs
from checkpoints.factored import FactoredLinear
from pruning.evaluation.perplexity import perplexity
from pruning.run.driver import prune
from pruning.saving import dense as saving
from pruning.saving.dense import save_pruned
from pruning.saving.factored import save_factored
from studies.prune import check_form
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import contents, load_whole, quiet, save, token_ids
from workloads.bundle import MaskBundle
from workloads.errors import NotForThisModel, UserError
from workloads.patterns import FACTORED

CLOSE = {"rtol": 1e-4, "atol": 2e-5}
IDS = token_ids(2, 12)
METHODS = ("lowrank", "blockdense", "blockshuffle")
FILE = "prunesim-removal.safetensors"


def made(source: Path, out: Path, method: str = "blockshuffle", **asked) -> MaskBundle:
    return prune(Checkpoint(source, torch.float32), recipe(method, 0.4, **asked), out, quiet, quiet)


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(IDS).logits


# Biases, transposed storage, a fused gate and up, keys that transformers renames.
@pytest.mark.parametrize("family", ["llama", "llama-tied", "gpt2", "opt", "phi3", "qwen3", "gemma3", "gpt_neox"])
@pytest.mark.parametrize("method", METHODS)
def test_factors_and_their_product_give_equal_logits(family: str, method: str, tmp_path: Path) -> None:
    source = save(family, tmp_path / "model")
    bundle = made(source, tmp_path / "bundle", method)
    save_pruned(source, bundle, tmp_path / "dense", quiet)
    wanted = logits(load_whole(tmp_path / "dense"))
    assert not torch.allclose(wanted, logits(load_whole(source)), **CLOSE)
    save_factored(source, bundle, tmp_path / "saved", quiet)
    model = ps.load_pruned(tmp_path / "saved")
    torch.testing.assert_close(logits(model), wanted, **CLOSE)
    products = {name: module for name, module in model.named_modules() if isinstance(module, FactoredLinear)}
    entries = {entry.name: entry for entry in bundle.layers if entry.factors is not None}
    assert products.keys() == entries.keys()
    for name, module in products.items():
        assert sum(weight.numel() for weight in (*module.first.parameters(), *module.second.parameters())) == (
            entries[name].nnz
        )
    with pytest.raises(OSError, match="no file named"):
        load_whole(tmp_path / "saved")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_perplexity_of_the_saved_model_is_that_of_the_bundle(dtype: torch.dtype, tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model", dtype)
    bundle = made(source, tmp_path / "bundle")
    save_factored(source, bundle, tmp_path / "saved", quiet)
    ids = token_ids(4, 12, seed=5)
    held = perplexity(Checkpoint(source, torch.float32), ids, bundle, quiet)
    saved = perplexity(Checkpoint(tmp_path / "saved", torch.float32), ids, None, quiet)
    assert saved == pytest.approx(held, rel=1e-5 if dtype == torch.float32 else 1e-2)  # a product is not rounded again


def test_blocks_of_factors_are_matrices_like_any_other(tmp_path: Path) -> None:
    """So that a saved model is pruned, quantized and evaluated."""
    source = save("llama", tmp_path / "model")
    save_factored(source, made(source, tmp_path / "bundle", "blockdense"), tmp_path / "saved", quiet)
    refs = [ref.layer for block in find_refs(Checkpoint(tmp_path / "saved").model) for ref in block]
    of_up = [layer for layer in refs if "layers.1.mlp.up_proj" in layer.name]
    assert [layer.name.rpartition("up_proj.")[2] for layer in of_up] == [
        "first.0", "first.1", "first.2", "first.3", "second.0",
    ]  # fmt: skip
    assert {layer.role for layer in of_up} == {"up"}
    assert len(refs) == len(discover_layers(Checkpoint(source).config)) + 3 * 4
    masks = prune(Checkpoint(tmp_path / "saved"), recipe("wanda", 0.5), tmp_path / "masks", quiet, quiet)
    assert masks.entry(of_up[0].name).sparsity == 0.5


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save("llama", tmp_path / "model")
    bundle = made(source, tmp_path / "bundle")
    save_factored(source, bundle, tmp_path / "whole", quiet)

    def stop(name: str, number: int, count: int) -> None:
        if number == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_factored(source, bundle, tmp_path / "parts", stop)
    written = []
    monkeypatch.setattr(saving, "save_file", lambda *args, **more: written.append(1) or original(*args, **more))
    save_factored(source, bundle, tmp_path / "parts", quiet)
    assert len(written) == 2  # of three shards
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


original = saving.save_file


def test_experts_in_a_stack_are_refused(tmp_path: Path) -> None:
    source = save("mixtral", tmp_path / "model")
    with pytest.raises(NotForThisModel, match=r"is one of a stack, .* save it as `dense`"):
        save_factored(source, made(source, tmp_path / "bundle", "lowrank"), tmp_path / "saved", quiet)
    assert not (tmp_path / "saved").exists()


def test_its_config_does_not_say_the_sizes(tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model")
    save_factored(source, made(source, tmp_path / "bundle"), tmp_path / "saved", quiet)
    with pytest.raises(UserError, match=r"sizes that its config\.json does not say; give the mask bundle"):
        resolve_config(str(tmp_path / "saved"))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([[1, 2, 32], [1, 48, 3]], "cannot be read .*do not fit together"),
        ([[1, 2, 8], [1, 8, 2]], "up_proj is no product of 2 x 8, then 8 x 2 in this model"),
        ([1, 2], "cannot be read"),
    ],
)
def test_damaged_sizes_are_told(sizes: list, message: str, tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model")
    save_factored(source, made(source, tmp_path / "bundle"), tmp_path / "saved", quiet)
    arrays = load_file(tmp_path / "saved" / FILE)
    name = "factors|model.layers.1.mlp.up_proj"
    assert name in arrays
    save_file(arrays | {name: np.array(sizes)}, tmp_path / "saved" / FILE, metadata={"biased": "[]"})
    with pytest.raises(UserError, match=message):
        ps.load_pruned(tmp_path / "saved")


def test_forms_that_hold_no_factors_are_refused() -> None:
    check_form("factored", FACTORED, "lowrank")
    with pytest.raises(UserError, match="`save_format=factored` is for factors; wanda makes none"):
        check_form("factored", "", "wanda")
    with pytest.raises(UserError, match="`save_format=padded` is for what structured pruning leaves; lowrank takes"):
        check_form("padded", FACTORED, "lowrank")
