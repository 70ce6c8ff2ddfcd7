"""Perplexity of stories260K without some of its units, beside what the released programs print (Wanda-sp, CFSP and FLAP
run on the same model with 64 x 256 tokens, 48 windows of 512, dense 3.725). `--released` does as they did: the first
64 x 256 tokens of the text instead of random ones, no <s> in front of either text, their counts; otherwise crops are
drawn and the tokenizer's <s> begins the texts, as everywhere here. The released FLAP knows no grouped-query attention:
where it prunes heads, the model is the equal one in which every query head has its own copy of its key and value head.
`--parts` takes CFSP and FLAP apart, setting by setting; `--method` prints the lines of one method alone.

    python benchmarks/structured_yardsticks.py ../shared/data
"""

import argparse
import json
import logging
import shutil
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

import prunesim as ps
from pruning.data.tokenizer import load_tokenizer

# The uniform candidate of evolution, with each reformation.
UNSEARCHED: list[dict[str, Any]] = [
    {"generations": 1, "population": 1, "mutations": 0, "crossovers": 0, "reform": reform}
    for reform in ("none", "exact", "admm")
]
# (method, its settings, released perplexity at 20 and 50 %)
OF_NEURONS = [
    ("cfsp", {"count": "released", "slope": 1.6384}, (6.606, 32.361)),
    ("cfsp", {"count": "released", "slope": 1.6384, "score": "wanda"}, (6.531, 29.512)),
    ("cfsp", {}, None),
    ("cfsp", {"importance": "uniform", "score": "wanda"}, None),
    ("wanda-sp", {"units": "ffn", "structure": "global"}, (6.578, 31.236)),
    ("flap", {"units": "ffn", "fluctuation": "released"}, (6.421, 27.459)),
    ("magnitude-sp", {"units": "ffn", "count": "released"}, (9.439, 80.391)),
    ("obs-sp", {"units": "ffn"}, None),
    *(("evolution", {"units": "ffn", **each}, None) for each in UNSEARCHED),
    ("evolution", {"units": "ffn"}, None),
    ("taylor-sp", {"units": "ffn"}, None),
    ("taylor-sp", {"units": "ffn", "order": "second"}, None),
    ("taylor-sp", {"units": "ffn", "ranking": "global"}, None),
    ("taylor-sp", {"units": "ffn", "ranking": "global", "order": "second"}, None),
    ("policy-gradient", {"units": "ffn"}, None),
]
OF_HEADS = [
    ("flap", {"count": "released", "fluctuation": "released"}, (8.546, 56.377)),
    ("flap", {"structure": "ul-um", "count": "released", "fluctuation": "released"}, (6.775, 52.066)),
    ("flap", {"metric": "wifn", "count": "released"}, (8.388, 51.137)),
    ("wanda-sp", {"count": "released"}, (7.106, 72.157)),
    ("obs-sp", {}, None),
    ("taylor-sp", {}, None),
    ("taylor-sp", {"ranking": "global"}, None),
    ("taylor-sp", {"ranking": "global", "order": "second"}, None),
]
OF_KV_GROUPS = [
    *((method, settings, None) for method, settings, _ in OF_HEADS),
    ("policy-gradient", {}, None),
    *(("evolution", each, None) for each in UNSEARCHED),
    ("evolution", {}, None),
    ("evolution", {"fitness": "inherited"}, None),
    ("stamp", {}, None),
    ("ffr", {}, None),
]
PARTS = [
    *(
        ("cfsp", {"importance": importance, "score": score}, None)
        for importance in ("uniform", "angular", "cosine", "mse")
        for score in ("activation", "wanda")
    ),
    ("wanda-sp", {"units": "ffn"}, None),
    ("flap", {"units": "ffn", "structure": "ul-um", "bias": False}, None),
    ("flap", {"units": "ffn", "structure": "ul-um"}, None),
    ("flap", {"units": "ffn", "bias": False}, None),
    ("flap", {"units": "ffn"}, None),
    ("flap", {"units": "ffn", "metric": "wifn"}, None),
]
WITH_NEW_WEIGHTS = [("obs-sp", {"units": "ffn"}), ("obs-sp", {})]
HALF, TWO_BLOCKS = (0.2, 0.5), (0.2, 0.4)
OF_BLOCKS = [
    ("shortgpt", {}, None),
    ("blockpruner", {"remove": "blocks"}, None),
    ("blockpruner", {}, None),
]


