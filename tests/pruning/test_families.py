"""Families beyond causal language models of one stack: what runs, equals transformers' own model; what cannot, is told
in a line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from checkpoints.checkpoint import Checkpoint
from checkpoints.coverage import coverage
from checkpoints.discovery import discover_layers
from checkpoints.prunable import all_refs, shared_refs
from pruning.applied import apply_masks
from pruning.data.calibration import Calibration, read_calibration
from pruning.evaluation.perplexity import perplexity
from pruning.evidence.moments import InputWatch
from pruning.forward.blockwise import BlockwiseModel
from pruning.forward.calls import first_output
from pruning.forward.feeding import arguments
from pruning.run.driver import prune
from pruning.saving.dense import save_pruned
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import ENCODING, FAMILIES, VOCAB, load_whole, quiet, save, token_ids
from workloads.bundle import MaskBundle
from workloads.errors import NotForThisModel, UserError

READ_TOKENS = ["bert", "t5", "bart"]


@torch.no_grad()
def streamed(folder: Path, batch: Any, masks: MaskBundle) -> torch.Tensor:
    """The output of the unpruned checkpoint under masks, block by block."""
    model = BlockwiseModel(Checkpoint(folder))
    hidden, refs = model.embed(batch), all_refs(model.checkpoint)
    for number in range(len(model.blocks)):
        hidden = model.advance(number, batch, hidden)
        block = model.checkpoint.load_block(number)
        apply_masks(model.checkpoint, block, [*refs[number], *shared_refs(model.checkpoint, number)], masks)
        hidden = model.run(number, hidden)
        model.checkpoint.release(block)
    with model.heads():
        return model.logits(batch, hidden)


@pytest.mark.parametrize("family", [*READ_TOKENS, "falcon_h1", "mamba", "jamba", "zamba2", "qwen2_5_vl", "llava"])
@pytest.mark.parametrize("method", ["magnitude", "wanda"])
def test_a_saved_pruned_model_is_the_masked_one(family: str, method: str, tmp_path: Path) -> None:
    source, ids = save(family, tmp_path / "model"), token_ids(3, 12, seed=5)
    bundle = prune(Checkpoint(source), recipe(method), tmp_path / "masks", quiet, quiet)
    save_pruned(source, bundle, tmp_path / "saved", quiet)
    whole = load_whole(tmp_path / "saved")
    with torch.no_grad():
        expected = first_output(whole(**arguments(Checkpoint(source), ids)))
    assert expected.std() > 0.05
    torch.testing.assert_close(streamed(source, ids, bundle), expected, rtol=0, atol=1e-5)
    assert bundle.sparsity == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("family", "matrices"), [("bert", 2 * 6), ("t5", 2 * 6 + 3 * 10), ("bart", 2 * 6 + 2 * 10),
                                                  ("whisper", 32), ("vit", 12)])  # fmt: skip
def test_all_stacks_are_pruned(family: str, matrices: int, tmp_path: Path) -> None:
    source = save(family, tmp_path / "model")
    bundle = prune(Checkpoint(source), recipe("magnitude"), tmp_path / "masks", quiet, quiet)
    assert len(bundle) == matrices
    kind, settings = ENCODING[family]
    assert [e.name for e in bundle.layers] == [
        layer.name for layer in discover_layers({"model_type": kind, "vocab_size": VOCAB, **settings})
    ]
    covered = coverage(Checkpoint(source))
    assert covered.handled == matrices
    assert bundle.header.model_config["matrices"]["handled"] == matrices
    in_file = sum(p.ndim > 1 for p in load_whole(source).parameters())
    assert covered.matrices == in_file


@pytest.mark.parametrize(("family", "reads"), [("whisper", "input_features"), ("vit", "pixel_values")])
def test_models_that_do_not_read_tokens_say_what_they_read(family: str, reads: str, tmp_path: Path) -> None:
    source = save(family, tmp_path / "model")
    with pytest.raises(UserError, match=f"reads {reads}, the data has input_ids") as refusal:
        prune(Checkpoint(source), recipe("wanda"), tmp_path / "masks", quiet, quiet)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("family", ["whisper", "vit"])
def test_images_and_sounds_from_arrays(family: str, tmp_path: Path) -> None:
    """The energies of every linear are those of the whole model, and the saved model is the masked one."""
    source, draw = save(family, tmp_path / "model"), torch.Generator().manual_seed(2)
    arrays = {"pixel_values": torch.randn((10, 3, 28, 28), generator=draw)}
    if family == "whisper":
        arrays = {"input_features": torch.randn((10, 8, 32), generator=draw), "decoder_input_ids": token_ids(10, 6)}
    np.savez(tmp_path / "data.npz", **{name: value.numpy() for name, value in arrays.items()})
    calibration = read_calibration(str(tmp_path / "data.npz"), source, None, None, 0)
    chosen = replace(recipe("wanda"), calibration=calibration)
    bundle = prune(Checkpoint(source), chosen, tmp_path / "masks", quiet, quiet)
    assert bundle.header.calibration["samples"] == 10
    save_pruned(source, bundle, tmp_path / "saved", quiet)
    batch = {name: value[:3] for name, value in arrays.items()}
    with torch.no_grad():
        whole, sums = load_whole(source), {}
        name = bundle.layers[0].name
        whole.get_submodule(name).register_forward_pre_hook(lambda _, args: sums.update({name: args[0]}))
        whole(**arrays)
        weight = whole.get_parameter(f"{name}.weight")
        scores = weight.abs() * sums[name].square().sum(dim=(0, 1)).sqrt()
        kept = torch.zeros_like(weight).scatter_(1, scores.topk(weight.shape[1] // 2, dim=1).indices, 1).bool()
        expected = first_output(load_whole(tmp_path / "saved")(**batch))
    assert torch.equal(torch.from_numpy(bundle[name].to_dense()), kept)
    torch.testing.assert_close(streamed(source, batch, bundle), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": np.zeros((2, 3, 28, 28))}, "takes no 'pixels'"),
        ({"pixel_values": np.full((2, 3, 28, 28), np.nan)}, "NaN or Inf"),
        ({"pixel_values": np.zeros((2, 3, 28, 28)), "labels": np.zeros(3)}, "all of the same number of samples"),
        ({"pixel_values": np.array(["a"])}, "arrays of numbers"),
        ({}, "holds nothing"),
    ],
)
def test_bad_arrays(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    source = save("vit", tmp_path / "model")
    np.savez(tmp_path / "data.npz", **arrays)

    def attempt() -> None:
        calibration = read_calibration(str(tmp_path / "data.npz"), source, None, None, 0)
        prune(Checkpoint(source), replace(recipe("wanda"), calibration=calibration), tmp_path / "masks", quiet, quiet)

    with pytest.raises(UserError, match=message) as refusal:
        attempt()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_no_perplexity_where_no_next_token_is_predicted(family: str, tmp_path: Path) -> None:
    checkpoint = Checkpoint(save(family, tmp_path))
    with pytest.raises(NotForThisModel, match="perplexity") as refusal:
        perplexity(checkpoint, token_ids(2, 12), None, quiet)
    assert "\n" not in str(refusal.value)


@torch.no_grad()
def test_a_weight_used_without_a_call_is_scored_by_its_inputs(tmp_path: Path) -> None:
    """Mamba's step sizes are dt_proj.weight @ x: x is what x_proj gives in its first time_step_rank places."""
    source, ids, seen = save("mamba", tmp_path), token_ids(3, 12), []
    whole = load_whole(source)
    mixer = whole.backbone.layers[0].mixer
    mixer.x_proj.register_forward_hook(lambda module, args, output: seen.append(output[..., :4]))
    whole(input_ids=ids, use_cache=False)
    model = BlockwiseModel(Checkpoint(source))
    hidden, block = model.embed(ids), model.checkpoint.load_block(0)
    with InputWatch(block, model.refs(0)) as watch:
        _, sums = watch.observe(lambda: model.run(0, hidden))
    expected = seen[0].double().square().sum(dim=(0, 1))
    torch.testing.assert_close(sums["backbone.layers.0.mixer.dt_proj"].energy, expected, rtol=1e-5, atol=0)
    warnings: list[str] = []
    prune(Checkpoint(source), recipe("wanda"), tmp_path / "masks", quiet, warnings.append)
    assert not any("magnitude" in warning for warning in warnings)


