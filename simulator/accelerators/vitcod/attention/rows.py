"""Attention masks in, result rows out: one a layer and one for the sum, columns as workloads/attention_rows.py has them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.accelerators.vitcod.attention import cycle as vitcod
from simulator.accelerators.vitcod.attention import paper as vitcod_paper
from simulator.accelerators.vitcod.attention.cycle import VitcodAttentionSpec
from simulator.accelerators.vitcod.attention.masks import AttentionMasks, layer_sha256
from simulator.accelerators.vitcod.attention.paper import PaperLayer, PaperSpec
from simulator.cycles import Infeasible
from simulator.machine.spec import load_spec, spec_sha256
from workloads import __version__
from workloads.attention_rows import TOTAL
from workloads.errors import unknown
from workloads.files import sha256_of

Row = dict[str, Any]


@dataclass(frozen=True)
class AttentionModel:
    """A way to count a layer's attention; `notes` are its approximations, one sentence each."""

    level: str
    spec_type: type
    documentation: str
    notes: tuple[str, ...]


ATTENTION_MODELS = {
    "vitcod-attention-paper": AttentionModel("paper", PaperSpec, vitcod_paper.__doc__ or "", vitcod_paper.NOTES),
    "vitcod-attention": AttentionModel("cycle", VitcodAttentionSpec, vitcod.__doc__ or "", vitcod.NOTES),
}

# What the total row adds up, where all layers have it; paper: `cycles` and `stall_cycles` follow from the sums.
SUMMED = (
    "kept", "global_keys", "cycles", "compute_cycles", "stall_cycles", "sddmm_cycles", "spmm_cycles", "decoder_cycles",
    "softmax_cycles", "ideal_cycles", "imbalance_cycles", "transfer_cycles", "dense_cycles", "dense_compute_cycles",
    "dense_preload_cycles", "dense_decoder_cycles", "sparse_preload_cycles", "sparse_decoder_cycles", "dense_sddmm_cycles",
    "sparse_sddmm_cycles", "dense_value_cycles", "dense_spmm_cycles", "sparse_value_cycles", "sparse_spmm_cycles",
    "query_bytes", "key_bytes", "value_bytes", "metadata_bytes", "output_bytes", "dense_bytes",
)  # fmt: skip


def simulate_attention(masks: AttentionMasks, on: str, overrides: Sequence[str] = ()) -> Iterator[Row]:
    """Rows of every layer in order, then the total, as dicts of ATTENTION_COLUMNS; `on` is a key of ATTENTION_MODELS.

    A layer that the target cannot run is a row with its reason, and so is then the total. Total: sums over the layers,
    which follow one another; level "paper": max(summed preload, summed compute), as the log has it.
    Raises UserError for an unknown target, bad overrides and bad masks.
    """
    if on not in ATTENTION_MODELS:
        raise unknown("attention accelerator", on, ATTENTION_MODELS)
    spec: Any = load_spec(on, ATTENTION_MODELS[on].spec_type, overrides)
    facts = {
        "masks": masks.name,
        "heads": masks.heads,
        "tokens": masks.tokens,
        "head_features": spec.attention.head_features,
        "target": on,
        "level": ATTENTION_MODELS[on].level,
        "source": "simulated",
        "clock_mhz": spec.clock.mhz,
        "spec_sha256": spec_sha256(on, spec),
        "tool_version": __version__,
    }
    rows: list[Row] = []
    papers: list[PaperLayer] = []
    reference = None if isinstance(spec, PaperSpec) else published(spec)
    for layer, kept in enumerate(masks):
        row = {**facts, **describe(kept), "layer": str(layer), **figures(spec, kept)}
        if reference is not None:
            papers += paper_layer(reference, kept)
            compare(row, papers[-1:] if len(papers) > layer else [])
        rows.append(row)
        yield row
    row = {**facts, **total(spec, rows)}
    if reference is not None:
        compare(row, papers if len(papers) == len(rows) else [])
    yield row


def describe(kept: np.ndarray) -> Row:
    count = int(kept.sum())
    return {"kept": count, "sparsity": 1 - count / kept.size, "mask_sha256": layer_sha256(kept)}


def figures(spec: Any, kept: np.ndarray) -> Row:
    """Columns of one layer that hold cycles, bytes and what follows; or why it cannot run."""
    try:
        row = paper_figures(spec, kept) if isinstance(spec, PaperSpec) else cycle_figures(spec, kept)
    except Infeasible as error:
        return {"feasible": False, "reason": str(error)}
    return {"feasible": True, "reason": "", **row, **derived(spec, row)}