@dataclass(frozen=True)
class Texts:
    """What is calibrated on and what is evaluated on: texts, or token ids (.npy)."""

    drawn: Path
    test: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--released", action="store_true", help="lines with a figure, and obs-sp, on their tokens")
    parser.add_argument("--method")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    texts = Texts(
        *(asked.data / "text" / name for name in ("tinystories_train_first2MB.txt", "tinystories_valid_clean.txt"))
    )
    with tempfile.TemporaryDirectory() as folder:
        model, equal = asked.data / "models/stories260K", Path(folder) / "equal"
        expand_kv_heads(model, equal)
        neurons, heads = "FFN neurons", "heads and FFN neurons, of the equal model without grouped queries"
        tables: list[tuple[str, list, Path, tuple[float, float]]] = [
            (neurons, OF_NEURONS, model, HALF),
            (heads, OF_HEADS, equal, HALF),
            ("kv groups and FFN neurons", OF_KV_GROUPS, model, HALF),
            ("1 and 2 of 5 blocks, or attentions and FFNs of their weights", OF_BLOCKS, model, TWO_BLOCKS),
        ]
        if asked.parts:
            tables = [("CFSP and FLAP in parts, FFN neurons", PARTS, model, HALF)]
        if asked.released:
            texts, asked.seeds = first_tokens(texts, model, Path(folder)), 1
            tables = [
                (title, [line for line in lines if line[2] or line[:2] in WITH_NEW_WEIGHTS], of, shares)
                for title, lines, of, shares in tables[:2]
            ]
        for title, lines, of, shares in tables:
            own = [line for line in lines if asked.method in (None, line[0])]
            if own:
                compare(texts, asked.seeds, title, own, of, shares)


def first_tokens(texts: Texts, model: Path, folder: Path) -> Texts:
    """The ids that the released programs were given: the first of the texts, without the <s> in front."""
    tokenizer, made = load_tokenizer(model), Texts(folder / "drawn.npy", folder / "test.npy")
    for text, file, rows, length in ((texts.drawn, made.drawn, 64, 256), (texts.test, made.test, 48, 512)):
        ids = tokenizer(text.read_text(encoding="utf-8"), add_special_tokens=False, verbose=False)["input_ids"]
        np.save(file, np.array(ids[: rows * length]).reshape(rows, length))
    return made


def compare(texts: Texts, seeds: int, title: str, lines: list, model: Path, shares: tuple[float, float]) -> None:
    at = " / ".join(f"{share:.0%}" for share in shares)
    print(f"{title}: perplexity at {at}, mean and spread of {seeds} seeds; released")
    for method, settings, released in lines:
        named = " ".join([method, *(f"{key}={value}" for key, value in settings.items())])
        ours = " / ".join(cell(texts, seeds, model, method, settings, share) for share in shares)
        theirs = " / ".join(f"{value:.3f}" for value in released) if released else "-"
        print(f"  {named:<60} {ours:<36} {theirs}", flush=True)


def expand_kv_heads(model: Path, folder: Path) -> None:
    """The same function with as many kv heads as query heads."""
    shutil.copytree(model, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.bin"))
    config = json.loads((model / "config.json").read_text())
    copies, size = config["num_attention_heads"] // config["num_key_value_heads"], config["head_dim"]
    tensors = load_file(model / "model.safetensors")
    for name, tensor in tensors.items():
        if name.endswith(("k_proj.weight", "v_proj.weight")):
            heads = tensor.reshape(-1, size, tensor.shape[1]).repeat(copies, axis=0)
            tensors[name] = heads.reshape(-1, tensor.shape[1])
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config | {"num_key_value_heads": config["num_attention_heads"]}))


def cell(texts: Texts, seeds: int, model: Path, method: str, settings: dict, sparsity: float) -> str:
    found = [perplexity(texts, model, method, settings, sparsity, seed) for seed in range(seeds)]
    return f"{statistics.mean(found):.3f}" + (f" +- {statistics.stdev(found):.3f}" if len(found) > 1 else "")


def perplexity(texts: Texts, model: Path, method: str, settings: dict, sparsity: float, seed: int) -> float:
    drawn = {"calibration": str(texts.drawn), "samples": 64, "seq_len": 256}
    data_of: dict[str, Any] = {} if method == "magnitude-sp" else drawn
    with tempfile.TemporaryDirectory() as out:
        bundle = ps.prune(model, out=out, method=method, sparsity=sparsity, set=settings, seed=seed, **data_of)
        found = ps.evaluate(model, text=texts.test, masks=bundle, seq_len=512, windows=48).frame
    return float(found["perplexity"][0])


if __name__ == "__main__":
    main()
