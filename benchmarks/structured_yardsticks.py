"""Perplexity of stories260K without some of its units, beside what the released programs print (Wanda-sp, CFSP and FLAP
run on the same model with 64 x 256 tokens, 48 windows of 512, dense 3.725; their calibration crops are other ones).

    python benchmarks/structured_yardsticks.py ../shared/data
"""

import argparse
import logging
import statistics
import tempfile
from pathlib import Path

import prunesim as ps

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
]
OF_ALL = [
    ("flap", {"count": "released"}, (8.546, 56.377)),
    ("flap", {"structure": "ul-um", "count": "released"}, (6.775, 52.066)),
    ("flap", {"metric": "wifn", "count": "released"}, (8.388, 51.137)),
    ("wanda-sp", {"count": "released"}, (7.106, 72.157)),
    ("obs-sp", {}, None),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    for title, lines in (("FFN neurons", OF_NEURONS), ("kv groups and FFN neurons", OF_ALL)):
        print(f"{title}: perplexity at 20 / 50 %, mean and spread of {asked.seeds} seeds; released")
        for method, settings, released in lines:
            named = " ".join([method, *(f"{key}={value}" for key, value in settings.items())])
            ours = " / ".join(cell(asked.data, method, settings, share, asked.seeds) for share in (0.2, 0.5))
            theirs = " / ".join(f"{value:.3f}" for value in released) if released else "-"
            print(f"  {named:<60} {ours:<36} {theirs}", flush=True)


def cell(data: Path, method: str, settings: dict, sparsity: float, seeds: int) -> str:
    found = [perplexity(data, method, settings, sparsity, seed) for seed in range(seeds)]
    return f"{statistics.mean(found):.3f} +- {statistics.stdev(found) if len(found) > 1 else 0:.3f}"


def perplexity(data: Path, method: str, settings: dict, sparsity: float, seed: int) -> float:
    model, texts = data / "models/stories260K", data / "text"
    drawn = {"calibration": str(texts / "tinystories_train_first2MB.txt"), "samples": 64, "seq_len": 256}
    with tempfile.TemporaryDirectory() as out:
        bundle = ps.prune(
            model, out=out, method=method, sparsity=sparsity, set=settings, seed=seed,
            **({} if method == "magnitude-sp" else drawn),
        )  # fmt: skip
        found = ps.evaluate(
            model, text=texts / "tinystories_valid_clean.txt", masks=bundle, seq_len=512, windows=48
        ).frame
    return float(found["perplexity"][0])


if __name__ == "__main__":
    main()
