"""Makes measurement/published/operators.csv.gz: kernels of decoder layers as publications timed them, from tables that
are not part of this repository (../shared/data). NOTICE names their licences; figures are as published, columns
renamed, sizes of linears from those of the layer that they are of. Left out: sums of kernels, rates that a figure's
bars say, and a layer's operators by the clock of the host.

    python benchmarks/published_operators.py
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.operator_data import FOLDER, layer_ops
from benchmarks.published_tables import write_table
from measurement.published_operators import COLUMNS, FILE

CARDS = {"A100-80GB-SXM": "a100-sxm", "A100-80GB": "a100-sxm", "A100-80GB DGX": "a100-sxm", "H100-80GB-SXM": "h100-sxm",
         "H100-80GB": "h100-sxm", "H100-80GB DGX": "h100-sxm", "RTX4090": "rtx-4090",
         "RTXPRO6000": "rtx-pro-6000"}  # fmt: skip
OWNERS = {"ai-dynamo": "aiconfigurator", "microsoft": "Vidur", "casys-kaist": "LLMServingSim",
          "PrincetonUniversity": "LLMCompass"}  # fmt: skip
LAYERS = "layers"  # as the presets call them


def main() -> None:
    write_table(FILE, COLUMNS, [*attention(), *layers(), *row_kernels(), *experts(), *all_reduces()])


def table(name: str) -> list[dict[str, str]]:
    with (FOLDER / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def line(operation: str, row: dict[str, Any], *own: str, **others: Any) -> dict[str, Any]:
    """`own`: columns that are called the same."""
    facts = {name: row[name] for name in (*own, "latency_us")}
    facts |= {"target": CARDS[row["gpu"]], "published": OWNERS[row["source"].partition("/")[0]]}
    return {"operation": operation, "dtype": row.get("dtype", ""), "kernel": row.get("kernel", ""), **facts, **others}


def attention() -> Iterator[dict[str, Any]]:
    sizes = ("batch", "q_tokens", "kv_tokens", "heads", "kv_heads", "head_dim", "window")
    for phase in ("prefill", "decode"):
        for row in table(f"attention_{phase}"):
            yield line("attention", row, *sizes, phase=phase)


def layers() -> Iterator[dict[str, Any]]:
    for gpu in ("A100", "H100"):
        for row in layer_ops(gpu).to_dict("records"):
            if row["op"].endswith("_proj"):
                of = row["op"].removesuffix("_proj")
                yield line("linear", row, "m", "n", "k", kernel=LAYERS, of=of)
            else:
                yield line(row["op"], row, "rows", "cols", kernel="")


def row_kernels() -> Iterator[dict[str, Any]]:
    for row in table("elementwise"):
        yield line(row["op"], row, "rows", "cols")


def experts() -> Iterator[dict[str, Any]]:
    for row in table("moe_ffn"):
        distinct = row["distinct_experts"]
        own = ("tokens", "hidden", "expert_ffn", "experts", "top_k", "routing")
        yield line("moe", row, *own, distinct_experts="" if int(distinct) < 0 else distinct)


def all_reduces() -> Iterator[dict[str, Any]]:
    for row in table("allreduce"):
        yield line("all_reduce", row, "gpus", "message_bytes")


if __name__ == "__main__":
    main()
