"""Rows of GPU kernels as times of GEMMs: dense and 2:4 of each shape by each source, and what predictions miss."""

import re

import numpy as np
import pandas as pd

from reports.tables.sums import KERNEL, groups
from reports.words.settings import others, setting, type_of
from workloads.layers import role_rank
from workloads.rows import beside

GEMM = ["target", "dtype", "tokens", "out_features", "in_features"]
GIVEN, PREDICTED, ERROR = "given", "predicted", "error (%)"  # groups of columns
TIMES = ("dense_us", "sparse24_us", "speedup")
ERRORS = {"dense_us": "dense_error", "sparse24_us": "sparse24_error", "speedup": "speedup_error"}
MASKED = ("csr", "bsr", "smaller", "macko", "openvino-sparse")  # measured kernels that are neither dense nor 2:4
# What CUDA calls the cards that have a preset.
CARDS = (
    (r"A100.*80GB.*PCIe", "a100-pcie"), (r"A100-SXM.*80GB", "a100-sxm"), (r"\bH100 PCIe", "h100-pcie"),
    (r"\bH100 80GB HBM3", "h100-sxm"), (r"\bH200\b", "h200"), (r"\bB200\b", "b200"), (r"\bRTX 4090$", "rtx-4090"),
)  # fmt: skip


def card_of(target: str) -> str:
    """ "NVIDIA A100 80GB PCIe" -> "a100-pcie"; a card without a preset keeps its name."""
    return next((preset for pattern, preset in CARDS if re.search(pattern, target)), target)


def is_24(kernel: str) -> bool:
    return kernel.endswith("24")


def gemm_times(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per GEMM (the preset's name of its card, type, tokens, shape), source and `reference`, which names the
    source in words: dense_us, sparse24_us (of the fastest 2:4 kernel), speedup, error_p90 (of predicted 2:4 times). NaN
    where not given.

    rows: checked; only feasible ones of level "kernel" count.
    """
    masked = rows["source"].isin(("measured", "published")) & rows["kernel"].isin(MASKED)
    shared = (
        masked | (rows["executions"].fillna(1) != 1) | (rows["layer_tokens"].fillna(rows["tokens"]) != rows["tokens"])
    )
    one = ~shared & ~beside(rows)  # an expert's row is a mean of GEMMs, and attention is none
    rows = rows[(rows["level"] == KERNEL) & rows["feasible"] & one]
    shown = ["target", "settings", "source", "kernel", "tokens", "out_features", "in_features", "latency_us"]
    rows = rows[[*shown, "dense_latency_us", "speedup", "latency_error_p90"]].drop_duplicates()
    lines = [_line(row) for row in rows.to_dict("records")]
    columns = [*GEMM, "source", "reference", *TIMES, "error_p90"]
    if not lines:
        return pd.DataFrame(columns=columns)
    keys = [*GEMM, "source", "reference"]
    least = {"dense_us": "min", "sparse24_us": "min", "speedup": "max", "error_p90": "max"}
    table = pd.DataFrame(lines).groupby(keys, sort=False, dropna=False).agg(least).reset_index()
    both = table["dense_us"] / table["sparse24_us"]
    return table.assign(speedup=table["speedup"].fillna(both))[columns]


def _line(row: dict) -> dict:
    """`speedup` only where a source gives it without the times."""
    source, settings, own, dense = row["source"], row["settings"], row["latency_us"], row["dense_latency_us"]
    nan = float("nan")
    line = {name: row[name] for name in ("tokens", "out_features", "in_features", "source")}
    line |= {"target": card_of(row["target"]), "dtype": type_of(settings), "error_p90": nan, "speedup": nan}
    if source == "predicted":
        sparse = is_24(row["kernel"])
        also = others(settings, "dtype")
        line |= {"dense_us": dense, "sparse24_us": own if sparse else nan, "reference": f"predicted {also}".strip()}
        line["error_p90"] = row["latency_error_p90"] if sparse else nan
    elif source == "measured" or row["kernel"]:
        also = others(settings, "kernel", "dtype")
        line |= {"dense_us": nan, "sparse24_us": nan}
        line["sparse24_us" if is_24(row["kernel"]) else "dense_us"] = own
        line["reference"] = f"{source} on {row['target']} {also}".strip()
    else:
        given = nan if not (pd.isna(own) or pd.isna(dense)) else row["speedup"]
        line |= {"dense_us": dense, "sparse24_us": own, "speedup": given}
        line["reference"] = f"{setting(settings, 'published') or row['target']} ({source})"
    return line


def sources_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per GEMM that has at least two sources, for each source that is no prediction and each prediction beside
    it.

    GEMM; `where` it occurs; `reference`: whose figures "given@..." are; "predicted@..."; "error (%)@...": predicted /
    given - 1; `stated_p90`, of the predicted 2:4 time. Empty where nothing has two sources."""
    times = gemm_times(rows)
    where = _where(rows)
    lines = []
    for key, group in groups(times, GEMM):
        if group["source"].nunique() < 2:
            continue
        predictions = group[group["source"] == PREDICTED].to_dict("records") or [{}]
        shape = key["out_features"], key["in_features"]
        for given in group[group["source"] != PREDICTED].to_dict("records"):
            for predicted in predictions:
                lines.append({**key, "where": where[shape], "shapes": f"{shape[0]} x {shape[1]}",
                              "source": given["source"], **_against(given, predicted)})  # fmt: skip
    return pd.DataFrame(lines)


def _against(given: dict, predicted: dict) -> dict:
    line: dict[str, object] = {"reference": given["reference"], "stated_p90": predicted.get("error_p90", np.nan)}
    for name in TIMES:
        ours = predicted.get(name, np.nan)
        line |= {f"{GIVEN}@{name}": given[name], f"{PREDICTED}@{name}": ours}
        line[f"{ERROR}@{ERRORS[name]}"] = ours / given[name] - 1
    return line


def _where(rows: pd.DataFrame) -> dict[tuple[int, int], str]:
    """ "opt-175b: q k v o" of each shape."""
    found: dict[tuple[int, int], list[str]] = {}
    pairs = rows.loc[rows["level"] == KERNEL, ["out_features", "in_features", "model", "role"]].drop_duplicates()
    for key, part in groups(pairs, ["out_features", "in_features", "model"]):
        roles = " ".join(sorted(part["role"], key=role_rank))
        found.setdefault((key["out_features"], key["in_features"]), []).append(f"{key['model']}: {roles}")
    return {shape: "; ".join(texts) for shape, texts in found.items()}


def error_sentences(table: pd.DataFrame) -> list[str]:
    """Of `sources_table`: how far the predictions are off, by source."""
    said = []
    for key, part in [] if table.empty else groups(table, ["source"]):
        parts = []
        for name, what in (("dense_error", "dense time"), ("sparse24_error", "2:4 time"), ("speedup_error", "speedup")):
            errors = part[f"{ERROR}@{name}"].dropna()
            if len(errors):
                largest = errors.loc[errors.abs().idxmax()]
                parts.append(
                    f"{what} {100 * errors.abs().median():.1f} % (largest {100 * largest:+.1f} %, of {len(errors)})"
                )
        both = part[[f"{GIVEN}@speedup", f"{PREDICTED}@speedup"]].dropna()
        if len(both):
            right = int(((both > 1).nunique(axis=1) == 1).sum())
            parts.append(f"faster or slower than dense told right in {right} of {len(both)}")
        if parts:
            said.append(f"Predictions against {key['source']} figures, median absolute error: {'; '.join(parts)}.")
    return said
