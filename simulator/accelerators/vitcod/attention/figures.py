"""What attention takes on the ViTCoD machines, in the columns of result rows and those that attention adds."""

from dataclasses import asdict
from typing import Any

import numpy as np

from simulator.accelerators.vitcod.attention import cycle as vitcod
from simulator.accelerators.vitcod.attention import paper as vitcod_paper
from simulator.accelerators.vitcod.attention.paper import PaperLayer, PaperSpec
from simulator.accelerators.vitcod.attention.spec import VitcodAttentionSpec
from simulator.cycles import Infeasible
from simulator.engine import Stream
from simulator.machine.spec import load_spec
from workloads.columns.column import Column

Figures = dict[str, Any]
OF_MASKS = (
    Column("heads", "int", "attention: heads of the layer"),
    Column("head_features", "int", "attention: features of a query, key or value in one head"),
    Column("global_keys", "int", "key columns of the denser engine; paper: of head 0, cycle: summed over heads"),
)
STEPS = (
    Column("sddmm_cycles", "int", "scores Q K^T on kept positions; the slower engine counts"),
    Column("spmm_cycles", "int", "outputs S V; the slower engine counts"),
    Column("decoder_cycles", "int", "Q and K recovered from what the encoder left of them"),
)
PAPER_COLUMNS = (
    *OF_MASKS, *STEPS,
    Column("dense_preload_cycles", "int", "[log] load of global keys and of Q for the denser engine"),
    Column("dense_decoder_cycles", "int", "[log] decoding of the same"),
    Column("sparse_preload_cycles", "int", "[log] load of the other keys (and of Q where there is no global key)"),
    Column("sparse_decoder_cycles", "int", "[log] decoding of the same"),
    Column("dense_sddmm_cycles", "int", "[log] SDDMM of the denser engine"),
    Column("sparse_sddmm_cycles", "int", "[log] SDDMM of the sparser engine"),
    Column("dense_value_cycles", "int", "[log] load of V at global keys"),
    Column("dense_spmm_cycles", "int", "[log] SpMM of the denser engine"),
    Column("sparse_value_cycles", "int", "[log] load of V at the other keys"),
    Column("sparse_spmm_cycles", "int", "[log] SpMM of the sparser engine"),
)  # fmt: skip
CYCLE_COLUMNS = (
    *OF_MASKS, *STEPS,
    Column("softmax_cycles", "int", "scores through the softmax unit"),
    Column("engine_imbalance_cycles", "float", "sddmm + spmm - ideal cycles: uneven lanes, rounding, computed zeros"),
    Column("paper_cycles", "int", "what the published formula gives for the masks on its 64 x 64 PEs"),
    Column("paper_ratio", "float", "cycles / paper_cycles: how far the cycle level moves from the publication"),
    Column("query_bytes", "int", "Q moved from DRAM, decoder weights included"),
    Column("key_bytes", "int", "K moved from DRAM"),
    Column("value_bytes", "int", "V moved from DRAM"),
)  # fmt: skip


def paper_figures(spec: PaperSpec, kept: np.ndarray) -> tuple[Figures, PaperLayer, None]:
    """(columns, lines of the log, no tiles). Raises Infeasible where the formula divides by zero."""
    found = vitcod_paper.simulate(spec, kept)
    dense = vitcod_paper.dense_layer(spec, *kept.shape[:2])
    return (
        {
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
        },
        found,
        None,
    )


def cycle_figures(spec: VitcodAttentionSpec, kept: np.ndarray) -> tuple[Figures, PaperLayer | None, Stream | None]:
    """(columns, what the published formula says if it says anything, tiles). Raises Infeasible where no tile fits."""
    found = vitcod.simulate(spec, kept)
    figures = {
        "global_keys": int((kept.sum(axis=1) > spec.attention.kept_above(kept.shape[-1])).sum()),
        "cycles": found.cycles,
        "compute_cycles": found.compute_cycles,
        "stall_cycles": found.stall_cycles,
        "sddmm_cycles": found.sddmm_cycles,
        "spmm_cycles": found.spmm_cycles,
        "decoder_cycles": found.decoder_cycles,
        "softmax_cycles": found.softmax_cycles,
        "ideal_cycles": found.ideal_cycles,
        "imbalance_cycles": found.compute_cycles - found.ideal_cycles,
        "engine_imbalance_cycles": found.sddmm_cycles + found.spmm_cycles - found.ideal_cycles,
        "buffer_stall_cycles": 0,
        "transfer_cycles": found.transfer_cycles,
        "query_bytes": found.query_bytes,
        "key_bytes": found.key_bytes,
        "value_bytes": found.value_bytes,
        "weight_bytes": 0,
        "scale_bytes": 0,
        "metadata_bytes": found.metadata_bytes,
        "activation_bytes": found.query_bytes + found.key_bytes + found.value_bytes,
        "output_bytes": found.output_bytes,
        "mapping": found.mapping,
    }
    try:
        dense = vitcod.dense_layer(spec, *kept.shape[:2])
        figures |= {
            "dense_cycles": dense.cycles,
            "dense_compute_cycles": dense.compute_cycles,
            "dense_bytes": dense.total_bytes,
        }
    except Infeasible as error:
        figures["reason"] = f"without pruning it does not fit: {error}"
    return figures, published_layer(spec, kept), found.stream


def published_layer(spec: VitcodAttentionSpec, kept: np.ndarray) -> PaperLayer | None:
    """What the published simulator as it is says of the same heads; None where its formula divides by zero."""
    attention = [f"attention.{key}={value}" for key, value in asdict(spec.attention).items()]
    try:
        return vitcod_paper.simulate(load_spec("vitcod-attention-paper", PaperSpec, attention), kept)
    except Infeasible:
        return None


def derived(figures: Figures, clock_mhz: float) -> Figures:
    """What follows from the cycles of a row or of a sum of rows."""
    cycles, dense = figures["cycles"], figures.get("dense_cycles")
    found: Figures = {
        "speedup": ratio(dense, cycles),
        "compute_speedup": ratio(figures.get("dense_compute_cycles"), figures["compute_cycles"]),
        "latency_us": cycles / clock_mhz,
        "dense_latency_us": None if dense is None else dense / clock_mhz,
    }
    if "ideal_cycles" in figures:
        parts = {
            "compute": figures["ideal_cycles"],
            "imbalance": figures["imbalance_cycles"],
            "memory": figures["stall_cycles"],
        }
        found |= {"utilisation": ratio(parts["compute"], cycles), "bound": max(parts, key=lambda part: parts[part])}
    return found


def ratio(over: float | None, under: float | None) -> float | None:
    return over / under if over is not None and under else None
