"""What the contract suite asks of every accelerator's twin file: a Case, and for designs made of granules two functions."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


def arrangement(mapping: str) -> tuple[int, int]:
    """Outputs and tokens of a step."""
    found = re.search(r"(\d+) outputs x (\d+) tokens? a step", mapping)
    assert found, mapping
    return int(found[1]), int(found[2])


@dataclass
class TileRun:
    """One visit of one tile, or one whole layer: what a slow, obvious machine did, cycle by cycle."""

    outputs: np.ndarray  # (tokens, rows) int64 sums
    uses: (
        np.ndarray
    )  # (rows, cols) how often each weight was multiplied with each token's input: tokens times, or never
    cycles: int  # compute cycles


@dataclass(frozen=True)
class Case:
    """An accelerator in the contract suite.

    sets: small machines, each a list of "key=value". dense_compute(spec, rows, cols, tokens): compute cycles of a full mask in
    closed form. run_tile(spec, weights, kept, inputs) moves integers of one tile, weights and kept (rows, cols), inputs (tokens,
    cols). stored_bits(spec, kept, weight_bits): bits of values and of metadata of one granule of the mask. `layer_kept` gives the
    twin what it must know of the whole mask (a fallback, an order of rows): kept -> anything, handed to both as `context`.
    fewer_is_faster: whether the design promises that more zeros never add compute cycles. granules: False where the design
    has its own stream of tiles, and then run_layer(spec, weights, kept, inputs) is the twin of the whole layer's computing.
    arranged: of several arrangements the search may take one of a few more cycles for its energy, so that dense_compute and run_layer
    get one argument more, the mapping in words that names the one taken.
    """

    name: str
    sets: tuple[tuple[str, ...], ...]
    dense_compute: Callable[..., int]
    fewer_is_faster: bool
    granules: bool = True
    layer_kept: Callable[[Any, np.ndarray], Any] | None = None
    run_tile: Callable[[Any, np.ndarray, np.ndarray, np.ndarray, Any], TileRun] | None = None
    stored_bits: Callable[[Any, np.ndarray, int, Any], tuple[int, int]] | None = None
    run_layer: Callable[..., TileRun] | None = None
    arranged: bool = False
    follows: Callable[[np.ndarray], np.ndarray] | None = None  # makes a random mask follow the design's pattern, if any
    weight_bits: tuple[tuple[int | None, int | None], ...] = (
        (None, None),
        (4, None),
        (4, 16),
        (8, 32),
    )  # with group sizes
