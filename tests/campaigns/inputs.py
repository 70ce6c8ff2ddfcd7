"""A tiny model and one of every kind of file that commands read, made once for a campaign."""

import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np

WORDS = re.findall(r"\w+", "the cat sat on a mat and the dog ran to see what a cat can do with one more mat")

STUDY = """title = "Tiny"
out = "study"
[[models]]
name = "tiny"
path = "model"
calibration = "ids.npy"
samples = 4
seq_len = 16
text = "text.txt"
eval_seq_len = 32
eval_windows = 2
dtype = "float32"
[[methods]]
method = "magnitude"
targets = [0.5, "2:4"]
[[methods]]
method = "wanda"
sparsity = 0.5
seeds = [0, 1]
label = "W"
[[accelerators]]
name = "vitcod"
tokens = [1, 3]
activation_density = 0.5
set.array.height = 8
[[accelerators]]
name = "vitcod-paper"
sweep = { "array.width" = [8, 16] }
[[accelerators]]
name = "a100-sxm"
dtype = "fp16"
tokens = [64]
published = true
models = ["tiny"]
"""


def make_inputs(folder: Path) -> None:
    """model/ (safetensors in two shards and an index, tokenizer), texts, ids, masks in every form, study, GEMMs. Needs
    torch."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    make_model(folder / "model", rng)
    text = " ".join(rng.choice(WORDS, 700))
    (folder / "text.txt").write_text(text)
    lines = [json.dumps({"text": " ".join(rng.choice(WORDS, 40))}) for _ in range(6)]
    (folder / "documents.jsonl").write_text("\n".join(lines) + "\n")
    pairs = [{"prompt": " ".join(words[:4]), "completion": f" {words[4]}"} for words in rng.choice(WORDS, (6, 5))]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)) + "\n")
    np.save(folder / "ids.npy", rng.integers(0, 280, (6, 16)))
    masks = {f"model.layers.{b}.self_attn.{r}_proj": rng.random((24, 40)) < 0.5 for b in (0, 1) for r in "qk"}
    np.savez_compressed(folder / "masks.npz", **masks)
    (folder / "masks").mkdir()
    for name, mask in masks.items():
        np.save(folder / "masks" / f"{name}.npy", mask)
    np.save(folder / "mask.npy", rng.random((24, 40)) < 0.5)
    np.save(folder / "attention.npy", rng.random((1, 2, 12, 12)) < 0.4)
    (folder / "documents.json.gz").write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    (folder / "names.toml").write_text('"l{block}_{role}" = "model.layers.{block}.self_attn.{role}_proj"\n')
    np.savez(folder / "short.npz", **{f"l{block}_q": rng.random((16, 16)) < 0.5 for block in (0, 1)})
    (folder / "topology.csv").write_text("Layer, M, N, K,\nq, 64, 4096, 4096,\ngate, 1, 11008, 4096,\n")
    (folder / "study.toml").write_text(STUDY)
    (folder / "gemms.csv").write_text("m,n,k,name\n64,4096,4096,q\n128,11008,4096,gate\n1,4096,11008,down\n")
    config = json.loads((folder / "model" / "config.json").read_text())
    (folder / "shapes.json").write_text(json.dumps(config))


def make_torch_files(folder: Path) -> None:
    """pickled/ (the model as pytorch_model.bin) and masks.pt beside model/. Needs torch."""
    import torch
    from safetensors.torch import load_file

    weights = {}
    for file in sorted((folder / "model").glob("*.safetensors")):
        weights |= load_file(file)
    copy_of(folder / "model", folder / "pickled", "config.json", "tokenizer.json", "tokenizer_config.json")
    torch.save(weights, folder / "pickled" / "pytorch_model.bin")
    torch.save({name: weight != 0 for name, weight in weights.items() if "q_proj" in name}, folder / "masks.pt")


def make_model(folder: Path, rng: np.random.Generator) -> None:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [" ".join(WORDS)], trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=280, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # half of the weights are zero, so that there are masks to import
        for name, weight in model.named_parameters():
            if "proj" in name:
                weight.masked_fill_(weight.abs() < weight.abs().median(), 0)
    model.save_pretrained(folder, max_shard_size="20KB")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    assert (folder / "model.safetensors.index.json").exists()


def copy_of(inputs: Path, folder: Path, *names: str) -> None:
    """`folder` with those files and folders of `inputs` in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        source = inputs / name
        if source.is_dir():
            shutil.copytree(source, folder / name, dirs_exist_ok=True)
        else:
            shutil.copy2(source, folder / name)