def test_shared_matrices_are_pruned_once(tmp_path: Path) -> None:
    source = save("zamba2", tmp_path / "model")
    bundle = prune(Checkpoint(source), recipe("wanda"), tmp_path / "masks", quiet, quiet)
    shared = [entry.name for entry in bundle.layers if "shared_transformer" in entry.name]
    assert shared
    assert all(name.startswith("model.layers.1.") for name in shared)
    assert not (tmp_path / "masks" / "shared.safetensors").exists()


def test_raw_memory_evaluates_three_times_alike(tmp_path: Path) -> None:
    source, ids = save("falcon_h1", tmp_path), token_ids(3, 12)
    with torch.no_grad():
        logits = load_whole(source)(input_ids=ids).logits
        losses = [nn.functional.cross_entropy(row[:-1], wanted[1:]) for row, wanted in zip(logits, ids, strict=True)]
    expected = float(torch.stack(losses).double().mean().exp())
    found = {perplexity(Checkpoint(source), ids, None, quiet) for _ in range(3)}
    assert len(found) == 1
    assert found.pop() == pytest.approx(expected, rel=1e-5)


def test_a_model_that_works_between_its_blocks_is_refused(tmp_path: Path) -> None:
    """RWKV halves its hidden states every few blocks, in the model and not in a block."""
    checkpoint = Checkpoint(save("rwkv", tmp_path, rescale_every=1))
    with pytest.raises(UserError, match=r"blocks of RwkvForCausalLM .*; it cannot be run block by block") as refusal:
        BlockwiseModel(checkpoint)
    assert "\n" not in str(refusal.value)


def test_hidden_states_of_another_order_are_refused(tmp_path: Path) -> None:
    """XLNet's are (sequence, batch, hidden)."""
    checkpoint = Checkpoint(save("xlnet", tmp_path))
    with pytest.raises(UserError, match="it cannot be run block by block"):
        perplexity(checkpoint, token_ids(2, 12), None, quiet)


def test_gradients_need_a_next_token(tmp_path: Path) -> None:
    source = save("bert", tmp_path / "model")
    chosen = replace(recipe("gblm"), calibration=Calibration(token_ids(2, 12), "test"))
    with pytest.raises(UserError, match="not a causal language model"):
        prune(Checkpoint(source), chosen, tmp_path / "masks", quiet, quiet)


@pytest.mark.parametrize("family", sorted({**FAMILIES, **ENCODING}))
def test_the_table_of_families_names_every_tested_one(family: str) -> None:
    kind = {**FAMILIES, **ENCODING}[family][0]
    text = (Path(__file__).parents[2] / "docs" / "families.md").read_text()
    assert f"`{kind}`" in text
