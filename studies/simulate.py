"""Masks from anywhere onto an accelerator: a frame of result rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from simulator.simulate import open_target, simulate_layers
from studies.masks import generated, in_memory
from studies.progress import ProgressLine, warn
from studies.settings import density_of
from workloads.bundle import BundleHeader, LayerEntry, MaskBundle
from workloads.errors import UserError
from workloads.importers import read_mask
from workloads.layers import Layer
from workloads.mask import PackedMask
from workloads.rows import to_frame


@dataclass(frozen=True)
class Source:
    """Masks to simulate, streamed."""

    header: BundleHeader
    count: int
    layers: Iterable[tuple[LayerEntry, PackedMask]]


def open_source(
    bundle: Path | None, mask: Path | None, model: str | None, pattern: str, density: float | None, seed: int
) -> Source:
    """Exactly one of bundle, mask and model must be given (UserError otherwise)."""
    if sum(given is not None for given in (bundle, mask, model)) != 1:
        raise UserError("simulate: give exactly one of BUNDLE, --mask FILE.npy and --model CONFIG")
    if bundle is not None:
        opened = MaskBundle.open(bundle)
        return Source(opened.header, len(opened), opened)
    if mask is not None:
        packed = read_mask(mask)
        header = BundleHeader(mask.stem, "imported-arrays")
        layer = Layer(mask.stem, "other", -1, packed.rows, packed.cols)
        return Source(header, 1, in_memory(header, [(layer, packed)]))
    assert model is not None
    header, count, masks = generated(model, pattern, density_of(pattern, density), seed, {})
    return Source(header, count, in_memory(header, masks))


def simulate_frame(source: Source, on: str, sets: list[str], tokens: int, progress: ProgressLine) -> pd.DataFrame:
    """Result rows of every layer, in order."""
    target = open_target(on, sets)
    rows = []
    for row in simulate_layers(target, source.header, source.layers, tokens):
        rows.append(row)
        progress(f"simulating on {on}", len(rows), source.count)
    frame = to_frame(rows)
    refused = frame[~frame["feasible"]]
    if len(refused):
        progress.close()
        warn(
            f"{len(refused)} of {len(frame)} layers cannot run on {on}; {refused['layer'].iloc[0]}: {refused['reason'].iloc[0]}"
        )
    return frame
