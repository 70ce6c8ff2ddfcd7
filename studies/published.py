"""Published GPU figures as result rows beside the predictions of the same GEMMs, and what unstructured masks are
reported to cost."""

import re
from collections.abc import Iterator
from typing import Any

import pandas as pd

from simulator.gpu.published import GEMMS, SPMM_MAX_TOKENS, PublishedGemm, spmm_published
from workloads import __version__
from workloads.conditions import MOST_TOKENS
from workloads.routing import UNKNOWN
from workloads.rows import beside, to_frame

SAME = (
    "model", "method", "pattern", "target_sparsity", "layer", "block", "role", "out_features", "in_features", "nnz",
    "sparsity",
    "tokens", "activation_density", "mask_sha256", "seed",
)  # fmt: skip
DTYPE = re.compile(r"(?:^|\s)dtype=(\S+)")
SPARSE24 = "sparse24"  # the kernel of predicted rows whose mask and shape are fit for 2:4


def short_name(source: str) -> str:
    """ "SparseGPT (arXiv ...), tables 7 and 8: ..." -> "SparseGPT"."""
    return re.split(r"[(:,]", source)[0].strip()


def dtype_of(settings: str) -> str:
    found = DTYPE.search(settings)
    return found[1] if found else ""


def published_rows(predicted: pd.DataFrame) -> pd.DataFrame:
    """A row of source "published" for every publication's figure of a GEMM that a predicted row is of: same GPU preset,
    type, tokens and shape, a 2:4 mask. `settings` names the publication, `mapping` cites it and says how its card or
    kernel differs. A figure of one kernel alone, or a ratio alone, leaves the latencies empty that it does not have.
    """
    rows = [row for record in predicted.to_dict("records") for row in _of_layer(record)]
    return to_frame(rows)


def _of_layer(record: dict[Any, Any]) -> Iterator[dict[str, Any]]:
    dtype = dtype_of(record["settings"])
    asked = (record["target"], dtype, record["tokens"], record["out_features"], record["in_features"])
    if record["source"] != "predicted" or record["kernel"] != SPARSE24 or record["routing"] not in ("", UNKNOWN):
        return
    for gemm in GEMMS:
        if (gemm.gpu, gemm.dtype, gemm.m, gemm.n, gemm.k) == asked:
            yield {
                **{name: record[name] for name in SAME},
                "target": gemm.gpu,
                "settings": f"dtype={dtype} published={short_name(gemm.source)}",
                "level": "kernel",
                "source": "published",
                "latency_us": gemm.sparse24_us,
                "dense_latency_us": gemm.dense_us,
                "speedup": gemm.published_speedup,
                "mapping": cited(gemm),
                "feasible": True,
                "tool_version": __version__,
            }


def cited(gemm: PublishedGemm) -> str:
    return f"{gemm.source}; {gemm.note}" if gemm.note else gemm.source


def published_notes(rows: pd.DataFrame) -> list[str]:
    """What a reader must know of each publication in the rows."""
    texts = rows.loc[rows["source"] == "published", "mapping"]
    return [f"Published: {text}." for text in dict.fromkeys(texts) if text]


def unmatched_notes(gpus: list[str], rows: pd.DataFrame) -> list[str]:
    """Of the GPUs for which published figures were asked, those that have none here."""
    found = set(rows.loc[rows["source"] == "published", "target"])
    return [f"Published: nothing of this study's GEMMs on {gpu}." for gpu in dict.fromkeys(gpus) if gpu not in found]


def spmm_table(rows: pd.DataFrame) -> pd.DataFrame | None:
    """One line per model, GPU, tokens and unstructured mask among the predicted rows: its `sparsity`, the predicted
    `speedup` (1: it runs dense), and the speedups over cuBLAS, `published_low` to `published_high`, of kernels
    published elsewhere. None where there are no such masks, or nothing is published of their sparsity and tokens.
    """
    keys = ["model", "target", "settings", "tokens", "method", "pattern", "target_sparsity"]
    chosen = (rows["source"] == "predicted") & (rows["pattern"] == "unstructured") & (rows["kernel"] != SPARSE24)
    chosen &= ~beside(rows)
    chosen &= (rows["tokens"].fillna(MOST_TOKENS) <= SPMM_MAX_TOKENS) & rows["settings"].str.contains("dtype=fp16")
    lines = []
    for values, part in rows[chosen].groupby(keys, sort=False, dropna=False):
        key = dict(zip(keys, values, strict=True))
        sparsity = 1 - float(part["nnz"].sum()) / float((part["out_features"] * part["in_features"]).sum())
        cost = spmm_published(int(key["tokens"]), sparsity)
        if cost.published:
            lines.append({
                **key, "sparsity": sparsity, "speedup": part["dense_latency_us"].sum() / part["latency_us"].sum(),
                "published_low": 1 / cost.high, "published_high": 1 / cost.low, "published_source": cost.source,
            })  # fmt: skip
    return pd.DataFrame(lines) if lines else None