def paper_figures(spec: PaperSpec, kept: np.ndarray) -> Row:
    found = vitcod_paper.simulate(spec, kept)
    dense = vitcod_paper.dense_layer(spec, *kept.shape[:2])
    return {
        "global_keys": found.global_keys,
        "cycles": found.cycles,
        "compute_cycles": found.compute,
        "stall_cycles": found.cycles - found.compute,
        "sddmm_cycles": found.sddmm,
        "spmm_cycles": found.spmm,
        "decoder_cycles": found.decoder,
        "transfer_cycles": found.preload,
        "dense_cycles": dense.cycles,
        "dense_compute_cycles": dense.compute,
        "dense_preload_cycles": found.dense_preload,
        "dense_decoder_cycles": found.dense_decoder,
        "sparse_preload_cycles": found.sparse_preload,
        "sparse_decoder_cycles": found.sparse_decoder,
        "dense_sddmm_cycles": found.dense_sddmm,
        "sparse_sddmm_cycles": found.sparse_sddmm,
        "dense_value_cycles": found.dense_value,
        "dense_spmm_cycles": found.dense_spmm,
        "sparse_value_cycles": found.sparse_value,
        "sparse_spmm_cycles": found.sparse_spmm,
    }


def cycle_figures(spec: VitcodAttentionSpec, kept: np.ndarray) -> Row:
    found = vitcod.simulate(spec, kept)
    row = {
        "global_keys": int((kept.sum(axis=1) > spec.attention.kept_above(kept.shape[-1])).sum()),
        "cycles": found.cycles,
        "compute_cycles": found.compute_cycles,
        "stall_cycles": found.stall_cycles,
        "sddmm_cycles": found.sddmm_cycles,
        "spmm_cycles": found.spmm_cycles,
        "decoder_cycles": found.decoder_cycles,
        "softmax_cycles": found.softmax_cycles,
        "ideal_cycles": found.ideal_cycles,
        "imbalance_cycles": found.sddmm_cycles + found.spmm_cycles - found.ideal_cycles,
        "transfer_cycles": found.transfer_cycles,
        "query_bytes": found.query_bytes,
        "key_bytes": found.key_bytes,
        "value_bytes": found.value_bytes,
        "metadata_bytes": found.metadata_bytes,
        "output_bytes": found.output_bytes,
        "mapping": found.mapping,
    }
    try:
        dense = vitcod.dense_layer(spec, *kept.shape[:2])
        row |= {
            "dense_cycles": dense.cycles,
            "dense_compute_cycles": dense.compute_cycles,
            "dense_bytes": dense.total_bytes,
        }
    except Infeasible as error:
        row["reason"] = f"without pruning it does not fit: {error}"
    return row


def published(spec: VitcodAttentionSpec) -> PaperSpec:
    """The published simulator as it is, for the same heads."""
    attention = [f"attention.{key}={value}" for key, value in vars(spec.attention).items()]
    loaded: PaperSpec = load_spec("vitcod-attention-paper", PaperSpec, attention)
    return loaded


def paper_layer(reference: PaperSpec, kept: np.ndarray) -> list[PaperLayer]:
    """What the published formula says of a layer; nothing where it divides by zero."""
    try:
        return [vitcod_paper.simulate(reference, kept)]
    except Infeasible:
        return []


def compare(row: Row, papers: list[PaperLayer]) -> None:
    """Adds how far the row's cycles are from the published formula."""
    if papers and row["feasible"]:
        row["paper_cycles"] = vitcod_paper.model_cycles(papers)
        row["paper_ratio"] = ratio(row["cycles"], row["paper_cycles"])


def derived(spec: Any, row: Row) -> Row:
    """Ratios of a row with cycles."""
    ratios: Row = {
        "speedup": ratio(row.get("dense_cycles"), row["cycles"]),
        "compute_speedup": ratio(row.get("dense_compute_cycles"), row["compute_cycles"]),
        "latency_us": row["cycles"] / spec.clock.mhz,
    }
    return {**ratios, "utilisation": ratio(row["ideal_cycles"], row["cycles"])} if "ideal_cycles" in row else ratios


def ratio(over: float | None, under: float | None) -> float | None:
    return over / under if over is not None and under else None


def total(spec: Any, rows: list[Row]) -> Row:
    """The row that sums a model; infeasible where a layer is."""
    row: Row = {
        "layer": TOTAL,
        "sparsity": sum(each["sparsity"] for each in rows) / len(rows),  # all layers have the same size
        "mask_sha256": sha256_of([each["mask_sha256"] for each in rows]),
    }
    refused = [each["layer"] for each in rows if not each["feasible"]]
    if refused:
        kept = sum(each["kept"] for each in rows)
        return {**row, "kept": kept, "feasible": False, "reason": f"cannot run layer {', '.join(refused)}"}
    for name in SUMMED:
        if all(name in each for each in rows):
            row[name] = sum(each[name] for each in rows)
    if isinstance(spec, PaperSpec):
        row["cycles"] = max(
            row["transfer_cycles"], row["compute_cycles"]
        )  # dense layers are alike, so their sum is right
        row["stall_cycles"] = row["cycles"] - row["compute_cycles"]
    return {"feasible": True, "reason": rows[0]["reason"], **row, **derived(spec, row)}
