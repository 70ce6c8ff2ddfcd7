"""Packed weights come back as the floats they were packed from; the library's own packing is the reference."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints.checkpoint import Checkpoint
from checkpoints.compressed import find_bits, from_bitmask, from_codes, unpack
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import build, load_whole, quiet, save
from workloads.errors import UserError

NAME = "model.layers.0.mlp.up_proj"


def rewrite(folder: Path, edit, config: dict | None = None) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / "model.safetensors")
    if config is not None:
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(settings | config))


def read(folder: Path, name: str = NAME) -> torch.Tensor:
    checkpoint = Checkpoint(folder)
    checkpoint.load([f"{name}.weight"])
    return checkpoint.model.get_parameter(f"{name}.weight")


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as refusal:
        read(folder)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("cols", [1, 31, 32, 48, 100])
def test_codes_are_those_the_library_packs(bits: int, cols: int) -> None:
    helpers = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")
    half = 1 << (bits - 1)
    codes = torch.randint(
        -half, half, (5, cols), dtype=torch.int8, generator=torch.Generator().manual_seed(bits * cols)
    )
    assert torch.equal(unpack(helpers.pack_to_int32(codes, bits), bits, cols), codes)
    packed_rows = helpers.pack_to_int32(codes.T.contiguous(), bits, packed_dim=0)
    assert torch.equal(unpack(packed_rows.T.contiguous(), bits, cols), codes)


def test_groups_in_any_order() -> None:
    """Two groups, inputs 0 and 3 in the second: 4 bits, codes 0..3 stored as 8..11."""
    words = torch.tensor([[8 | 9 << 4 | 10 << 8 | 11 << 12]], dtype=torch.int32)
    found = from_codes(words, torch.tensor([[1.0, 10.0]]), (1, 4), 4, None, torch.tensor([1, 0, 0, 1]))
    assert found.tolist() == [[0.0, 1.0, 2.0, 30.0]]
    zeros = torch.tensor([[7 + 8, 1 + 8]], dtype=torch.int32)  # zero points 7 and 1 of one row, packed along the rows
    found = from_codes(words, torch.tensor([[1.0, 10.0]]), (1, 4), 4, zeros.reshape(1, 2), torch.tensor([1, 0, 0, 1]))
    assert found.tolist() == [[-10.0, -6.0, -5.0, 20.0]]


@pytest.mark.parametrize(
    ("words", "cols", "stated", "bits"), [(16, 128, set(), 4), (1, 4, {4}, 4), (1, 8, {4}, 4), (12, 128, {4}, 3)]
)
def test_bits_follow_from_the_shapes_or_the_config(words: int, cols: int, stated: set, bits: int) -> None:
    assert find_bits(torch.Size((1, words)), (1, cols), stated) == bits


def test_bits_that_nothing_says() -> None:
    with pytest.raises(ValueError, match="leave the bits open"):
        find_bits(torch.Size((1, 1)), (1, 4), set())


@pytest.mark.parametrize("kind", ["any", "2:4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bitmasks(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    save("llama", tmp_path, dtype)
    weight = load_whole(tmp_path).get_parameter(f"{NAME}.weight")
    keep = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.4
    if kind == "2:4":
        keep = (torch.arange(weight.shape[1]) % 4 < 2).expand(weight.shape)
    bitmask = torch.from_numpy(np.packbits(keep.numpy(), axis=1, bitorder="little"))
    values = weight[keep].reshape(weight.shape[0], -1) if kind == "2:4" else weight[keep]

    def edit(tensors: dict[str, torch.Tensor]) -> None:
        stem = f"{NAME}.weight" if kind == "any" else NAME
        del tensors[f"{NAME}.weight"]
        tensors |= {
            f"{stem}.bitmask": bitmask,
            f"{stem}.compressed": values,
            f"{stem}.shape": torch.tensor(weight.shape),
        }

    rewrite(tmp_path, edit, {"quantization_config": {"quant_method": "compressed-tensors"}})
    assert torch.equal(read(tmp_path), torch.where(keep, weight, 0))
    assert Checkpoint(tmp_path).stored_dtype(f"{NAME}.weight") == dtype
    rewrite(
        tmp_path,
        lambda tensors: tensors.update(
            {f"{NAME}.weight.shape" if kind == "any" else f"{NAME}.shape": torch.tensor([48, 40])}
        ),
    )
    assert "bitmask of shape" in refused(tmp_path)


def test_a_bitmask_that_keeps_another_number() -> None:
    with pytest.raises(ValueError, match="keeps 1 weights, 2 are stored"):
        from_bitmask(torch.tensor([[1]], dtype=torch.uint8), torch.ones(2), (1, 3))


@pytest.mark.parametrize(
    ("bits", "group_size", "symmetric"), [(4, 16, True), (4, 0, False), (3, 16, False), (8, 0, True)]
)
def test_our_own_packed_checkpoints_are_read(bits: int, group_size: int, symmetric: bool, tmp_path: Path) -> None:
    """To the weights of the dense checkpoint of the same bundle; and pruning it again gives a folder of plain
    floats."""
    pytest.importorskip("compressed_tensors")
    from pruning.run.driver import prune
    from pruning.saving.dense import save_pruned
    from pruning.saving.packed import save_packed

    save("llama", tmp_path / "model", torch.bfloat16)
    chosen = recipe("magnitude", bits=bits, group_size=group_size, set={"quantizer.symmetric": symmetric})
    masks = prune(Checkpoint(tmp_path / "model"), chosen, tmp_path / "masks", quiet, quiet)
    save_packed(tmp_path / "model", masks, tmp_path / "packed", quiet)
    save_pruned(tmp_path / "model", masks, tmp_path / "dense", quiet)
    packed, dense = Checkpoint(tmp_path / "packed"), load_whole(tmp_path / "dense")
    for number in range(2):
        packed.load_block(number)
    for entry in masks.layers:
        name = f"{entry.name}.weight"
        assert torch.equal(packed.model.get_parameter(name), dense.get_parameter(name)), name
    again = prune(Checkpoint(tmp_path / "packed"), recipe("magnitude", 0.75), tmp_path / "masks2", quiet, quiet)
    save_pruned(tmp_path / "packed", again, tmp_path / "floats", quiet)
    assert "quantization_config" not in json.loads((tmp_path / "floats/config.json").read_text())
    floats = load_whole(tmp_path / "floats").get_parameter(f"{NAME}.weight")
    assert torch.equal(floats, dense.get_parameter(f"{NAME}.weight") * torch.from_numpy(again[NAME].to_dense()))


@pytest.mark.parametrize(
    "left",
    [
        {"sparsity_config": {"format": "dense"}},
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        {
            "quantization_config": {
                "quant_method": "compressed-tensors", "format": "dense", "sparsity_config": {"format": "dense"},
            }
        },
    ],
)  # fmt: skip
def test_floats_are_floats_whatever_the_config_says(left: dict, tmp_path: Path) -> None:
    save("llama", tmp_path)
    rewrite(tmp_path, lambda tensors: None, left)
    assert torch.equal(read(tmp_path), build("llama").get_parameter(f"{NAME}.weight"))


CODES = {
    "gptq": ({"qweight": torch.zeros(4, 48, dtype=torch.int32), "scales": torch.zeros(1, 48)}, "GPTQ"),
    "bitsandbytes": (
        {"weight": torch.zeros(768, 1, dtype=torch.uint8), "weight.absmax": torch.zeros(12)}, "bitsandbytes|uint8",
    ),
    "int8": (
        {"weight": torch.zeros(48, 32, dtype=torch.int8), "weight_scale": torch.zeros(48, 1)},
        "one number a weight|int8",
    ),
    "fp8": ({"weight": torch.zeros(48, 32).to(torch.float8_e4m3fn), "weight_scale_inv": torch.zeros(1, 1)}, "fp8"),
    "marlin": (
        {"weight_packed": torch.zeros(2, 96, dtype=torch.int32), "meta": torch.zeros(32, 3, dtype=torch.int16)},
        "marlin",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", CODES)
def test_other_quantized_formats_are_refused(form: str, tmp_path: Path) -> None:
    save("llama", tmp_path)
    parts, what = CODES[form]

    def edit(tensors: dict[str, torch.Tensor]) -> None:
        del tensors[f"{NAME}.weight"]
        tensors |= {f"{NAME}.{leaf}": tensor for leaf, tensor in parts.items()}

    rewrite(tmp_path, edit)  # config.json says nothing of it
    message = refused(tmp_path)
    assert "its weights are quantized" in message
    assert any(part in message for part in what.split("|"))


def test_a_packed_matrix_without_its_scale_is_named(tmp_path: Path) -> None:
    save("llama", tmp_path)
    words = {
        f"{NAME}.weight_packed": torch.zeros(48, 4, dtype=torch.int32),
        f"{NAME}.weight_shape": torch.tensor([48, 32]),
    }
    rewrite(tmp_path, lambda tensors: (tensors.pop(f"{NAME}.weight"), tensors.update(words)))
    assert f"lacks {NAME}.weight_scale" in refused(tmp_path)
