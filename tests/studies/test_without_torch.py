"""An installation without the extra `torch`: what simulates and reports works, the rest says in one line what to
install."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from workloads import BundleHeader, BundleWriter, Layer, PackedMask
from workloads.errors import library_missing

SCRIPT = Path(__file__).with_name("without_torch.py")
MODEL = {"model_type": "llama", "hidden_size": 64}  # not of the catalog, so transformers would have to build it
WORKS = {
    "bundle": "simulate bundle --on vitcod-paper --format csv --out rows.csv",
    "mask": "simulate --mask mask.npy --on sparten",
    "report": "report rows.csv --out page",
    "ls": "ls",
    "accelerators": "ls accelerators",
    "models": "ls models",
    "show": "show vitcod",
    "predict": "predict --shapes 16,64,64 --on h100-pcie",
    "inference": "inference llama-7b --on h100-pcie --prompt 16 --generate 4",
    "attention": "attention attention.npy --on vitcod-attention-paper",
    "formats": "formats bundle",
    "check": "check bundle",
    "help": "prune --help",
}
NEEDS_TORCH = {
    "prune": "prune model --method wanda --calibration text.txt --out out",
    "eval": "eval model --text text.txt",
    "measure": "measure --shapes 16,64,64 --out measured",
    "methods": "ls methods",
    "method": "show wanda",
    "config": "simulate --model config.json --on vitcod",
}


@pytest.fixture(scope="module")
def endings(tmp_path_factory) -> dict[str, tuple[int, str, str]]:
    folder = tmp_path_factory.mktemp("light")
    mask = np.random.default_rng(0).random((64, 64)) < 0.5
    np.save(folder / "mask.npy", mask)
    np.save(folder / "attention.npy", np.tril(mask)[None])
    (folder / "config.json").write_text(json.dumps(MODEL))
    (folder / "text.txt").write_text("text")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps(MODEL))
    writer = BundleWriter(folder / "bundle", BundleHeader("m", "hand-made"))
    writer.add(Layer("model.layers.0.q", "q", 0, 64, 64), PackedMask.from_dense(mask), "unstructured")
    writer.commit()
    writer.finish()
    commands = {**WORKS, **NEEDS_TORCH}
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        input=json.dumps([command.split() for command in commands.values()]),
        cwd=folder,
        env={"PYTHONPATH": str(SCRIPT.parents[2]), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip(commands, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("name", WORKS)
def test_what_needs_no_torch_works_without_it(endings, name):
    code, out, err = endings[name]
    assert code == 0, err
    assert out or "wrote" in err or "rows" in name, (out, err)


@pytest.mark.parametrize("name", NEEDS_TORCH)
def test_what_needs_torch_says_what_to_install(endings, name):
    code, out, err = endings[name]
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("prunesim: ")
    assert line.endswith("pip install 'prunesim[torch]'")


def test_lists_go_on_after_one_that_needs_torch(endings):
    _, out, _ = endings["ls"]
    assert "vitcod" in out
    assert "llama-7b" in out
    assert out.count("pip install 'prunesim[torch]'") == 4  # methods, quantizers, allocations, families


def test_a_missing_module_of_our_own_is_no_missing_library():
    assert library_missing(ModuleNotFoundError("No module named 'simulator.x'", name="simulator.x")) is None
    assert library_missing(ModuleNotFoundError("torchless")) is None
