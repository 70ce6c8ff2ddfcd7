"""Makes measurement/published/whole-models.csv.gz: whole models as publications timed them, from tables that are not
part of this repository (../shared/data). NOTICE names their licences; figures are as published, rows selected and
columns renamed, times of a step from tokens a second where these are given, speedups over the same model in 16 bits.

    python benchmarks/published_whole_models.py
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.published_tables import write_table
from measurement.published_models import COLUMNS, FILE

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "performance"
CARDS = {"A100-80GB-SXM": "a100-sxm", "H100-80GB-SXM": "h100-sxm", "H200-141GB-SXM": "h200", "L40S": "l40s",
         "GeForce RTX 4090": "rtx-4090"}  # fmt: skip
# Llama 3.1 has the shapes of Llama 3, LLaMA-70B those of Llama 2; the settings say which it was.
SHAPES = {
    "Llama-2-7B": "llama-2-7b", "Llama-2-70B": "llama-2-70b", "llama2-70b": "llama-2-70b", "LLaMA-7B": "llama-7b",
    "LLaMA-70B": "llama-2-70b", "Llama-3.1-8B": "llama-3-8b", "Llama-3.1-8B-Instruct": "llama-3-8b",
    "Llama-3.1-8B-Instruct-FP8": "llama-3-8b", "Llama-3.1-70B": "llama-3-70b",
}  # fmt: skip
GPTFAST = {"bf16": "bf16", "int8": "int8-weight", "int4-g32": "int4"}


def main() -> None:
    write_table(FILE, COLUMNS, [*gpt_fast(), *served(), *splitwise(), *tensorrt(), *macko()])


def table(name: str) -> list[dict[str, str]]:
    with (DATA / f"whole_model_{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def line(published: str, row: dict[str, str], dtype: str, settings: str = "", **figures: Any) -> dict[str, Any]:
    model, card = row["model"], row["gpu"].partition(" (")[0]
    known = SHAPES.get(model, model.lower())
    told = f"model={model}" if known.replace("-", "") != model.lower().replace("-", "") else ""
    return {
        "published": published, "model": known, "target": CARDS[card], "dtype": dtype, "tensor_parallel": 1,
        "batch": 1, "method": "", "host": "", "settings": " ".join(filter(None, [told, settings])), **figures,
    }  # fmt: skip


def gpt_fast() -> Iterator[dict[str, Any]]:
    rows = table("gptfast_decode")
    dense = {(r["model"], r["tp"]): float(r["tokens_per_s"]) for r in rows if r["weight_dtype"] == "bf16"}
    for row in rows:
        rate = float(row["tokens_per_s"])
        against = dense.get((row["model"], row["tp"]))
        yield line("gpt-fast", row, GPTFAST[row["weight_dtype"]], "power.limit_w=330", tensor_parallel=row["tp"],
                   host="compiled", prompt=5, decode_ms_per_token=f"{1e3 / rate:.6g}", tokens_per_s=rate,
                   speedup=f"{rate / against:.6g}" if against else "")  # fmt: skip


def served() -> Iterator[dict[str, Any]]:
    for row in [*table("llama31_fp8"), *table("qwen3_32b_fp8")]:
        fp8 = row["precision"] == "fp8" or row["gemm_quant_mode"].startswith("fp8") or row["model"].endswith("-FP8")
        yield line("aiconfigurator", row, "fp8" if fp8 else "", f"served={row['backend']}-{row['backend_version']}",
                   tensor_parallel=row["tp_size"], batch=row["batch_size"], prompt=row["isl"], generate=row["osl"],
                   prefill_ms=row["silicon_ttft_ms"], decode_ms_per_token=row["silicon_tpot_ms"])  # fmt: skip


def splitwise() -> Iterator[dict[str, Any]]:
    for row in table("splitwise"):
        yield line("Splitwise", row, "fp16", tensor_parallel=row["tensor_parallel"], batch=row["batch_size"],
                   host="eager-2023", prompt=row["prompt_size"], generate=row["token_size"],
                   prefill_ms=row["prefill_ms"], decode_ms_per_token=row["decode_ms_per_token"])  # fmt: skip


def tensorrt() -> Iterator[dict[str, Any]]:
    for row in table("trtllm_throughput"):
        gpus = int(row["tp"]) if row["per"] == "gpu" else 1
        yield line("TensorRT-LLM", row, row["dtype"], tensor_parallel=row["tp"], batch=row["batch"],
                   host="static-batch", prompt=row["input_tokens"], generate=row["output_tokens"],
                   tokens_per_s=f"{gpus * float(row['output_tokens_per_s']):.6g}")  # fmt: skip
    for row in table("trtllm_first_token"):
        yield line("TensorRT-LLM", row, row["dtype"], tensor_parallel=row["tp"], batch=row["batch"],
                   host="static-batch", prompt=row["input_tokens"], generate=1,
                   prefill_ms=row["first_token_ms"])  # fmt: skip


def macko() -> Iterator[dict[str, Any]]:
    """The dense rate stands in every row of the table: once, of the first."""
    for number, row in enumerate(table("macko_decode")):
        dense, sparse = float(row["dense_tokens_per_s"]), float(row["sparse_tokens_per_s"])
        if not number:
            yield line("MACKO", row, "fp16", generate=100, decode_ms_per_token=f"{1e3 / dense:.6g}",
                       tokens_per_s=dense, speedup=1.0)  # fmt: skip
        method = f"unstructured-{100 - 100 * float(row['density']):g}"
        yield line("MACKO", row, "fp16", "kernel=macko", generate=100, method=method,
                   decode_ms_per_token=f"{1e3 / sparse:.6g}", tokens_per_s=sparse,
                   speedup=f"{sparse / dense:.6g}")  # fmt: skip


if __name__ == "__main__":
    main()
