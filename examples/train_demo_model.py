"""Train the demo model: a small LLaMA on the Python standard library's own source.

    python examples/train_demo_model.py --steps 3600 --out examples/demo-model

The corpus is every .py file of the running Python's standard library outside test folders. Whole top-level
modules are held out: CALIBRATION for pruning statistics, EVALUATION for perplexity; neither is trained on.
Writes the model (fp16 safetensors), its tokenizer, both held-out texts and `training.json`, which states the
perplexity beside a unigram model and the untrained network. A killed run continues from its last checkpoint.
Seeded; bit-identical only on the same machine, library versions and thread count.
"""

import argparse
import json
import math
import os
import platform
import shutil
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CALIBRATION = [
    "argparse.py",
    "calendar.py",
    "configparser.py",
    "heapq.py",
    "json",
    "logging",
    "shlex.py",
    "statistics.py",
]
EVALUATION = [
    "ast.py",
    "csv.py",
    "dataclasses.py",
    "fractions.py",
    "gzip.py",
    "http",
    "queue.py",
    "textwrap.py",
    "zipfile.py",
]
SKIPPED_FOLDERS = {
    "test",
    "tests",
    "idle_test",
    "__pycache__",
    "site-packages",
    "dist-packages",
    "encodings",
    "pydoc_data",
}
END_OF_FILE = "<|endoftext|>"
SEQ_LEN = 512
BATCH = 8


def stdlib_texts() -> dict[str, list[str]]:
    """Sources of the standard library, split into train / calibration / evaluation by top-level module."""
    root = Path(sysconfig.get_paths()["stdlib"])
    split: dict[str, list[str]] = {"train": [], "calibration": [], "evaluation": []}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if SKIPPED_FOLDERS.intersection(parts) or parts[0].startswith("config-"):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        name = "calibration" if parts[0] in CALIBRATION else "evaluation" if parts[0] in EVALUATION else "train"
        split[name].append(text)
    return split


def train_tokenizer(texts: list[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_FILE],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    """One stream of token ids, files separated by the end-of-file token."""
    end = tokenizer.token_to_id(END_OF_FILE)
    stream = [np.array([*e.ids, end], dtype=np.int32) for e in tokenizer.encode_batch(texts)]
    return torch.from_numpy(np.concatenate(stream)).long()


@torch.no_grad()
def perplexity(model: torch.nn.Module, ids: torch.Tensor) -> float:
    """exp of the mean over whole windows of SEQ_LEN tokens of the mean NLL of their SEQ_LEN - 1 predictions."""
    windows = ids[: len(ids) // SEQ_LEN * SEQ_LEN].view(-1, SEQ_LEN)
    total = 0.0
    for window in windows.split(BATCH):
        logits = model(input_ids=window).logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten(), reduction="sum")
        total += loss.double().item()
    return math.exp(total / (windows.shape[0] * (SEQ_LEN - 1)))


def unigram_perplexity(train: torch.Tensor, evaluation: torch.Tensor, vocab_size: int) -> float:
    """Perplexity of add-one smoothed training frequencies on the evaluation stream."""
    counts = torch.bincount(train, minlength=vocab_size).double() + 1
    return math.exp(-(counts / counts.sum()).log()[evaluation].mean().item())


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 100 steps, then a cosine to a twentieth of the peak."""
    if step < 100:
        return peak * (step + 1) / 100
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - 100) / max(1, steps - 100))))


def optimizer_for(model: torch.nn.Module, peak: float) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    gains = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": gains, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95))


def train(model: torch.nn.Module, stream: torch.Tensor, steps: int, peak: float, seed: int, checkpoint: Path) -> None:
    """`steps` updates on random crops of `stream`, resumed from `checkpoint` if there is one."""
    optimizer = optimizer_for(model, peak)
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    device = next(model.parameters()).device
    began = time.monotonic()
    for step in range(first, steps):
        draw = torch.Generator().manual_seed(seed * 1_000_003 + step)  # a resumed run draws the same crops
        starts = torch.randint(0, len(stream) - SEQ_LEN, (BATCH,), generator=draw)
        batch = torch.stack([stream[s : s + SEQ_LEN] for s in starts.tolist()]).to(device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = model(input_ids=batch).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0:
            pace = (step + 1 - first) * BATCH * SEQ_LEN / (time.monotonic() - began)
            print(f"step {step + 1}/{steps}  loss {loss.item():.3f}  {pace:,.0f} tokens/s", file=sys.stderr, flush=True)
        if (step + 1) % 250 == 0:
            part = checkpoint.with_suffix(".part")
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}, part)
            os.replace(part, checkpoint)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("examples/demo-model"))
    parser.add_argument("--checkpoint", type=Path, default=Path("out/train/demo-model.pt"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    args.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)

    texts = stdlib_texts()
    tokenizer = train_tokenizer(texts["train"], args.vocab_size)
    streams = {name: encode(tokenizer, part) for name, part in texts.items()}
    end = tokenizer.token_to_id(END_OF_FILE)
    config = LlamaConfig(
        vocab_size=args.vocab_size, hidden_size=256, intermediate_size=704, num_hidden_layers=6,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=SEQ_LEN, rms_norm_eps=1e-5,
        tie_word_embeddings=True, bos_token_id=end, eos_token_id=end, pad_token_id=None, dtype="float16",
    )  # fmt: skip
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = LlamaForCausalLM(config).float().to(device)
    facts = {
        "python": platform.python_version(), "torch": torch.__version__, "device": device, "seed": args.seed,
        "steps": args.steps, "tokens_per_step": BATCH * SEQ_LEN, "learning_rate": args.learning_rate,
        "parameters": sum(p.numel() for p in model.parameters()),
        **{f"{name}_tokens": len(ids) for name, ids in streams.items()},
        "calibration_modules": CALIBRATION, "evaluation_modules": EVALUATION,
        "unigram_perplexity": unigram_perplexity(streams["train"], streams["evaluation"], args.vocab_size),
        "untrained_perplexity": perplexity(model.eval(), streams["evaluation"].to(device)),
    }  # fmt: skip
    print(json.dumps(facts), file=sys.stderr, flush=True)
    train(model.train(), streams["train"], args.steps, args.learning_rate, args.seed, args.checkpoint)

    model.half().save_pretrained(args.out)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_FILE, model_max_length=SEQ_LEN
    ).save_pretrained(args.out)
    licence = Path(sysconfig.get_paths()["stdlib"]) / "LICENSE.txt"  # of the texts; some distributions leave it out
    if licence.is_file():
        shutil.copyfile(licence, args.out / "LICENSE-PYTHON.txt")
    for name in ("calibration", "evaluation"):
        (args.out / f"{name}.txt").write_text(END_OF_FILE.join(texts[name]), encoding="utf-8")
    saved = AutoModelForCausalLM.from_pretrained(args.out, dtype=torch.float32).to(device).eval()
    facts["perplexity"] = perplexity(saved, streams["evaluation"].to(device))
    facts["train_perplexity"] = perplexity(saved, streams["train"][: len(streams["evaluation"])].to(device))
    (args.out / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
