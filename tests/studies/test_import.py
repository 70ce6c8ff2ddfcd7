"""prunesim import as a user meets it: masks with every mistake people make, and the way out that is named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints.discovery import discover_layers
from studies.cli.main import main
from studies.importing import filed_under
from workloads import MaskBundle

CONFIG = {
    "model_type": "llama", "vocab_size": 64, "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 2,
    "num_attention_heads": 8, "num_key_value_heads": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.json"
    path.write_text(json.dumps(CONFIG))
    return path


def masks(density: float = 0.3, pattern: str = "", seed: int = 0) -> dict[str, np.ndarray]:
    """Masks of every layer of CONFIG: unstructured, or exactly N of every M."""
    rng = np.random.default_rng(seed)
    made = {}
    for layer in discover_layers(CONFIG):
        if pattern:
            n, m = map(int, pattern.split(":"))
            order = rng.random((layer.out_features, layer.in_features // m, m)).argsort(axis=2)
            made[layer.name] = (order < n).reshape(layer.shape)
        else:
            made[layer.name] = rng.random(layer.shape) < density
    return made


def run(source: Path, out: Path, *options: object) -> int:
    try:
        main(["import", str(source), "--out", str(out), *map(str, options)])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def check(tmp_path, capsys):
    """Saves masks as .npz and imports them: the bundle and what was said, or the one line of a refusal."""

    def importing(arrays: dict[str, np.ndarray], *options: object) -> tuple[MaskBundle | None, str]:
        np.savez(tmp_path / "m.npz", **arrays)
        code = run(tmp_path / "m.npz", tmp_path / "out", *options)
        said = capsys.readouterr().err
        assert code == (0 if (tmp_path / "out").exists() else 2), said  # a refusal leaves no folder
        assert "Traceback" not in said
        if code:
            assert len(said.splitlines()) == 1
            return None, said
        bundle = MaskBundle.open(tmp_path / "out")
        bundle.validate()
        return bundle, said

    return importing


def test_two_four_is_called_so(check, config):
    bundle, said = check(masks(pattern="2:4"), "--model", config, "--label", "Ours", "--kept-is-one")
    assert bundle.header.pattern == "2:4"
    assert {entry.pattern for entry in bundle.layers} == {"2:4"}
    assert (bundle.header.method, bundle.header.model_id, bundle.header.target_sparsity) == ("Ours", "tiny", 0.5)
    assert bundle.header.model_config["hidden_size"] == 64
    assert "warning" not in said


def test_one_is_pruned(check, config):
    arrays = masks()
    bundle, _ = check({name: ~mask for name, mask in arrays.items()}, "--model", config, "--pruned-is-one")
    assert all(np.array_equal(bundle[name].to_dense(), mask) for name, mask in arrays.items())


@pytest.mark.parametrize("density", [0.3, 0.5, 0.7])
def test_what_nothing_tells_is_said(check, density):
    """No density proves that 1 is kept, not even one below a half."""
    bundle, said = check(masks(density))
    pruned = 100 * bundle.sparsity
    assert "warning: nothing in" in said
    assert f"{pruned:.1f} % of the weights are pruned, the other way {100 - pruned:.1f} %" in said
    assert "--pruned-is-one" in said


def test_a_pattern_that_holds_only_the_other_way_is_refused(check):
    arrays = masks(pattern="2:4")
    next(iter(arrays.values()))[0, :8] = False  # fewer than two of four: its complement is no 2:4
    _, said = check({name: ~mask for name, mask in arrays.items()})
    assert "--pruned-is-one" in said
    bundle, said = check(arrays)
    assert bundle.header.pattern == "2:4"
    assert "warning" not in said


def test_a_transposed_mask_is_refused_and_turned_on_request(check, config):
    arrays = masks()
    turned = {name: mask.T for name, mask in arrays.items()}
    _, said = check(turned, "--model", config)
    assert "say --transposed" in said
    assert "64 x 32" in said or "64 x 172" in said or "172 x 64" in said
    _, said = check(arrays, "--model", config, "--transposed")
    assert "leave --transposed out" in said
    bundle, _ = check(turned, "--model", config, "--transposed")
    assert all(np.array_equal(bundle[name].to_dense(), mask) for name, mask in arrays.items())


def test_square_masks_that_are_two_four_across(check):
    square = masks(pattern="2:4")["model.layers.0.self_attn.q_proj"]
    _, said = check({"layers.0.q_proj": square.T}, "--kept-is-one")
    assert "2:4 along their outputs" in said
    assert "--transposed" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "llama-7b"], "llama-7b is 4096 x 11008"), (["--model", "no-such"], "no model 'no-such'"),
        (["--pattern", "2:4"], "14 of 14 masks do not follow 2:4"), (["--pattern", "2:5:6"], "unknown pattern"),
        (["--names", "l{block}"], "neither a file nor a pattern"),
        (["--names", "x{block}{role}", "--model", "opt-175b"], "no layer of opt-175b"),
    ],
)  # fmt: skip
def test_what_is_said_of_them_is_checked(check, options, said):
    assert said in check(masks(), *options)[1]


def test_names_of_others(check, config):
    arrays = masks()
    short = {f"l{name.split('.')[2]}_{name.split('.')[-1]}": mask for name, mask in arrays.items()}
    _, said = check(short, "--model", config)
    assert "--names 'l{block}_{role}'" in said
    bundle, _ = check(short, "--model", config, "--names", "l{block}_{role}")
    assert all(np.array_equal(bundle[name].to_dense(), mask) for name, mask in arrays.items())
    assert [entry.role for entry in bundle.layers if entry.block == 1 and entry.name.endswith("q_proj")] == ["q"]


def test_names_that_say_nothing_are_told(check):
    bundle, said = check({"a": masks()["model.layers.0.self_attn.q_proj"]})
    assert bundle.layers[0].role == "other"
    assert "do not say which role or block" in said


def test_layers_without_masks_and_two_masks_of_one_layer(check, config):
    arrays = masks()
    name, mask = next(iter(arrays.items()))
    _, said = check({name: mask, name.removeprefix("model."): mask}, "--model", config)
    assert f"are both of layer {name}" in said
    bundle, said = check({name: mask}, "--model", config)
    assert len(bundle) == 1
    assert "13 of 14 layers of tiny have no mask" in said


def test_nothing_pruned_and_everything_pruned(check, config):
    ones = {name: np.ones_like(mask) for name, mask in masks().items()}
    assert "nothing is pruned" in check(ones)[1]
    assert "all " in check({name: ~mask for name, mask in ones.items()})[1]
    bundle, _ = check(ones, "--allow-dense")
    assert bundle.sparsity == 0


def test_a_dense_checkpoint_holds_no_masks(tmp_path, tiny_model, capsys):
    assert run(tiny_model, tmp_path / "out") == 2
    assert "a dense checkpoint holds no masks" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run(tiny_model, tmp_path / "out", "--allow-dense") == 0
    assert run(tiny_model, tmp_path / "more", "--allow-dense", "--pruned-is-one") == 2
    assert "holds weights, of which the zeros are pruned" in capsys.readouterr().err


def weights_of(arrays: dict[str, np.ndarray], dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        f"{name}.weight": ((1 + torch.rand(mask.shape)) * torch.from_numpy(mask)).to(dtype)
        for name, mask in arrays.items()
    }


SAVED = {
    "masks.pt": lambda a, p: torch.save({k: torch.from_numpy(v) for k, v in a.items()}, p),
    "legacy.pth": lambda a, p:
        torch.save({k: torch.from_numpy(v) for k, v in a.items()}, p, _use_new_zipfile_serialization=False),
    "nested.pt": lambda a, p:
        torch.save({"masks": [{k.split(".", 3)[3]: torch.from_numpy(v) for k, v in a.items() if f".{b}." in k} for b in (0, 1)]}, p),  # noqa: E501
    "pruned.pt": lambda a, p:
        torch.save({"state_dict": weights_of(a) | {"lm_head.weight": torch.ones(4, 4), "pos": torch.ones(1, 5).long()}}, p),  # noqa: E501
    "reparametrised.bin": lambda a, p:
        torch.save({f"{k}.weight_{w}": torch.from_numpy(v) if w == "mask" else torch.rand(v.shape) for k, v in a.items() for w in ("mask", "orig")}, p),  # noqa: E501
    "bool.safetensors": lambda a, p: save_file({k: torch.from_numpy(v) for k, v in a.items()}, p),
    "bf16.safetensors": lambda a, p: save_file({k: torch.from_numpy(v).bfloat16() for k, v in a.items()}, p),
    "f8.safetensors": lambda a, p:
        save_file({f"{k}.weight": torch.from_numpy(v).to(torch.float8_e4m3fn) for k, v in a.items()}, p),
    "int8.safetensors": lambda a, p:
        save_file({f"{k}.weight": torch.from_numpy(v).to(torch.int8) for k, v in a.items()}, p),
    "weights.safetensors": lambda a, p: save_file(weights_of(a, torch.float16), p),
    "f8-weights.safetensors": lambda a, p: save_file(weights_of(a, torch.float8_e5m2), p),
}  # fmt: skip


@pytest.mark.parametrize("name", SAVED)
def test_tensors_of_every_kind(tmp_path, config, name):
    arrays = masks()
    SAVED[name](arrays, tmp_path / name)
    assert run(tmp_path / name, tmp_path / "out", "--model", config) == 0
    bundle = MaskBundle.open(tmp_path / "out")
    assert len(bundle) == 14
    assert all(np.array_equal(bundle[name].to_dense(), mask) for name, mask in arrays.items())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("object.pt", {"a": object}, "Python objects beside tensors"),
        ("array.pt", {"a": np.eye(2)}, "Python objects beside tensors"),
        ("none.pt", {"a": 1}, "holds no matrix"), ("vector.pt", {"a": torch.ones(3)}, "holds no matrix"),
        ("sparse.pt", {"a": torch.eye(3).to_sparse()}, "sparse or quantized tensor"),
        ("nan.pt", torch.tensor([[float("nan"), 1]]), "1 of 2 weights are NaN"),
        ("numbers.pt", torch.tensor([[3, 1]]), "1 other values, the first is 3"),
        ("empty.pt", torch.ones(0, 3), "empty"),
    ],
)  # fmt: skip
def test_torch_files_without_masks(tmp_path, capsys, name, content, said):
    torch.save(content, tmp_path / name)
    assert run(tmp_path / name, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert "weights_only" not in error
    assert not (tmp_path / "out").exists()


def test_places_that_hold_no_masks(tmp_path, capsys, tiny_model):
    def refusal(path: Path) -> str:
        assert run(path, tmp_path / "out") == 2
        return capsys.readouterr().err

    assert run(tiny_model, tmp_path / "bundle", "--allow-dense") == 0
    capsys.readouterr()
    assert "is a mask bundle already" in refusal(tmp_path / "bundle")
    assert "give that folder" in refusal(tiny_model / "model.safetensors")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    save_file(
        {"base_model.model.layers.0.q_proj.lora_A.weight": torch.ones(2, 4)},
        tmp_path / "adapter" / "adapter_model.safetensors",
    )
    assert "LoRA adapter of org/base, not a model; merge it first" in refusal(tmp_path / "adapter")
    (tmp_path / "two").mkdir()
    for number in range(2):
        save_file({"mask": torch.eye(4)}, tmp_path / "two" / f"{number}.safetensors")
    assert "give every mask a name of its own" in refusal(tmp_path / "two")
    assert not (tmp_path / "out").exists()


def test_the_weights_of_the_model_tell_what_is_kept(tmp_path, tiny_model, check):
    """Every method keeps the larger weights; masks at random places tell nothing."""
    weights = load_file(tiny_model / "model.safetensors")
    arrays = {
        name.removesuffix(".weight"): (w.abs() > w.abs().median()).numpy()
        for name, w in weights.items() if ".layers." in name and w.ndim == 2
    }  # fmt: skip
    _, said = check({name: ~mask for name, mask in arrays.items()}, "--model", tiny_model)
    assert "1 seems to stand for pruned" in said
    assert "--pruned-is-one" in said
    bundle, said = check(arrays, "--model", tiny_model)
    assert "warning" not in said
    assert bundle.header.target_sparsity == 0.5
    bundle.folder.rename(tmp_path / "first")
    rng = np.random.default_rng(0)
    _, said = check({name: rng.random(mask.shape) < 0.5 for name, mask in arrays.items()}, "--model", tiny_model)
    assert "nothing in" in said


@pytest.fixture
def pruned(tmp_path, tiny_model) -> tuple[Path, dict[str, torch.Tensor]]:
    """A copy of the tiny model with half of every matrix at zero."""
    folder = tmp_path / "pruned"
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    for name, w in weights.items():
        if ".layers." in name and w.ndim == 2:
            weights[name] = (w * (w.abs() > w.abs().median())).contiguous()
    return folder, weights


def save_as(folder: Path, weights: dict[str, torch.Tensor], **settings: object) -> None:
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def bitmask_of(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As compressed-tensors wrote "sparse-bitmask": bit j of byte b is column 8 b + j."""
    made = {}
    for name, w in weights.items():
        if ".layers." not in name or w.ndim != 2:
            made[name] = w
            continue
        octets = torch.zeros(w.shape[0], -(-w.shape[1] // 8), dtype=torch.uint8)
        for column in range(w.shape[1]):
            octets[:, column // 8] |= (w[:, column] != 0).to(torch.uint8) << column % 8
        stem = name.removesuffix(".weight")
        made |= {f"{stem}.bitmask": octets, f"{stem}.compressed": w[w != 0], f"{stem}.shape": torch.tensor(w.shape)}
    return made


def test_checkpoints_of_every_form_hold_the_same_masks(tmp_path, pruned):
    """Plain floats with a sparsity_config left over, a bitmask, int8 codes; and a model that transformers does not
    know."""
    folder, weights = pruned
    codes = {}
    for name, w in weights.items():
        if ".layers." in name and w.ndim == 2:
            scale = w.abs().amax(1, keepdim=True) / 127
            codes |= {name: (w / scale).round().to(torch.int8), f"{name}_scale": scale}
        else:
            codes[name] = w
    leftover = {"quant_method": "compressed-tensors", "sparsity_config": {"format": "dense"}}
    for number, (tensors, settings) in enumerate([
        (weights, {"quantization_config": leftover}), (bitmask_of(weights), {"quantization_config": leftover}),
        (codes, {"quantization_config": {"quant_method": "compressed-tensors"}}),
        (weights, {"model_type": "mine", "quantization_config": None}),
    ]):  # fmt: skip
        save_as(folder, tensors, **settings)
        assert run(folder, tmp_path / str(number)) == 0
        bundle = MaskBundle.open(tmp_path / str(number))
        assert len(bundle) == 14
        for entry, mask in bundle:
            stored = codes if number == 2 else weights  # a small weight may be rounded to zero
            assert np.array_equal(mask.to_dense(), (stored[f"{entry.name}.weight"] != 0).numpy())
            assert entry.weight_bits == (8 if number == 2 else None)


def test_zero_points_are_the_zeros_of_codes(tmp_path):
    codes = torch.tensor([[3, 5, 3, 0], [1, 1, 0, 2]], dtype=torch.int8)
    name = "layers.0.self_attn.q_proj.weight"
    save_file(
        {
            name: codes,
            f"{name}_scale": torch.ones(2, 1),
            f"{name}_zero_point": torch.tensor([[3], [1]], dtype=torch.int8),
        },
        tmp_path / "m.safetensors",
    )
    assert run(tmp_path / "m.safetensors", tmp_path / "out") == 0
    ((_, mask),) = MaskBundle.open(tmp_path / "out")
    assert mask.to_dense().tolist() == [[False, True, False, True], [False, False, True, True]]


def test_widths_that_differ_by_layer(tmp_path, pruned, capsys):
    folder, weights = pruned
    for name, cut in (("gate_proj", (20, 32)), ("up_proj", (20, 32)), ("down_proj", (32, 20))):
        key = f"model.layers.1.mlp.{name}.weight"
        weights[key] = weights[key][: cut[0], : cut[1]].contiguous()
    save_as(folder, weights)
    assert run(folder, tmp_path / "out") == 0
    assert "3 of its weights, the first is model.layers.1.mlp" in capsys.readouterr().err
    shapes = {entry.name: entry.layer.shape for entry in MaskBundle.open(tmp_path / "out").layers}
    assert shapes["model.layers.0.mlp.up_proj"] == (48, 32)
    assert shapes["model.layers.1.mlp.up_proj"] == (20, 32)


def test_a_packed_checkpoint_keeps_its_bits(tmp_path, tiny_model, capsys):
    made = ["--method", "magnitude", "--pattern", "2:4", "--bits", "4", "--group-size", "16"]
    with pytest.raises(SystemExit, match="0"):
        main(
            [
                "prune",
                str(tiny_model),
                *made,
                "--out",
                str(tmp_path / "b"),
                "--save-model",
                str(tmp_path / "q"),
                "--save-format",
                "packed",
            ]
        )
    capsys.readouterr()
    assert run(tmp_path / "q", tmp_path / "out") == 0
    assert "14 of 14 matrices are stored in 4 bits" in capsys.readouterr().err
    first, second = MaskBundle.open(tmp_path / "b"), MaskBundle.open(tmp_path / "out")
    assert [(e.name, e.weight_bits, e.group_size) for e in first.layers] == [
        (e.name, e.weight_bits, e.group_size) for e in second.layers
    ]
    assert second.header.pattern == "2:4"
    for entry in first.layers:  # what was rounded to zero counts as pruned
        assert not (second[entry.name].to_dense() & ~first[entry.name].to_dense()).any()


@pytest.mark.parametrize("name", ["cut.npz", "cut.pt", "cut.safetensors", "cut.npy"])
def test_files_that_were_cut_off(tmp_path, capsys, name):
    """What they were is still known, and said."""
    arrays = masks()
    if name.endswith(".npy"):
        np.save(tmp_path / name, next(iter(arrays.values())))
    elif name.endswith(".npz"):
        np.savez(tmp_path / name, **arrays)
    else:
        SAVED["masks.pt" if name.endswith(".pt") else "bool.safetensors"](arrays, tmp_path / name)
    content = (tmp_path / name).read_bytes()
    for size in (len(content) // 2, 900 if name != "cut.npy" else 90):
        (tmp_path / name).write_bytes(content[:size])
        assert run(tmp_path / name, tmp_path / "out") == 2
        said = capsys.readouterr().err
        assert {"cut.npz": ".npz", "cut.npy": ".npy", "cut.pt": "torch", "cut.safetensors": "safetensors file"}[
            name
        ] in said
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("sparsity", "column"),
    [(0.4994, 0.5), (0.5019, 0.5), (0.5021, 0.502), (0.507, 0.507), (0.6999, 0.7), (0.0, 0.0),
     (0.999, 0.999), (0.99, 0.99)]
)  # fmt: skip
def test_the_column_of_a_sparsity_that_nobody_stated(sparsity, column):
    assert filed_under(sparsity) == column
