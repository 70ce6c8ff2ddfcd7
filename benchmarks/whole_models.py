"""Predicted whole models beside published ones: static batches, decode rates, prefill and decode of served models.

    python benchmarks/whole_models.py            a line for each table and GPU: how far predictions are off
    python benchmarks/whole_models.py --rows     every row too

Data: ../shared/data/performance (not part of this repository). Nothing is fitted here: kernels as the presets have
them, stacks as simulator/gpu/operators/stack.py has them, three of which come from rows of these tables.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from checkpoints.catalog import catalog_config
from checkpoints.decoders import decoder_of
from simulator.gpu import load_gpu
from simulator.gpu.operators.stack import STACKS, Stack
from simulator.inference.gpus import GpuRunner
from simulator.inference.steps import Times, times_of
from workloads.decoder.split import split
from workloads.phases import decode, generate, prefill

FOLDER = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "performance"
CARDS = {"A100-80GB-SXM": "a100-sxm", "H100-80GB-SXM": "h100-sxm", "H200": "h200"}
EIGHT = catalog_config("llama-3-8b")
MODELS: dict[str, dict[str, Any]] = {
    "Llama-2-7B": catalog_config("llama-2-7b"), "LLaMA-7B": catalog_config("llama-7b"),
    "Llama-2-70B": catalog_config("llama-2-70b"), "LLaMA-70B": catalog_config("llama-2-70b"),
    "llama2-70b": catalog_config("llama-2-70b"), "Llama-3.1-8B": EIGHT, "Llama-3.1-8B-Instruct": EIGHT,
    "Llama-3.1-70B": catalog_config("llama-3-70b"), "Llama-3.1-70B-Instruct": catalog_config("llama-3-70b"),
    "GPT-J-6B": {"model_type": "gptj", "n_embd": 4096, "n_layer": 28, "n_head": 16, "rotary_dim": 64,
                 "vocab_size": 50_400, "n_positions": 2048},
    "Falcon-180B": {"model_type": "falcon", "hidden_size": 14_848, "num_hidden_layers": 80, "num_attention_heads": 232,
                    "num_kv_heads": 8, "new_decoder_architecture": True, "parallel_attn": True, "vocab_size": 65_024},
    "Mixtral-8x7B": {"model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14_336,
                     "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32_000,
                     "num_local_experts": 8, "num_experts_per_tok": 2},
    "bloom-176b": {"model_type": "bloom", "hidden_size": 14_336, "n_layer": 70, "n_head": 112, "vocab_size": 250_880},
    "Qwen3-32B": {"model_type": "qwen3", "hidden_size": 5120, "intermediate_size": 25_600, "num_hidden_layers": 64,
                  "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936},
}  # fmt: skip
GRAPH, STATIC, EAGER, COMPILED = (STACKS[name] for name in ("cuda-graph", "static-batch", "eager-2023", "compiled"))
LONG = 8192  # tokens of a prefill from which those of Splitwise no longer grow with tokens
CHOSEN_ON = "Llama-3.1-8B"  # that elementwise kernels are fused in "compiled"
KV_BITS = {"fp16": 16, "fp8": 8}  # TensorRT-LLM keeps keys and values in fp8 where the model is
DTYPES = {"bf16": "bf16", "fp16": "fp16", "fp8": "fp8", "int8": "int8-weight", "int4-g32": "int4"}


def times(row: Any, model: str, dtype: str, ranks: int, work: Any, stack: Stack, kv_bits: int = 16) -> Times:
    gpu = load_gpu(CARDS[row.gpu.split(" (")[0]])
    runner = GpuRunner(gpu)
    return times_of(
        runner, split(decoder_of(MODELS[model]), ranks), work, runner.numbers(DTYPES[dtype], kv_bits), stack
    )


def static_batches() -> Iterator[tuple[str, str, float, float]]:
    """TensorRT-LLM: generated tokens a second, of a GPU in later tables."""
    for row in pd.read_csv(FOLDER / "whole_model_trtllm_throughput.csv").itertuples():
        if row.gpu in CARDS:
            work = generate(row.batch, row.input_tokens, row.output_tokens)
            found = times(row, row.model, row.dtype, row.tp, work, STATIC, KV_BITS[row.dtype])
            rate = row.batch * row.output_tokens / found.us() * 1e6 / (row.tp if row.per == "gpu" else 1)
            what = f"{row.model} {row.dtype} x{row.tp}, {row.batch} x {row.input_tokens} -> {row.output_tokens}"
            yield f"TensorRT-LLM, tokens/s, {row.gpu}", what, rate, row.output_tokens_per_s


def first_tokens() -> Iterator[tuple[str, str, float, float]]:
    for row in pd.read_csv(FOLDER / "whole_model_trtllm_first_token.csv").itertuples():
        if row.gpu in CARDS:
            found = times(
                row,
                row.model,
                row.dtype,
                row.tp,
                prefill(row.batch, row.input_tokens),
                STATIC,
                KV_BITS[row.dtype],
            )
            what = f"{row.model} {row.dtype} x{row.tp}, {row.input_tokens}"
            yield f"TensorRT-LLM, first token, {row.gpu}", what, found.us() / 1e3, row.first_token_ms


def decode_rates() -> Iterator[tuple[str, str, float, float]]:
    """gpt-fast, which is compiled: one sequence, 200 tokens behind a prompt of 5: a step in their middle. The rows that
    the stack was chosen on stand apart."""
    for row in pd.read_csv(FOLDER / "whole_model_gptfast_decode.csv").itertuples():
        what = f"{row.model} {row.weight_dtype} x{row.tp}"
        rows = "chosen on" if row.model == CHOSEN_ON else "others"
        for name, stack in (("graph", GRAPH), (f"compiled, {rows}", COMPILED)):
            found = times(row, row.model, row.weight_dtype, row.tp, decode(1, 105), stack)
            yield f"gpt-fast, tokens/s, A100, {name}", what, 1e6 / found.us(), row.tokens_per_s


def eager_serving() -> Iterator[tuple[str, str, float, float]]:
    for row in pd.read_csv(FOLDER / "whole_model_splitwise.csv").itertuples():
        card = row.gpu.split(" (")[0]
        what = f"{row.model} x{row.tensor_parallel}, {row.batch_size} x {row.prompt_size}"
        first = times(row, row.model, "fp16", row.tensor_parallel, prefill(row.batch_size, row.prompt_size), EAGER)
        step = decode(row.batch_size, row.prompt_size + max(row.token_size // 2, 1))
        then = times(row, row.model, "fp16", row.tensor_parallel, step, EAGER)
        far = row.batch_size * row.prompt_size >= LONG and row.tensor_parallel >= 4
        for name in ("", f", {LONG:,} tokens or more on 4 or 8 GPUs" if far else ", others"):
            yield f"Splitwise, prefill ms, {card}{name}", what, first.us() / 1e3, row.prefill_ms
        yield f"Splitwise, decode ms, {card}", what, then.us() / 1e3, row.decode_ms_per_token


def served_fp8() -> Iterator[tuple[str, str, float, float]]:
    """Steps of fp8 models as served, in the middle of the output. Times a token hold the prefills of other requests, so
    of rows of few requests with long outputs alone."""
    for name in ("whole_model_llama31_fp8.csv", "whole_model_qwen3_32b_fp8.csv"):
        rows = pd.read_csv(FOLDER / name)
        for row in rows[(rows["precision"] == "fp8") & (rows["batch_size"] <= 16) & (rows["osl"] >= 512)].itertuples():
            card = row.gpu.split(" (")[0]
            if card in CARDS:
                step = decode(row.batch_size, row.isl + max(row.osl // 2, 1))
                found = times(row, row.model, "fp8", row.tp_size, step, GRAPH)
                what = f"{row.model} x{row.tp_size}, {row.batch_size} x {row.isl} -> {row.osl}"
                yield f"served fp8, ms a token, {card}", what, found.us() / 1e3, row.silicon_tpot_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", action="store_true")
    asked = parser.parse_args()
    found = [
        row for table in (static_batches, first_tokens, decode_rates, eager_serving, served_fp8) for row in table()
    ]
    frame = pd.DataFrame(found, columns=["table", "what", "predicted", "published"])
    frame["off"] = 100 * (frame["predicted"] / frame["published"] - 1)
    if asked.rows:
        print(frame.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    for table, rows in frame.groupby("table", sort=False):
        off = rows["off"]
        print(
            f"{table}: {len(rows)} rows, median {off.median():+.0f} %, of sizes {off.abs().median():.0f} %, "
            f"mean of sizes {off.abs().mean():.0f} %, nine of ten within {off.abs().quantile(0.9):.0f} %"
        )


if __name__ == "__main__":
    main()
