"""prunesim doctor: what is there, what is not, and a remedy for all that can be remedied."""

import importlib.util
import json
import tomllib

import pytest
import torch

from studies import doctor
from studies.cli.main import main
from tests.documents import ROOT


@pytest.fixture
def said(capsys):
    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main(["doctor", *arguments])
        assert not stop.value.code
        return capsys.readouterr().out

    return run


def of(findings, what):
    return next(each for each in findings if each.what == what)


def without(monkeypatch, *modules):
    there = importlib.util.find_spec
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None if name in modules else there(name))


def test_every_extra_is_looked_for():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(doctor.EXTRAS) == set(extras) - {"all", "dev"}
    for extra, (module, _) in doctor.EXTRAS.items():
        assert any(module.replace("_", "-") in need.replace("_", "-") for need in extras[extra])


def test_what_is_told_here(said):
    text = said()
    assert "yes simulate, predict" in text
    assert "yes measure the CPU" in text
    assert "no  2:4 on the CPU" in text
    found = json.loads(said("--format", "json"))
    assert {each["about"] for each in found} == {"program", "extra", "CPU", "GPU", "folder"}
    assert all(each["said"] for each in found)


def test_without_torch(monkeypatch):
    without(monkeypatch, "torch", "transformers", "gguf")
    found = list(doctor.findings())
    assert "prunesim[torch]" in str(of(found, "measure the CPU"))
    assert str(of(found, "gguf")).endswith("is not installed); pip install 'prunesim[gguf]'")
    assert of(found, "simulate, predict, inference, formats, report").there


@pytest.mark.parametrize(
    ("built", "card", "word"),
    [
        ("13.0", True, "nvidia-smi"),
        ("13.0", False, "ls records"),
        (None, True, "install page"),
        (None, False, "no card"),
    ],
)
def test_no_gpu(monkeypatch, built, card, word):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/bin/nvidia-smi" if card else None)
    (found,) = doctor.of_gpu()
    assert not found.there
    assert word in str(found)


def test_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A100")
    monkeypatch.setattr(torch.backends.cusparselt, "is_available", lambda: False)
    found = list(doctor.of_gpu())
    assert {each.what: each.there for each in found} == {
        "measure the GPU": True, "cuSPARSELt": False, "2:4": True, "bf16": True, "fp8": False,
    }  # fmt: skip
    assert "bring it" in str(of(found, "cuSPARSELt"))


def test_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "numba"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "new"))
    (tmp_path / "file").write_text("")
    found = list(doctor.of_folders())
    assert not of(found, "compiled loops").there
    assert "NUMBA_CACHE_DIR" in str(of(found, "compiled loops"))
    assert of(found, "models by name").there
    assert "not there yet" in of(found, "models by name").said
