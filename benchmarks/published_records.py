"""Makes measurement/published/: measured GEMMs of publications as records, from tables that are not part of this
repository (../shared/data). NOTICE names their licences; figures are as published, rows selected and columns renamed.

    python benchmarks/published_records.py
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checkpoints.catalog import catalog_config
from measurement.layer_facts import shape_alone
from measurement.published import ENDING, FOLDER, Source
from measurement.records import Record, to_frame, write_record

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
SLIDESPARSE = Source(
    "SlideSparse",
    "SlideSparse (arXiv 2603.05232), bcacdwk/vllmbench@92a8ca49",
    "Apache-2.0",
    "best of the algorithms of cuBLASLt (dense) and cuSPARSELt (2:4, split-k too), CUDA events around 50 launches in a "
    "row after 25, L2 possibly warm, CUDA 12.9, January 2026; speedups over the dense kernel of the same type",
)
MACKO = Source(
    "MACKO",
    "MACKO (arXiv 2511.13061), vlejd/macko_spmv@afa7033",
    "MIT",
    "one token, random unstructured weights, fp16, a loop that writes twice the L2 between calls; cuBLAS on the dense "
    "matrix, cuSPARSE's CSR, MACKO's kernel",
)
AICONFIGURATOR = Source(
    "aiconfigurator",
    "ai-dynamo/aiconfigurator@095f58a5",
    "Apache-2.0",
    "PyTorch's linear in bf16, as the collector of that program times it",
)
CARDS = {
    "NVIDIA A100 80GB PCIe": "a100-pcie", "NVIDIA H100 PCIe": "h100-pcie", "NVIDIA GeForce RTX 4090": "rtx-4090",
    "NVIDIA B200": "b200", "GeForce RTX 4090": "rtx-4090", "GeForce RTX 3090": "rtx-3090",
    "GeForce RTX 2080 SUPER": "rtx-2080-super", "A100-80GB-SXM": "a100-sxm", "H100-80GB-SXM": "h100-sxm",
}  # fmt: skip
CUDA_NAMES = {"A100-80GB-SXM": "NVIDIA A100-SXM4-80GB", "H100-80GB-SXM": "NVIDIA H100 80GB HBM3"}
MODELS = {"Llama3.2-1B": "llama-3.2-1b", "Llama3.2-3B": "llama-3.2-3b"}
FUSED = ("qkv", "o", "gate_up", "down")
MACKO_KERNELS = {"cuBLAS": "dense", "cuSPARSE": "csr", "MACKO": "macko"}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, record in [*slidesparse(), *macko(), *aiconfigurator()]:
        path = FOLDER / f"{name}{ENDING}"
        write_record(path, record)
        print(f"{path}: {len(record.frame)} cases, {path.stat().st_size:,} bytes")


def rows_of(table: str) -> list[dict[str, str]]:
    with (DATA / table).open(newline="") as file:
        return list(csv.DictReader(file))


def by_card(table: str) -> Iterator[tuple[str, list[dict[str, str]]]]:
    rows = rows_of(table)
    for card in dict.fromkeys(row["gpu"] for row in rows):
        yield card, [row for row in rows if row["gpu"] == card]


def record_of(source: Source, card: str, cases: list[dict[str, Any]], layers: list[dict[str, Any]]) -> Record:
    header = {
        "source": vars(source), "environment": {"gpu": CUDA_NAMES.get(card, card)},
        "model": " + ".join(dict.fromkeys(layer["model"] for layer in layers)) or "shapes", "layers": layers,
        "conditions": {},
    }  # fmt: skip
    return Record(header, to_frame(cases))


def case(rows: int, cols: int, tokens: int, kernel: str, dtype: str, pattern: str, density: float, **times: Any) -> Any:
    return {
        "out_features": rows, "in_features": cols, "tokens": tokens, "kernel": kernel, "dtype": dtype,
        "pattern": pattern, "density": density, "compiled": "", "feasible": True, "reason": "", **times,
    }  # fmt: skip


def slidesparse() -> Iterator[tuple[str, Record]]:
    for card, rows in by_card("gpu/dense_vs_24_gemm.csv"):
        cases: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in rows:
            n, k, m = (int(row[name]) for name in "nkm")
            for kernel, column in (("dense", "dense_us"), ("cusparselt24", "sparse24_us")):
                found = case(
                    n, k, m, kernel, row["dtype"], "2:4", 1.0, warm_us=float(row[column]), warm_how="as published"
                )
                cases.setdefault(
                    (n, k, m, kernel, row["dtype"]), found
                )  # of a cube that is a model's shape too, the first
        layers = [layer for model in MODELS.values() for layer in fused_layers(model)]
        yield f"slidesparse-{CARDS[card]}", record_of(SLIDESPARSE, card, list(cases.values()), layers)


def fused_layers(model: str) -> list[dict[str, Any]]:
    """The linears of every block as inference engines run them: q, k and v as one, gate and up as one."""
    config = catalog_config(model)
    hidden, ffn, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    both = (heads + 2 * config["num_key_value_heads"]) * config["head_dim"]
    shapes = dict(zip(FUSED, [(both, hidden), (hidden, heads * config["head_dim"]), (2 * ffn, hidden), (hidden, ffn)],
                      strict=True))  # fmt: skip
    names = {
        "qkv": "self_attn.qkv_proj",
        "o": "self_attn.o_proj",
        "gate_up": "mlp.gate_up_proj",
        "down": "mlp.down_proj",
    }
    return [
        shape_alone(model, "2:4", *shapes[role], f"model.layers.{block}.{names[role]}", role, block)
        for block in range(config["num_hidden_layers"])
        for role in FUSED
    ]


def macko() -> Iterator[tuple[str, Record]]:
    for card, rows in by_card("performance/spmv_unstructured.csv"):
        cases = []
        for row in rows:
            n, k, density = int(row["rows"]), int(row["cols"]), float(row["density"])
            kernel, time = MACKO_KERNELS[row["kernel"]], float(row["time_us"])
            cases.append(case(n, k, 1, kernel, row["dtype"], "unstructured", density, cold_us=time))
        yield f"macko-{CARDS[card]}", record_of(MACKO, card, cases, [])


def aiconfigurator() -> Iterator[tuple[str, Record]]:
    for card, rows in by_card("performance/gemm_dense.csv"):
        cases = []
        for row in rows:
            n, k, m = (int(row[name]) for name in "nkm")
            cases.append(case(n, k, m, "dense", row["dtype"], "dense", 1.0, cold_us=float(row["latency_us"])))
        yield f"aiconfigurator-{CARDS[card]}", record_of(AICONFIGURATOR, card, cases, [])


if __name__ == "__main__":
    main()
