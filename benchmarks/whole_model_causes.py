"""Why whole models on an A100 come out slower than published: what the published times leave for one kind of operation.

    python benchmarks/whole_model_causes.py      a line a row, and medians

TensorRT-LLM (static batches, fp16): the rate at which attention in decode must have read keys and values if all else
took as long as predicted; and, with the one factor on that attention's time that suits GPT-J best, how far the other
models are off.

Data: ../shared/data/performance (not part of this repository), as benchmarks/whole_models.py. Nothing of it is used by
the models."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.whole_models import FOLDER, KV_BITS, STATIC, times
from workloads.phases import generate

CARD, CHOSEN_ON, LONG = "A100", "GPT-J-6B", 2048


def attention_in_decode() -> pd.DataFrame:
    """One row of static batches each; us, and GB/s of keys and values."""
    found = []
    for row in pd.read_csv(FOLDER / "whole_model_trtllm_throughput.csv").itertuples():
        if not row.gpu.startswith(CARD):
            continue
        work = generate(row.batch, row.input_tokens, row.output_tokens)
        predicted = times(row, row.model, row.dtype, row.tp, work, STATIC, KV_BITS[row.dtype])
        attention = [one for one in predicted.rows if one.phase == "decode" and one.operation.role == "attention"]
        us, moved = sum(one.us for one in attention), sum(one.counts.bytes_kv for one in attention)
        rate = row.output_tokens_per_s * (row.tp if row.per == "gpu" else 1)
        published = row.batch * row.output_tokens / rate * 1e6
        found.append(
            {
                "model": row.model, "gpus": row.tp, "batch": row.batch, "prompt": row.input_tokens,
                "made": row.output_tokens, "predicted": predicted.us(), "published": published, "attention": us,
                "gbps": moved / us / 1e3, "left_gbps": moved / (us + published - predicted.us()) / 1e3,
            }
        )  # fmt: skip
    return pd.DataFrame(found)


def off(rows: pd.DataFrame, factor: float = 1.0) -> pd.Series:
    """Percent of tokens a second, with attention in decode taking `factor` of its time."""
    return 100 * (rows["published"] / (rows["predicted"] - (1 - factor) * rows["attention"]) - 1)


def main() -> None:
    rows = attention_in_decode()
    chosen = rows[rows["model"] == CHOSEN_ON]
    factor = min(np.linspace(0.4, 1.2, 81), key=lambda each: off(chosen, each).abs().mean())
    rows["off"], rows["off_chosen"] = off(rows), off(rows, factor)
    shown = rows.drop(columns=["predicted", "published", "attention"])
    print(shown.to_string(index=False, float_format=lambda value: f"{value:.0f}"))
    print(f"attention in decode x {factor:.2f}, chosen on {CHOSEN_ON}")
    for (model, long), some in rows.groupby(["model", rows["made"] == LONG]):
        made = f"{LONG} tokens made" if long else "fewer made"
        print(
            f"  {model}, {made}: {some['off'].median():+.0f} to {some['off_chosen'].median():+.0f} % ({len(some)} rows)"
        )


if __name__ == "__main__":
    main()
