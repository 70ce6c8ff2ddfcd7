"""A tiny LLaMA with a tokenizer, saved once for all tests of the roof."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = "the cat sat on a mat and the dog ran to see what a cat can do with one more mat "


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """2 blocks, hidden 32, ffn 48, context 64; calibration.txt, evaluation.txt and ids.npy lie beside the weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    rng = np.random.default_rng(0)
    text = " ".join(rng.choice(WORDS.split(), 3000))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [text], trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    (folder / "calibration.txt").write_text(text)
    (folder / "evaluation.txt").write_text(text[:6000])
    np.save(folder / "ids.npy", rng.integers(0, 300, (6, 32)))
    return folder
