"""Perplexities that the released CFSP and FLAP print, to their three digits: counts, scores and biases are theirs where
they are asked for. Their programs ran on stories260K with the first 64 x 256 tokens of the training text, 48 windows of
512, no <s> in front of either; FLAP on the equal model in which every query head has its own key and value head."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from checkpoints.checkpoint import Checkpoint
from pruning.data.tokenizer import load_tokenizer
from pruning.evaluation.perplexity import perplexity
from pruning.run.driver import prune
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import quiet

SHARED = Path(__file__).parents[4] / "shared" / "data"
MODEL = SHARED / "models/stories260K"
RELEASED = {"count": "released"}

pytestmark = pytest.mark.skipif(not MODEL.is_dir(), reason="stories260K is not beside this repository")


def first_tokens(text: str, rows: int, length: int) -> torch.Tensor:
    words = (SHARED / "text" / text).read_text(encoding="utf-8")[: 8 * rows * length]
    ids = load_tokenizer(MODEL)(words, add_special_tokens=False, verbose=False)["input_ids"]
    return torch.tensor(ids[: rows * length]).reshape(rows, length)


@pytest.fixture(scope="module")
def texts() -> tuple[torch.Tensor, torch.Tensor]:
    return first_tokens("tinystories_train_first2MB.txt", 64, 256), first_tokens("tinystories_valid_clean.txt", 48, 512)


@pytest.fixture(scope="module")
def equal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("equal")
    config = json.loads((MODEL / "config.json").read_text())
    copies = config["num_attention_heads"] // config["num_key_value_heads"]
    tensors = load_file(MODEL / "model.safetensors")
    for name, tensor in tensors.items():
        if "k_proj" in name or "v_proj" in name:
            tensors[name] = np.repeat(tensor.reshape(-1, config["head_dim"], 64), copies, axis=0).reshape(-1, 64)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config | {"num_key_value_heads": config["num_attention_heads"]}))
    return folder


@pytest.mark.parametrize(
    ("method", "settings", "sparsity", "printed"),
    [
        ("cfsp", RELEASED | {"slope": 1.6384}, 0.5, 32.361),
        ("magnitude-sp", RELEASED | {"units": "ffn"}, 0.5, 80.391),
    ],
)
def test_cfsp_and_its_baselines(
    method: str, settings: dict, sparsity: float, printed: float, texts: tuple[torch.Tensor, ...], tmp_path: Path
) -> None:
    assert found(MODEL, method, settings, sparsity, texts, tmp_path) == pytest.approx(printed, abs=6e-4)


@pytest.mark.parametrize(
    ("method", "settings", "sparsity", "printed"),
    [("flap", RELEASED | {"fluctuation": "released"}, 0.5, 56.377), ("wanda-sp", RELEASED, 0.5, 72.157)],
)
def test_flap_and_its_baseline(
    method: str, settings: dict, sparsity: float, printed: float, texts: tuple, equal: Path, tmp_path: Path
) -> None:
    assert found(equal, method, settings, sparsity, texts, tmp_path) == pytest.approx(printed, abs=6e-4)


def found(model: Path, method: str, settings: dict, sparsity: float, texts: tuple, folder: Path) -> float:
    drawn, test = texts
    checkpoint = Checkpoint(model)
    bundle = prune(checkpoint, recipe(method, sparsity, ids=drawn, **settings), folder / "out", quiet, quiet)
    return perplexity(checkpoint, test, bundle, quiet)
