"""Small LLaMAs with token ids beside their weights, and `prune` on them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from studies.cli.main import main

CONFIG = LlamaConfig(
    vocab_size=300, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
)  # fmt: skip
LEAST = LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
)  # fmt: skip


def saved(folder: Path, config: LlamaConfig, tokens: int) -> Path:
    """A model with random weights; ids.npy: (4, tokens)."""
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    np.save(folder / "ids.npy", np.random.default_rng(0).integers(0, config.vocab_size, (4, tokens)))
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of CONFIG; nothing is written into it."""
    return saved(tmp_path_factory.mktemp("models") / "small", CONFIG, 32)


def prune(model: Path, out: Path, *arguments: object, method: str = "wanda") -> int:
    """The exit code of the verb."""
    with pytest.raises(SystemExit) as stop:
        main(["prune", str(model), "--method", method, "--calibration", str(model / "ids.npy"), "--out", str(out),
              *map(str, arguments)])  # fmt: skip
    return int(stop.value.code or 0)
