"""Small hand-made result rows: round numbers, so that every expectation can be checked in the head."""

import base64
import gzip
import json
import re

import pandas as pd
from matplotlib.figure import Figure

from reports.figures.drawing import figure_bytes
from workloads.columns.quality import QUALITY_COLUMNS
from workloads.rows import to_frame

CELL = {
    "model": "tiny", "method": "wanda", "pattern": "2:4", "layer": "layers.0.q", "block": 0, "role": "q",
    "out_features": 4, "in_features": 10, "nnz": 20, "sparsity": 0.5,
    "target": "vitcod", "level": "cycle", "source": "simulated", "tokens": 1, "weight_bits": 16,
    "bound": "compute", "clock_mhz": 500.0, "feasible": True, "reason": "",
    "mask_sha256": "m0", "spec_sha256": "s0", "seed": 7, "tool_version": "0.1.0",
}  # fmt: skip


def row(dense: int, cycles: int, stall: int = 0, ideal: int | None = None, **others) -> dict:
    """A feasible row whose parts add up; everything stalled in the dense run is stalled as in the sparse one."""
    compute = cycles - stall
    ideal = compute if ideal is None else ideal
    return {
        **CELL,
        "cycles": cycles, "compute_cycles": compute, "ideal_cycles": ideal, "imbalance_cycles": compute - ideal,
        "stall_cycles": stall, "dense_cycles": dense, "dense_compute_cycles": dense - stall,
        "speedup": dense / cycles, "compute_speedup": (dense - stall) / compute, "utilisation": ideal / cycles,
        **others,
    }  # fmt: skip


def powered(made: dict, dense_pj: float, *parts_pj: float, area_mm2: float = 2.0) -> dict:
    """The row with energies: its MACs', idle slots', registers', buffers' and DRAM's."""
    energy_pj = sum(parts_pj)
    names = ("mac_pj", "idle_pj", "register_pj", "buffer_pj", "dram_pj")
    return {
        **made, **dict(zip(names, parts_pj, strict=True)), "energy_pj": energy_pj, "dense_energy_pj": dense_pj,
        "energy_ratio": dense_pj / energy_pj, "area_mm2": area_mm2,
    }  # fmt: skip


def two_powered(**others) -> list[dict]:
    """two_layers with 900 pJ dense and 450 pJ masked (2x), and 100 pJ dense and 150 pJ masked (less than 1x)."""
    small, big = two_layers(**others)
    return [powered(small, 900, 200, 50, 50, 50, 100), powered(big, 100, 10, 20, 30, 40, 50)]


def trace(shares: list[tuple[float, float, float]], step_us: float = 2.0, **others) -> pd.DataFrame:
    """(array, loads, stores) of steps of equal length, as the steps of a study that trace a layer hand them in."""
    lines = [{"begin_us": n * step_us, "array": a, "loads": ld, "stores": st} for n, (a, ld, st) in enumerate(shares)]
    facts = {"layer": "layers.0.q", "target": "stc", "settings": "", "tokens": 4, "model": "tiny", "method": "wanda"}
    return pd.DataFrame(lines).assign(**{**facts, **others})


def barred(**others) -> dict:
    """A row of a layer that its target cannot run."""
    return {**CELL, "layer": "layers.0.down", "role": "down", "feasible": False, "reason": "no room", **others}


def two_layers(**others) -> list[dict]:
    """100/50 cycles (2x) and 300/300 cycles (1x): 400/350 for the model, not the mean of 2 and 1."""
    return [
        row(100, 50, **others),
        row(300, 300, stall=100, ideal=150, **{"layer": "layers.0.up", "role": "up", "bound": "memory", **others}),
    ]


def kernel(dense_us: float | None, us: float | None, **others) -> dict:
    """A predicted row of a GPU; its kernel is the 2:4 one. `others` may make it measured or published."""
    known = dense_us is not None and us is not None
    return {
        **CELL, "target": "a100-pcie", "settings": "dtype=fp16", "level": "kernel", "source": "predicted",
        "kernel": "sparse24",
        "bound": "tensor", "clock_mhz": None, "weight_bits": None, "mask_sha256": "", "latency_us": us,
        "dense_latency_us": dense_us, "speedup": dense_us / us if known else None, "latency_error_p90": 0.2, **others,
    }  # fmt: skip


def published(dense_us: float | None, us: float | None, name: str = "Paper", **others) -> dict:
    settings = f"dtype=fp16 published={name}"
    return kernel(dense_us, us, **{"settings": settings, "source": "published", "kernel": "", "latency_error_p90": None,
                                   "bound": "", **others})  # fmt: skip


def timed(name: str, us: float | None, dense_us: float | None = 100.0, **others) -> dict:
    """A measured row of one kernel."""
    settings = f"kernel={name} dtype=fp16 l2=cold"
    return kernel(dense_us, us, **{"target": "NVIDIA A100 80GB PCIe", "settings": settings, "source": "measured",
                                   "kernel": name, "latency_error_p90": None, "bound": "", **others})  # fmt: skip


def frame(rows: list[dict]) -> pd.DataFrame:
    return to_frame(rows)


def quality(*entries: tuple[str, str, float], **others) -> pd.DataFrame:
    """(method, pattern, perplexity) entries of the model "tiny" on one text."""
    shared = {"model": "tiny", "sparsity": 0.5, "windows": 3, "seq_len": 8, "text": "a.txt", "text_sha256": "t0"}
    rows = [{**shared, "method": m, "pattern": p, "perplexity": v, **others} for m, p, v in entries]
    return to_frame(rows, QUALITY_COLUMNS)


def measured(method: str, target: float | str, perplexity: float, seed: int | None = 0, **others) -> dict:
    """A quality row; a text is an N:M pattern, a number an unstructured sparsity."""
    pattern, asked = (target, 0.5) if isinstance(target, str) else ("unstructured", target)
    return {
        "model": "tiny", "method": method, "pattern": pattern, "target_sparsity": asked, "sparsity": asked,
        "perplexity": perplexity, "windows": 3, "seq_len": 8, "text": "a.txt", "text_sha256": "t0", "seed": seed,
        "tool_version": "0.1.0", **others,
    }  # fmt: skip


def dense(perplexity: float, **others) -> dict:
    return {**measured("dense", 0.0, perplexity, None), "target_sparsity": None, "sparsity": None, **others}


def quality_frame(*rows: dict) -> pd.DataFrame:
    return to_frame(rows, QUALITY_COLUMNS)


def svg_bytes(figure: Figure) -> bytes:
    """A figure that is drawn already, as its file."""
    return figure_bytes(lambda: figure, formats=("svg",))["svg"]


def page_data(page: str) -> dict:
    """What the scripts of a page read: facets, charts, tables."""
    packed = re.search(r'id="data">([^<]+)<', page)
    assert packed
    return json.loads(gzip.decompress(base64.b64decode(packed[1])))
