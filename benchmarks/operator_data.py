"""The measured tables of operators as arrays: what each kernel was run on, and what may be left out of a fit together.

Data: ../shared/data/performance (not part of this repository), its README names the sources: aiconfigurator, Vidur,
LLMServingSim, LLMCompass, gpt-fast, MACKO.
"""

from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "performance"
SXM = {"a100-sxm": "A100", "h100-sxm": "H100"}
ELEMENTWISE = ("rmsnorm", "rope", "silu_mul", "residual_add", "embedding")
HEAD_DIM = 128  # of all models in layer_ops.csv


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER / f"{name}.csv")


def attention(phase: str, gpu: str, label: str) -> pd.DataFrame:
    """`group`: a geometry, windowed or not, is left out as a whole."""
    rows = table(f"attention_{phase}")
    rows = rows[rows["gpu"].str.startswith(gpu) & (rows["kernel"] == label)].reset_index(drop=True)
    windowed = (rows["window"] > 0).map({True: " window", False: ""})
    group = rows["heads"].astype(str) + "/" + rows["kv_heads"].astype(str) + "/" + rows["head_dim"].astype(str)
    rows["queries_per_kv"] = rows["heads"] / rows["kv_heads"]
    return rows.assign(group=group + windowed)


def layer_ops(gpu: str) -> pd.DataFrame:
    """With m, n, k of linears, and rows, cols of the rest; `group`: a model at a tensor parallel degree."""
    rows = table("layer_ops")
    rows = rows[rows["gpu"].str.startswith(gpu)].reset_index(drop=True)
    shapes = [_shape(row) for row in rows.itertuples()]
    rows["n"], rows["k"] = zip(*shapes, strict=True)
    return rows.assign(m=rows["tokens"], rows=rows["tokens"], cols=rows["n"],
                       group=rows["model"] + " tp" + rows["tp"].astype(str))  # fmt: skip


def _shape(row: object) -> tuple[int, int]:
    """(outputs, inputs) of an operator, its share of a tensor parallel layer."""
    get = {name: getattr(row, name) for name in ("op", "hidden", "heads", "kv_heads", "ffn", "tp")}
    hidden, ffn, tp = get["hidden"], get["ffn"] // get["tp"], get["tp"]
    heads, kv_heads = get["heads"] // tp, max(get["kv_heads"] // tp, 1)
    both = (heads + kv_heads) * HEAD_DIM
    return {
        "qkv_proj": ((heads + 2 * kv_heads) * HEAD_DIM, hidden),
        "o_proj": (hidden, heads * HEAD_DIM),
        "gate_up_proj": (2 * ffn, hidden),
        "down_proj": (hidden, ffn),
        "rope": (both, both),
        "silu_mul": (ffn, 2 * ffn),
    }.get(get["op"], (hidden, hidden))


def row_kernels(gpu: str, kind: str) -> pd.DataFrame:
    """Of decoder layers, or of LLMCompass' kernels alone, where `group` is a side of the matrix."""
    if kind in ELEMENTWISE:
        rows = layer_ops(gpu)
        rows = rows[rows["op"] == kind]
        if kind == "embedding":  # another kernel at 8 to 32 tokens, slower than at 64
            rows = rows[(rows["tokens"] < 8) | (rows["tokens"] >= 64)]
        return rows.reset_index(drop=True)
    rows = table("elementwise")
    rows = rows[rows["gpu"].str.startswith(gpu) & (rows["op"] == kind)].reset_index(drop=True)
    return rows.assign(group=[f"part {i % 4}" for i in rows.sort_values("latency_us").index.argsort()])


def linears(gpu: str, source: str) -> pd.DataFrame:
    """source: "layers" (Vidur's, whole models left out) or "gemm" (PyTorch's linear, whole weight shapes left out)."""
    if source == "layers":
        rows = layer_ops(gpu)
        return rows[rows["op"].str.contains("proj")].reset_index(drop=True)
    rows = table("gemm_dense")
    rows = rows[rows["gpu"].str.startswith(gpu)].reset_index(drop=True)
    shape = rows["n"].astype(str) + "x" + rows["k"].astype(str)
    fifth = {name: i % 5 for i, name in enumerate(sorted(set(shape)))}
    return rows.assign(group=[f"shapes {fifth[name]}" for name in shape])


def experts(gpu: str) -> pd.DataFrame:
    """`group`: a model's experts; of one model alone, a token count."""
    rows = table("moe_ffn")
    rows = rows[rows["gpu"].str.startswith(gpu)].reset_index(drop=True)
    group = rows["hidden"].astype(str) + "x" + rows["expert_ffn"].astype(str)
    return rows.assign(group=group if group.nunique() > 1 else rows["tokens"].astype(str) + " tokens")


def all_reduces(gpu: str, label: str) -> pd.DataFrame:
    rows = table("allreduce")
    rows = rows[rows["gpu"].str.startswith(gpu) & (rows["kernel"] == label)].reset_index(drop=True)
    return rows.assign(group=rows["gpus"].astype(str) + " GPUs")


def spmvs(gpu: str, label: str) -> pd.DataFrame:
    """`group`: a shape of the matrix, at all densities."""
    rows = table("spmv_unstructured").rename(columns={"time_us": "latency_us"})
    rows = rows[rows["gpu"].str.endswith(gpu) & (rows["kernel"] == label)].reset_index(drop=True)
    return rows.assign(group=rows["rows"].astype(str) + "x" + rows["cols"].astype(str))
