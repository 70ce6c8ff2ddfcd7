"""Packed checkpoints: the library reads our codes back, and transformers our weights, bit for bit."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import block_linears, find_blocks
from checkpoints.prunable import all_refs, parameter_name
from pruning.block_job import Decision
from pruning.bundle_values import read_quantized, to_values
from pruning.quantization_grid import QuantizationGrid, Quantized, fit, quantize
from pruning.saving import dense as saving
from pruning.saving.dense import save_pruned
from pruning.saving.packed import is_symmetric, packed_tensors, quantization_config, save_packed
from validation.conformance.tiny_models import contents, load_whole, quiet, save, token_ids
from workloads.bundle import BundleHeader, MaskBundle
from workloads.bundle_writer import BundleWriter
from workloads.errors import UserError
from workloads.mask import PackedMask

pytest.importorskip("compressed_tensors", reason="needs the extra 'packed'")
HALVES = [torch.float32, torch.float16, torch.bfloat16]


def everything(_: str) -> bool:
    return True


def on_grid(weight: torch.Tensor, keep: torch.Tensor, grid: QuantizationGrid) -> Quantized:
    masked = weight * keep
    return quantize(masked, *fit(masked, grid), grid).masked(keep)


def quantized_bundle(
    model: Path, folder: Path, grid: QuantizationGrid, packed: Callable[[str], bool] = everything,
    held: Callable[[str], bool] = everything, input_scale: bool = False,
) -> MaskBundle:  # fmt: skip
    """Half of every `held` layer pruned at random, `packed` ones on the grid, with asymmetric ranges."""
    checkpoint, draw = Checkpoint(model), torch.Generator().manual_seed(0)
    writer = BundleWriter(folder, BundleHeader("tiny", "random"))
    for number, refs in enumerate(all_refs(checkpoint)):
        block = checkpoint.load_block(number)
        for ref in refs:
            weight, dtype = ref.matrix(block).float() + 0.05, checkpoint.stored_dtype(parameter_name(ref))
            grid = replace(grid, scale_dtype=dtype)
            keep = torch.rand(weight.shape, generator=draw) < 0.5
            if not held(ref.layer.name):
                continue
            mask = PackedMask.from_dense(keep.numpy())
            if not packed(ref.layer.name):
                writer.add(ref.layer, mask, "unstructured")
                continue
            quantized = on_grid(weight, keep, grid)
            if input_scale:
                quantized = replace(quantized, input_scale=torch.ones(weight.shape[1]))
            values = to_values(Decision(keep, quantized.dequantize(), quantized), dtype)
            writer.add(ref.layer, mask, "unstructured", grid.bits, grid.group_size, values)
        writer.commit()
    return writer.finish()


@torch.no_grad()
def dense_twin(model: Path, masks: MaskBundle) -> torch.nn.Module:
    """The whole original in memory; weights taken off their grids, or masked, through the modules."""
    whole = load_whole(model)
    path, blocks = find_blocks(whole)
    for number, block in enumerate(blocks):
        for ref in block_linears(block, f"{path}.{number}", number):
            if ref.layer.name in masks:
                matrix, quantized = ref.matrix(block), read_quantized(masks, ref.layer.name)
                keep = torch.from_numpy(masks[ref.layer.name].to_dense())
                matrix.copy_(matrix * keep if quantized is None else quantized.dequantize())
                assert not matrix[~keep].any()
    return whole


def load(folder: Path, **rest: object) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True, **rest).eval()


def assert_same(found: torch.nn.Module, wanted: torch.nn.Module) -> None:
    """The same logits to the last bit, and the same parameters after that forward pass."""
    ids = token_ids(2, 12)
    assert torch.equal(found(input_ids=ids).logits, wanted(input_ids=ids).logits)
    parameters = dict(found.named_parameters())
    for name, parameter in wanted.named_parameters():
        assert parameters[name].dtype == parameter.dtype, name
        assert torch.equal(parameters[name], parameter), name


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return {key: tensor for file in folder.glob("*.safetensors") for key, tensor in load_file(file).items()}


FAMILIES = ["llama", "llama-tied", "qwen2", "opt", "opt-projected", "phi3", "gpt_neox", "bloom", "falcon", "gemma3"]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_loads_the_weights_off_their_grids(family: str, symmetric: bool, tmp_path: Path) -> None:
    source = save(family, tmp_path / "model", torch.bfloat16, "30KB")
    masks = quantized_bundle(source, tmp_path / "masks", QuantizationGrid(4, 16, symmetric))
    before = contents(source)
    save_packed(source, masks, tmp_path / "packed", quiet)
    assert contents(source) == before
    assert_same(load(tmp_path / "packed"), dense_twin(source, masks))
    new, old = stored(tmp_path / "packed"), stored(source)
    packed = {key.removesuffix("_packed") for key in new if key.endswith(".weight_packed")}
    assert len(packed) == len(masks)
    assert packed <= old.keys()
    assert {
        key for key in new if "." in key and not key.rpartition(".")[2].startswith("weight_")
    } == old.keys() - packed
    assert all(torch.equal(new[key], old[key]) for key in old.keys() - packed)
    index = json.loads((tmp_path / "packed" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == new.keys()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("bits", "group_size"), [(bits, 8 * (bits % 2)) for bits in range(2, 9)])
def test_every_width_per_row_or_group_in_every_type(
    bits: int, group_size: int, dtype: torch.dtype, tmp_path: Path
) -> None:
    source = save("llama", tmp_path / "model", dtype)
    masks = quantized_bundle(source, tmp_path / "masks", QuantizationGrid(bits, group_size))
    save_packed(source, masks, tmp_path / "packed", quiet)
    assert_same(load(tmp_path / "packed"), dense_twin(source, masks))


@pytest.mark.filterwarnings("ignore:You passed `quantization_config`")
def test_symmetric_codes_may_stay_packed_until_the_first_forward_pass(tmp_path: Path) -> None:
    from transformers import CompressedTensorsConfig

    source = save("qwen2", tmp_path / "model")
    masks = quantized_bundle(source, tmp_path / "masks", QuantizationGrid(4, 16, symmetric=True))
    save_packed(source, masks, tmp_path / "packed", quiet)
    model = load(tmp_path / "packed", quantization_config=CompressedTensorsConfig(dequantize=False))
    assert "model.layers.0.mlp.up_proj.weight_packed" in dict(model.named_parameters())
    assert_same(model, dense_twin(source, masks))


@pytest.mark.parametrize("group_size", [0, 8])
@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "qwen3_moe"])
def test_symmetric_experts_are_packed_one_by_one(family: str, group_size: int, tmp_path: Path) -> None:
    source = save(family, tmp_path / "model", torch.bfloat16)
    masks = quantized_bundle(source, tmp_path / "masks", QuantizationGrid(4, group_size, symmetric=True))
    save_packed(source, masks, tmp_path / "packed", quiet)
    assert_same(load(tmp_path / "packed"), dense_twin(source, masks))
    assert any("experts.3." in key and key.endswith("weight_packed") for key in stored(tmp_path / "packed"))


def test_layers_that_are_not_quantized_stay_dense_and_are_ignored(tmp_path: Path) -> None:
    source = save("qwen2", tmp_path / "model")
    masks = quantized_bundle(
        source,
        tmp_path / "masks",
        QuantizationGrid(3, 8),
        lambda name: "self_attn" not in name,
        lambda name: "up_proj" not in name,
    )
    save_packed(source, masks, tmp_path / "packed", quiet)
    assert_same(load(tmp_path / "packed"), dense_twin(source, masks))
    config = json.loads((tmp_path / "packed" / "config.json").read_text())
    dense = {f"model.layers.{n}.self_attn.{role}_proj" for n in range(2) for role in "qkvo"}
    dense |= {"lm_head", "model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"}
    assert set(config["quantization_config"]["ignore"]) == dense
    assert config.items() >= json.loads((source / "config.json").read_text()).items()


def test_routers_are_ignored(tmp_path: Path) -> None:
    source = save("qwen2_moe", tmp_path / "model")
    masks = quantized_bundle(source, tmp_path / "masks", QuantizationGrid(4, 0, symmetric=True))
    save_packed(source, masks, tmp_path / "packed", quiet)
    config = json.loads((tmp_path / "packed" / "config.json").read_text())
    assert set(config["quantization_config"]["ignore"]) == {
        "lm_head",
        "model.layers.1.mlp.gate",
        "model.layers.1.mlp.shared_expert_gate",
    }


def words_of(row: list[int], bits: int) -> list[int]:
    """The slow obvious twin: codes one after the other as bits of one long number, cut into signed 32-bit words."""
    number = sum(code << (bits * place) for place, code in enumerate(row))
    words = [number >> (32 * place) & 0xFFFFFFFF for place in range(-(-len(row) * bits // 32))]
    return [word - (1 << 32) if word >> 31 else word for word in words]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 8), st.integers(1, 37), st.integers(1, 9), st.integers(1, 12), st.booleans(), st.integers(0, 99))
def test_the_library_unpacks_our_codes(
    bits: int, rows: int, groups: int, width: int, symmetric: bool, seed: int
) -> None:
    from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor, unpack_from_int32
    from compressed_tensors.quantization import QuantizationConfig

    draw = torch.Generator().manual_seed(seed)
    cols, dtype = groups * width, HALVES[seed % 3]
    grid = QuantizationGrid(bits, width if groups > 1 else 0, symmetric, dtype)
    weight = torch.randn(rows, cols, generator=draw) + torch.randn(rows, 1, generator=draw)
    keep = torch.rand(rows, cols, generator=draw) < 0.5
    quantized = on_grid(weight, keep, grid)
    tensors = packed_tensors(quantized)
    assert is_symmetric(quantized) or not symmetric
    assert set(tensors) - {"weight_zero_point"} == {"weight_packed", "weight_scale", "weight_shape"}
    assert ("weight_zero_point" in tensors) == (not symmetric)
    assert tensors["weight_packed"].tolist() == [words_of(row, bits) for row in quantized.codes.tolist()]
    middle = 1 << (bits - 1)
    codes = unpack_from_int32(tensors["weight_packed"], bits, (rows, cols)).int() + middle
    assert torch.equal(codes, quantized.codes.int())
    if not symmetric:
        if bits == 4 and rows <= 8 and groups > 1:
            return  # refused: see test_what_cannot_be_packed
        zero = unpack_from_int32(tensors["weight_zero_point"], bits, (rows, groups), packed_dim=0).int() + middle
        assert torch.equal(zero, quantized.zero.int())
    config = QuantizationConfig.model_validate(quantization_config(grid, []))
    back = PackedQuantizationCompressor.decompress(tensors, config.config_groups["group_0"])["weight"]
    assert back.dtype == dtype
    assert torch.equal(back, quantized.dequantize().to(dtype))
    assert not back[~keep].any()


def test_bits_per_weight() -> None:
    """bits + (16 + bits) / group size with a 16-bit scale and a zero point; zeros cost as much as any code."""
    grid = QuantizationGrid(4, 128, scale_dtype=torch.bfloat16)
    for keep in (torch.ones(256, 256), torch.zeros(256, 256)):
        tensors = packed_tensors(on_grid(torch.randn(256, 256), keep.bool(), grid))
        size = sum(tensor.nbytes for kind, tensor in tensors.items() if kind != "weight_shape")
        assert 8 * size / 256**2 == 4 + 20 / 128


GRID, SYMMETRIC = QuantizationGrid(4, 8), QuantizationGrid(4, 8, symmetric=True)


@pytest.mark.parametrize(
    ("family", "grid", "rest", "message"),
    [
        ("mixtral", GRID, {}, "without zero points"),
        ("mixtral", SYMMETRIC, {"packed": lambda name: not name.endswith(".3")}, "expert is not quantized"),
        ("gpt_oss", SYMMETRIC, {}, "as one stack"),
        ("llama4_text", SYMMETRIC, {}, "as one stack"),
        ("gpt2", GRID, {}, "as in GPT-2"),
        ("llama", GRID, {"input_scale": True}, "AWQ scales its inputs"),
        ("llama", GRID, {"packed": lambda name: False}, "no quantized weights"),
        ("llama-narrow", GRID, {}, "zero points of 8 rows"),
    ],
)
def test_what_cannot_be_packed(family: str, grid: QuantizationGrid, rest: dict, message: str, tmp_path: Path) -> None:
    narrow = {"num_key_value_heads": 1} if family == "llama-narrow" else {}
    source = save(family.removesuffix("-narrow"), tmp_path / "model", **narrow)
    masks = quantized_bundle(source, tmp_path / "masks", grid, **rest)
    with pytest.raises(UserError, match=message) as error:
        save_packed(source, masks, tmp_path / "packed", quiet)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "packed").exists()


def test_a_checkpoint_that_lacks_a_matrix(tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model")
    masks, tensors = quantized_bundle(source, tmp_path / "masks", GRID), stored(source)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks model\.layers\.1\.mlp\.up_proj\.weight"):
        save_packed(source, masks, tmp_path / "packed", quiet)


def test_two_grids_in_one_bundle(tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model")
    writer = BundleWriter(tmp_path / "masks", BundleHeader("tiny", "random"))
    for refs, bits in zip(all_refs(Checkpoint(source)), (3, 4), strict=True):
        layer, weight = refs[0].layer, torch.randn(refs[0].layer.shape)
        keep = torch.ones(layer.shape, dtype=torch.bool)
        values = to_values(Decision(keep, weight, on_grid(weight, keep, QuantizationGrid(bits, 8))), torch.float32)
        writer.add(layer, PackedMask.from_dense(np.ones(layer.shape, bool)), "unstructured", bits, 8, values)
    writer.commit()
    with pytest.raises(UserError, match="4 bits and group size 8, but 3 and 8 before it"):
        save_packed(source, writer.finish(), tmp_path / "packed", quiet)


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save("llama", tmp_path / "model")
    masks = quantized_bundle(source, tmp_path / "masks", GRID)
    monkeypatch.setitem(sys.modules, "compressed_tensors", None)
    with pytest.raises(UserError, match=r"pip install 'prunesim\[packed\]'"):
        save_packed(source, masks, tmp_path / "packed", quiet)
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize("shards", [0, 1, 2])
def test_a_killed_run_continues_to_the_same_bytes(shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save("llama", tmp_path / "model")
    masks = quantized_bundle(source, tmp_path / "masks", GRID)
    save_packed(source, masks, tmp_path / "whole", quiet)
    written, write = [], saving.save_file

    def write_or_die(tensors, part, **rest) -> None:
        if len(written) == shards:
            raise KeyboardInterrupt
        written.append(part)
        write(tensors, part, **rest)

    monkeypatch.setattr(saving, "save_file", write_or_die)
    with pytest.raises(KeyboardInterrupt):
        save_packed(source, masks, tmp_path / "packed", quiet)
    monkeypatch.undo()
    assert not (tmp_path / "packed" / "config.json").exists()
    save_packed(source, masks, tmp_path / "packed", quiet)
    assert contents(tmp_path / "packed") == contents(tmp_path / "whole")


def test_dense_and_packed_never_mix_in_one_folder(tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model")
    masks = quantized_bundle(source, tmp_path / "masks", GRID)
    for first, second in ((save_pruned, save_packed), (save_packed, save_pruned)):
        folder = tmp_path / first.__name__
        first(source, masks, folder, quiet)
        before = contents(folder)
        with pytest.raises(UserError, match="packed otherwise"):
            second(source, masks, folder, quiet)
        assert contents(folder) == before


@pytest.mark.parametrize(("files", "config"), [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)])
def test_files_of_another_type_than_the_config(files: torch.dtype, config: torch.dtype, tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model", config)
    tensors = {key: tensor.to(files) for key, tensor in stored(source).items()}
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    masks = quantized_bundle(source, tmp_path / "masks", GRID)
    save_packed(source, masks, tmp_path / "packed", quiet)
    save_pruned(source, masks, tmp_path / "dense", quiet)
    assert_same(load(tmp_path / "packed"), load_whole(tmp_path / "dense"))
