"""What a twin gives the checks of its design: a Twin, and for designs made of granules two functions."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


def any_order(spec: Any) -> int:
    """As `lane_rows`, of a design that all outputs may change places in."""
    return 1 << 40


def arrangement(mapping: str) -> tuple[int, int]:
    """Outputs and tokens of a step."""
    found = re.search(r"(\d+) outputs x (\d+) tokens? a step", mapping)
    assert found, mapping
    return int(found[1]), int(found[2])


@dataclass
class TileRun:
    """One visit of one tile, or one whole layer: what a slow, obvious machine did, cycle by cycle.

    outputs: (tokens, rows) int64 sums. uses: (rows, cols), how often each weight was multiplied: `tokens` times, or
    never. cycles: compute cycles.
    """

    outputs: np.ndarray
    uses: np.ndarray
    cycles: int


@dataclass(frozen=True)
class Twin:
    """A slow second program of a design, and what else is known of it.

    name: of the design, where it is one of ours. machines: small machines to compare on, each a tuple of "key=value".
    run_layer(spec, weights, kept, inputs) computes a whole layer, weights and kept (rows, cols), inputs (tokens, cols),
    and gives a TileRun, or the compute cycles alone. full_mask_cycles(spec, rows, cols, tokens): compute cycles of a
    full mask in closed form. arranged: of several arrangements the search may take one of a few more cycles for its
    energy, so that both get one argument more, the mapping in words that names the one taken.
    follows: makes a random mask follow the design's pattern, if it has one. lane_rows(spec): how many neighbouring
    outputs may change places without changing anything, 0 for none. weight_bits: with group sizes, to draw from.
    not_promised: laws that the design does not obey (by the names in conformance/accelerator_laws.py), and why.

    Of a GranularAccelerator run_tile(spec, weights, kept, inputs, context) moves the integers of one tile;
    stored_bits(spec, kept, weight_bits, context) are the bits of values and of metadata of one granule;
    layer_kept(spec, kept) gives both what they must know of the whole mask (a fallback, an order of rows) as `context`.
    Their memory is compared too.
    """

    run_layer: Callable[..., TileRun | int] | None = None
    machines: tuple[tuple[str, ...], ...] = ((),)
    full_mask_cycles: Callable[..., int] | None = None
    arranged: bool = False
    follows: Callable[[np.ndarray], np.ndarray] | None = None
    lane_rows: Callable[[Any], int] = lambda spec: 0
    weight_bits: tuple[tuple[int | None, int | None], ...] = ((None, None), (4, None), (4, 16), (8, 32))
    not_promised: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    layer_kept: Callable[[Any, np.ndarray], Any] | None = None
    run_tile: Callable[[Any, np.ndarray, np.ndarray, np.ndarray, Any], TileRun] | None = None
    stored_bits: Callable[[Any, np.ndarray, int, Any], tuple[int, int]] | None = None
