"""The schema of result rows: one row = one (model, method, layer, tokens, target) fact.

Every room that produces figures fills these columns and nothing else; every table, figure and page is made
from them. Units end the names. A value that does not apply is NaN (numbers) or "" (text).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from workloads.errors import UserError
from workloads.files import utf8

SOURCES = ("simulated", "predicted", "measured", "published")


@dataclass(frozen=True)
class Column:
    name: str
    kind: Literal["text", "int", "float", "bool"]
    meaning: str


LAYER_COLUMNS = (
    Column("model", "text", "model id"),
    Column("method", "text", "what made the mask: a pruning method, a generator, an import, or 'dense'"),
    Column("pattern", "text", "'unstructured' or 'N:M' (at most N kept in each run of M inputs)"),
    Column("target_sparsity", "float", "share of zeros asked for, 0..1; NaN where nothing was asked for"),
    Column("layer", "text", "module path of the linear"),
    Column("block", "int", "decoder block number, from 0; -1 outside blocks"),
    Column("role", "text", "q k v o gate up down, fused or expert variants"),
    Column("out_features", "int", "rows of the weight matrix"),
    Column("in_features", "int", "columns of the weight matrix"),
    Column("nnz", "int", "kept weights"),
    Column("sparsity", "float", "share of zeros, 0..1"),
    Column(
        "layer_pattern",
        "text",
        "what the layer's own mask follows where that is not `pattern`: 'unstructured', 'N:M', or 'dense' (left alone: it runs as "
        "the unpruned layer does); else ''",
    ),
    Column("target", "text", "accelerator or GPU the figures hold for"),
    Column("settings", "text", "what was set differently from the target's preset, as key=value; '' if nothing"),
    Column(
        "level",
        "text",
        "'paper' (a publication's own formula), 'cycle' (tiles, lanes, buffers, DRAM) or 'kernel' (a GPU library's GEMM)",
    ),
    Column("kernel", "text", "level kernel: the library kernel that ran, or is predicted to be the fastest; else ''"),
    Column("source", "text", "simulated | predicted | measured | published"),
    Column("tokens", "int", "GEMM m: tokens that pass through the layer together"),
    Column(
        "layer_tokens", "float", "tokens that the layer has each time it runs: `tokens`, or an expert's share of them"
    ),
    Column(
        "executions",
        "float",
        "how often a step runs it, on average: 1, or the probability that an expert gets a token; in cycles, bytes, times, energies",
    ),
    Column("routing", "text", "experts: what is assumed of the router, and how many of them see a token; else ''"),
    Column("activation_density", "float", "share of nonzero inputs, 0..1; 1: dense, as LLM activations are"),
    Column("weight_bits", "int", "bits a stored weight value takes on the target"),
    Column("cycles", "int", "total cycles of the layer = compute_cycles + stall_cycles"),
    Column("compute_cycles", "int", "cycles in which the array works = ideal_cycles + imbalance_cycles"),
    Column("ideal_cycles", "float", "kept MACs / all MAC units: perfect balance, nothing waits"),
    Column(
        "imbalance_cycles", "float", "compute cycles lost to uneven lanes, rounding to whole lanes and zeros computed"
    ),
    Column("stall_cycles", "int", "cycles in which the array waits for DRAM or for its buffers"),
    Column("buffer_stall_cycles", "int", "the part of them that on-chip buffers of limited width cause"),
    Column("transfer_cycles", "int", "cycles the DRAM channel is busy (overlaps with compute)"),
    Column("folds", "int", "sigma: times the multipliers are filled with kept weights"),
    Column("distribution_cycles", "int", "sigma: cycles in which the distribution network is busy, over all folds"),
    Column("dense_cycles", "int", "cycles of the unpruned layer on the same target, same tokens"),
    Column("dense_compute_cycles", "int", "its compute cycles"),
    Column("published_dense_cycles", "int", "what the publication's program prints for the unpruned layer"),
    Column("speedup", "float", "dense_cycles / cycles; below 1 is a slowdown"),
    Column("compute_speedup", "float", "dense_compute_cycles / compute_cycles: what unlimited bandwidth would give"),
    Column("published_speedup", "float", "published_dense_cycles / cycles: what the publication's program would claim"),
    Column("weight_bytes", "int", "kept weight values moved from DRAM"),
    Column("metadata_bytes", "int", "mask metadata moved from DRAM"),
    Column("scale_bytes", "int", "scales and zero points of quantized weights moved from DRAM"),
    Column("activation_bytes", "int", "inputs moved from DRAM"),
    Column("output_bytes", "int", "outputs moved to DRAM"),
    Column("dense_bytes", "int", "all bytes the unpruned layer moves"),
    Column("utilisation", "float", "ideal_cycles / cycles, 0..1: useful MACs / (cycles x MAC units)"),
    Column("bound", "text", "largest part of the cycles: compute | imbalance | memory | buffer"),
    Column("mapping", "text", "how the target was set up for the layer: tile sizes, division of its lanes"),
    Column("clock_mhz", "float", "clock the cycles count"),
    Column("latency_us", "float", "time of the layer: cycles / clock, or a kernel's measured or predicted time"),
    Column("dense_latency_us", "float", "the same of the unpruned layer on the same target, same tokens"),
    Column(
        "latency_error_p90",
        "float",
        "predicted rows: nine of ten predicted times are off by at most this share, outside the fit",
    ),
    Column("speedup_error_p90", "float", "the same of predicted speedups; NaN where nothing runs sparse"),
    Column(
        "verdict",
        "text",
        "predicted rows: faster | slower, where the whole band of the speedup's error is; else not distinguishable; same kernel "
        "where the dense kernel runs",
    ),
    Column("extrapolated", "text", "predicted rows: what lies outside the data the prediction rests on, else ''"),
    Column(
        "energy_pj",
        "float",
        "energy of the layer: the sum of the five parts that follow; no leakage, control or network",
    ),
    Column("mac_pj", "float", "multiply-accumulates of kept weights"),
    Column("idle_pj", "float", "MAC slots without a kept weight: zeros multiplied, idle lanes, filling and draining"),
    Column("register_pj", "float", "operand registers"),
    Column("buffer_pj", "float", "on-chip buffers, reads and writes"),
    Column("dram_pj", "float", "DRAM"),
    Column("dense_energy_pj", "float", "energy of the unpruned layer on the same target, same tokens"),
    Column("energy_ratio", "float", "dense_energy_pj / energy_pj; below 1: the masked layer takes more"),
    Column("edp_pj_us", "float", "energy-delay product: energy_pj x latency_us"),
    Column("dense_edp_pj_us", "float", "the same of the unpruned layer"),
    Column("area_mm2", "float", "area of the target's MACs and buffers; no control, network or PHY"),
    Column("feasible", "bool", "False: the target cannot run it, `reason` says why and cycles are empty"),
    Column(
        "reason",
        "text",
        "why not feasible, why there is no dense baseline, or why a GPU runs a 2:4 mask dense; else ''",
    ),
    Column("mask_sha256", "text", "hash of the mask"),
    Column("spec_sha256", "text", "hash of the target's full description, overrides included"),
    Column("seed", "int", "seed of the masks"),
    Column("tool_version", "text", "prunesim version"),
)

QUALITY_COLUMNS = (
    Column("model", "text", "model id"),
    Column("method", "text", "pruning method, or 'dense': no masks applied to the weights as they are"),
    Column("pattern", "text", "'unstructured' or 'N:M'"),
    Column("target_sparsity", "float", "share of zeros asked for, 0..1; NaN where nothing was asked for"),
    Column("sparsity", "float", "zeros / weights over the pruned linears, 0..1"),
    Column(
        "weight_bits", "float", "mean stored bits of a pruned linear's weight values; NaN: the checkpoint's own type"
    ),
    Column("perplexity", "float", "exp of the mean window NLL per token"),
    Column("windows", "int", "windows evaluated"),
    Column("seq_len", "int", "tokens a window"),
    Column("text", "text", "file name of the evaluation text"),
    Column("text_sha256", "text", "hash of the token ids evaluated"),
    Column("seed", "int", "seed of the masks"),
    Column("tool_version", "text", "prunesim version"),
)

HARNESS_COLUMNS = (
    Column("model", "text", "model id"),
    Column("method", "text", "pruning method, or 'dense': no masks applied to the weights as they are"),
    Column("pattern", "text", "'unstructured' or 'N:M'"),
    Column("target_sparsity", "float", "share of zeros asked for, 0..1; NaN where nothing was asked for"),
    Column("sparsity", "float", "zeros / weights over the pruned linears, 0..1"),
    Column("weight_bits", "int", "bits of the bundle's weights; NaN: not quantized, or not all alike"),
    Column("seed", "int", "seed of the masks"),
    Column("task", "text", "lm_eval's name of the task, or of a group of tasks"),
    Column("task_version", "text", "version its task file states, else ''"),
    Column(
        "metric",
        "text",
        "lm_eval's name: acc, acc_norm, word_perplexity ...; 'metric,filter' where answers are filtered",
    ),
    Column("value", "float", "in the metric's unit: shares 0..1; perplexity per word or byte; bits per byte"),
    Column("stderr", "float", "standard error of the value; NaN where lm_eval has none"),
    Column("samples", "int", "documents scored"),
    Column("num_fewshot", "int", "solved examples in front of every question"),
    Column("fewshot_seed", "int", "seed that draws them"),
    Column("limit", "int", "only the first so many documents were asked for; NaN: all"),
    Column("seq_len", "int", "longest sequence the model was given, in tokens; longer ones lose their first tokens"),
    Column("special_tokens", "text", "'off': the texts alone; 'tokenizer': with what the tokenizer adds (BOS)"),
    Column("dtype", "text", "what the model computed in"),
    Column("prompts_sha256", "text", "hash of every text scored; '' for groups"),
    Column("masks_sha256", "text", "hash of the mask bundle, else ''"),
    Column("harness_version", "text", "lm_eval and its version"),
    Column("tool_version", "text", "prunesim version"),
)

FORMAT_COLUMNS = (
    Column("model", "text", "model id"),
    Column("layer", "text", "module path of the linear; 'all': every layer that the format can store"),
    Column("role", "text", "q k v o gate up down, fused or expert variants"),
    Column("out_features", "int", "rows of the weight matrix"),
    Column("in_features", "int", "columns of the weight matrix"),
    Column("nnz", "int", "kept weights"),
    Column("sparsity", "float", "share of zeros, 0..1"),
    Column("format", "text", "how the weights are stored"),
    Column("block", "text", "outputs x inputs that are compressed on their own, with their own indices and pointers"),
    Column("weight_bits", "int", "bits of a stored value; missing on the line 'all' where layers differ"),
    Column("stored_values", "int", "values stored, padding zeros and empty slots included"),
    Column("value_bytes", "int", "of values, whole bytes a layer"),
    Column("metadata_bytes", "int", "of bitmaps, indices, run lengths and pointers"),
    Column("scale_bytes", "int", "of scales and zero points, where weights are quantized"),
    Column("total_bytes", "int", "the sum of the three"),
    Column("bits_per_weight", "float", "total bits / (out_features x in_features)"),
    Column(
        "compression",
        "float",
        "bytes of the dense matrix at the same weight bits, scales included / total_bytes; below 1 is larger",
    ),
    Column("feasible", "bool", "False: the format cannot store the mask"),
    Column("reason", "text", "why not"),
    Column("mask_sha256", "text", "hash of the mask"),
    Column("tool_version", "text", "prunesim version"),
)

_DTYPES = {"text": "str", "int": "Int64", "float": "float64", "bool": "bool"}


def to_frame(rows: Iterable[Mapping[str, Any]], columns: tuple[Column, ...] = LAYER_COLUMNS) -> pd.DataFrame:
    """A frame with exactly the schema's columns and dtypes, in the schema's order.

    Raises UserError for a column outside the schema or an unknown `source`.
    """
    # As objects: a missing value must not turn whole numbers into floats.
    return in_schema(pd.DataFrame(list(rows), dtype="object"), columns)


def in_schema(frame: pd.DataFrame, columns: tuple[Column, ...] = LAYER_COLUMNS) -> pd.DataFrame:
    """As `to_frame`, of rows that are a frame already."""
    unknown = [c for c in frame.columns if c not in {column.name for column in columns}]
    if unknown:
        raise UserError(f"result rows have an unknown column {unknown[0]!r}; workloads/rows.py lists the known ones")
    data = {}
    for column in columns:
        values = frame[column.name] if column.name in frame else pd.Series([None] * len(frame), dtype="object")
        if column.kind == "text" and values.dtype != _DTYPES["text"]:
            values = values.astype("object").where(values.notna(), "")
        elif column.kind == "text":
            values = values.fillna("")
        if column.kind == "bool":
            values = values.astype("object").where(values.notna(), True)
        if column.kind == "float":
            values = pd.to_numeric(values)
        try:
            data[column.name] = values.astype(_DTYPES[column.kind])
        except UnicodeEncodeError:  # file names that are not UTF-8
            data[column.name] = values.map(utf8).astype(_DTYPES[column.kind])
        except OverflowError:
            raise UserError(f"result rows: a number in {column.name} is beyond 64 bits; ask for less") from None
    result = pd.DataFrame(data)
    if "source" in result and not set(result["source"]) <= {*SOURCES, ""}:
        unknown = sorted(set(result["source"]) - {*SOURCES, ""})
        raise UserError(f"result rows have an unknown source {unknown[0]!r}; known: {' '.join(SOURCES)}")
    return result


def to_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain dictionaries; missing numbers become None, ready for JSON."""
    return [
        {key: None if pd.isna(value) else value for key, value in record.items()}
        for record in frame.astype("object").to_dict("records")
    ]
