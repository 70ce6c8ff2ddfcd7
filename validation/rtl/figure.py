"""Lanes at work in RTL, edge by edge, above the model's tiles."""

from itertools import islice
from pathlib import Path

import numpy as np

from validation.rtl.checking import Layer, groups_of
from validation.rtl.designs.design import Design
from validation.rtl.designs.known import designs_of
from validation.rtl.groups import Group
from validation.rtl.job import Harness, WalkRun
from workloads.errors import UserError

LANES = 64  # that the harness sees


def traced(model: str, layer: Layer, number: int, waveform: Path | None = None) -> tuple[Design, Group, WalkRun]:
    """One group (a random one, or a part of the layer as large as random ones get) under the model's first design.
    waveform: writes its VCD. Raises UserError where there are fewer groups."""
    (design, *_) = designs_of(model)
    found = groups_of(layer, design, number + 1, design.most[:2])
    group = next(islice(iter(found), number, None), None)
    if group is None:
        rows, cols, _ = design.most
        raise UserError(f"{layer.name} has no group {number}: it is cut into parts of {rows} x {cols}, counted from 0")
    with Harness(design.program(waveform=waveform is not None), waveform) as harness:
        (run,) = harness.run([design.walk(group)], traced=0)
    return design, group, run


def lanes_at_work(run: WalkRun) -> np.ndarray:
    """(edges, lanes) bool, up to the last lane that ever works."""
    bits = (run.actives[:, None] >> np.arange(LANES, dtype=np.uint64) & np.uint64(1)).astype(bool)
    ever = np.flatnonzero(bits.any(axis=0))
    return bits[:, : ever[-1] + 1 if len(ever) else 1]


def write_figure(model: str, layer: Layer, number: int, path: Path) -> None:
    """As .svg, .png or .pdf."""
    from matplotlib.figure import Figure

    design, group, run = traced(model, layer, number)
    work = lanes_at_work(run)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.imshow(work.T, aspect="auto", interpolation="nearest", cmap="Blues", extent=(0, len(work), work.shape[1], 0))
    above.set_ylabel("lane")
    above.set_title(
        f"{design.name} in RTL, {group.mask.rows} x {group.mask.cols}, {group.tokens} tokens: lanes at work"
    )
    spans = [(tile.start, tile.busy) for tile in run.tiles]
    model_cycles = design.model_cycles(group)
    if len(model_cycles) != len(spans):  # of whole groups only
        spans = [(run.tiles[0].start, sum(busy for _, busy in spans))]
    for i, ((start, busy), cycles) in enumerate(zip(spans, model_cycles, strict=False)):
        below.broken_barh([(start, busy)], (1.1, 0.8), color=f"C{i % 10}")
        below.broken_barh([(start, cycles)], (0.1, 0.8), color=f"C{i % 10}", alpha=0.6)
        below.annotate(str(cycles), (start, 0.2), fontsize=7)
    below.set_yticks([0.5, 1.5], ["model", "RTL"])
    below.set_xlabel("clock edges since reset (loading first)")
    figure.savefig(path)
