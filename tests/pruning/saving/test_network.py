"""Pruned networks in files: the class that built one loads it, with torch alone, and it computes what the masks do."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from checkpoints.recurrent import as_torch, with_linears
from pruning.applied import apply_bundle
from pruning.config import CalibrationConfig, PruneConfig
from studies.prune import open_model, recipe_for, run_prune
from tests.pruning.nets import FAMILY, Net, Sounds, seeded
from validation.conformance.tiny_models import quiet
from workloads.errors import UserError

SOUNDS = '''
import torch
from prunesim.families import NetworkFamily
from tests.pruning.nets import Sounds, seeded


class Heard(NetworkFamily):
    """A recurrent layer."""

    name = "heard"
    split_gates = True

    def build(self, variant):
        return seeded(Sounds())

    def samples(self, count, seed):
        return torch.randn(count, 40, generator=torch.Generator().manual_seed(seed))
'''
FILES = {"Tiny": (FAMILY, Net), "Heard": (SOUNDS, Sounds)}


@pytest.fixture
def family(tmp_path):
    def written(name: str) -> str:
        (tmp_path / "net.py").write_text(FILES[name][0])
        return f"{tmp_path}/net.py:{name}"

    return written


def saved(model, folder, method, save_format="dense", **asked):
    opened = open_model(model, "float32")
    recipe = recipe_for(model, opened, PruneConfig(method, 0.5, **asked), CalibrationConfig(samples=6))
    return run_prune(opened, recipe, folder / "masks", folder / "net", save_format, quiet, quiet)


def outputs_of(model, bundle, samples):
    opened = open_model(model, "float32")
    apply_bundle(opened, bundle)
    opened.load_all()
    return opened.run(samples)


@pytest.mark.parametrize(
    ("name", "method", "asked"),
    [
        ("Tiny", "magnitude", {}), ("Tiny", "sparsegpt", {}), ("Tiny", "magnitude-sp", {}),
        ("Tiny", "flap", {}), ("Heard", "wanda", {}),
        ("Heard", "sparsegpt", {"bits": 4}),
    ],
)  # fmt: skip
def test_its_class_loads_it_and_computes_what_the_masks_do(family, tmp_path, name, method, asked):
    model = family(name)
    bundle = saved(model, tmp_path, method, **asked)
    module = FILES[name][1]().eval()
    module.load_state_dict(load_file(tmp_path / "net" / "model.safetensors"))  # strict: every name, every size
    samples = open_model(model, "float32").family.samples(3, 5)
    dense = seeded(FILES[name][1]())(samples)
    assert not torch.allclose(module(samples), dense, atol=1e-2)
    torch.testing.assert_close(module(samples), outputs_of(model, bundle, samples), atol=1e-5, rtol=1e-5)
    said = json.loads((tmp_path / "net" / "pruned-from.json").read_text())
    assert (said["module"], said["method"], said["masks_sha256"]) == (FILES[name][1].__name__, method, bundle.sha256)
    assert said["tool_version"]


def test_a_repeated_command_writes_the_same_and_other_masks_are_refused(family, tmp_path):
    model = family("Tiny")
    saved(model, tmp_path, "magnitude")
    file = tmp_path / "net" / "model.safetensors"
    before = file.read_bytes()
    saved(model, tmp_path, "magnitude")
    assert file.read_bytes() == before
    (tmp_path / "masks").rename(tmp_path / "others")
    with pytest.raises(UserError, match="other masks"):
        saved(model, tmp_path, "wanda")
    assert file.read_bytes() == before


def test_biases_that_its_class_has_no_place_for_are_refused(family, tmp_path):
    file = tmp_path / "bare.py"
    file.write_text(
        FAMILY.replace("return seeded(Net())\n", "net = seeded(Net()); net.second.bias = None; return net\n")
    )
    with pytest.raises(UserError, match="second had no bias and has one now"):
        saved(f"{file}:Tiny", tmp_path, "flap")
    assert not (tmp_path / "net" / "model.safetensors").exists()
    assert (tmp_path / "masks" / "bundle.json").exists()


@pytest.mark.parametrize("form", ["padded", "packed", "factored"])
def test_other_forms_are_refused_before_anything_runs(family, tmp_path, form):
    with pytest.raises(UserError, match="is saved dense"):
        saved(family("Tiny"), tmp_path, "magnitude", form)
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    "module",
    [nn.LSTM(3, 5, num_layers=2, bidirectional=True), nn.GRU(3, 5, bias=False), nn.LSTMCell(3, 5)],
)
def test_recurrent_layers_get_their_names_back(module, split):
    wanted = module.state_dict()
    made = as_torch(with_linears(nn.Sequential(module), split)[0])
    assert set(made) == set(wanted)
    assert all(torch.equal(made[name], wanted[name]) for name in wanted)
