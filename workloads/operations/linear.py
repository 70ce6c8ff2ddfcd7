"""Linears and convolutions, each with the mask on its weights, which is read when it is needed.

A linear is y = x W^T; a convolution lowers to one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NoReturn

import numpy as np

from workloads.bundle import LayerEntry, MaskBundle
from workloads.errors import UserError
from workloads.factors import Factors
from workloads.mask import PackedMask
from workloads.operations.base import Operation
from workloads.patterns import DENSE, FACTORED, GONE
from workloads.uses import ONCE, Use, uses_of

Values = Callable[[], Mapping[str, np.ndarray]]  # the tensors a bundle keeps for a layer (LayerEntry), {} if none


@dataclass(frozen=True)
class Weights:
    """A masked weight matrix: what is known of it without reading it, and how it is read.

    `pattern` is "unstructured", "N:M", or "dense" where it was left alone. `weight_bits` is None where the weights are
    floats, else `group_size` is the number of inputs that share a scale, None: a whole row does."""

    pattern: str
    nnz: int
    sha256: str
    mask: Callable[[], PackedMask]
    weight_bits: int | None = None
    group_size: int | None = None
    values: Values = dict
    values_sha256: str = ""


@dataclass(frozen=True)
class Linear(Operation):
    """y = x W^T with W (out_features, in_features). `use`: how often a sample asks for it. `unpruned` are the sizes
    before rows or columns were taken out of it, None: the same. `factors`: those that W is the product of, and that run
    in its place; None: it runs itself."""

    out_features: int
    in_features: int
    weights: Weights
    unpruned: tuple[int, int] | None = None
    factors: Factors | None = None
    use: Use = ONCE

    @property
    def sparsity(self) -> float:
        """Of the unpruned matrix."""
        rows, cols = self.unpruned or (self.out_features, self.in_features)
        return 1 - self.weights.nnz / (rows * cols)

    @property
    def is_gone(self) -> bool:
        """Whether its block or sub-layer was taken out; sizes are then the unpruned ones."""
        return self.weights.pattern == GONE

    @property
    def is_changed(self) -> bool:
        """Whether it has not the sizes any more that it had, or runs as a product of factors."""
        return self.unpruned is not None or self.is_gone or self.factors is not None

    def before(self) -> "Linear":
        """The unpruned layer, where something was taken out, or it became a product of factors; at the same bits, as
        dense baselines are everywhere, with one scale a row where what is left has one."""
        rows, cols = self.unpruned or (self.out_features, self.in_features)
        whole, group = self._whole(rows, cols, DENSE), self.weights.group_size
        group = cols if group == self.in_features else group
        return replace(whole, weights=replace(whole.weights, weight_bits=self.weights.weight_bits, group_size=group))

    @property
    def parts(self) -> list[tuple[int, "Linear"]]:
        """What runs in the place of a product of factors, in order: how many linears of a shape; [] of others."""
        both = () if self.factors is None else (self.factors.first, self.factors.second)
        return [(blocks, self._whole(rows, cols, FACTORED)) for blocks, rows, cols in both]

    def _whole(self, rows: int, cols: int, pattern: str) -> "Linear":
        """A linear of this name, of other sizes and without zeros."""
        weights = Weights(pattern, rows * cols, f"dense {rows} x {cols}", partial(PackedMask.dense, rows, cols))
        return replace(self, out_features=rows, in_features=cols, weights=weights, unpruned=None, factors=None)


@dataclass(frozen=True)
class Convolution(Operation):
    """`filters` windows of `channels` x `window` slide over an image. Pairs are (height, width); `padding` goes to both
    sides.

    `weights` are those of the lowered matrix, (filters, channels * window height * window width), columns channel by
    channel."""

    filters: int
    channels: int
    image: tuple[int, int]
    window: tuple[int, int]
    weights: Weights
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        for side, image, window, padding in zip(
            ("height", "width"), self.image, self.window, self.padding, strict=True
        ):
            if window > image + 2 * padding:
                raise UserError(
                    f"{self.name}: a filter of {side} {window} does not fit an input of {image + 2 * padding}"
                )

    @property
    def positions(self) -> int:
        """Places of the window in one image: the outputs of one filter."""
        sides = zip(self.image, self.window, self.stride, self.padding, strict=True)
        height, width = ((image + 2 * padding - window) // stride + 1 for image, window, stride, padding in sides)
        return height * width

    def tokens(self, batch: int = 1) -> int:
        """Of the lowered linear: every position of every image is one."""
        return batch * self.positions

    def lowered(self) -> Linear:
        inputs = self.channels * self.window[0] * self.window[1]
        return Linear(self.name, self.role, self.block, self.filters, inputs, self.weights)


def linear_of(entry: LayerEntry, mask: Callable[[], PackedMask], values: Values = dict, use: Use = ONCE) -> Linear:
    """The linear that a bundle describes."""
    weights = Weights(
        entry.pattern,
        entry.nnz,
        entry.sha256,
        mask,
        entry.weight_bits,
        entry.group_size,
        values,
        entry.values_sha256,
    )
    unpruned = entry.unpruned.shape if entry.unpruned.shape != entry.layer.shape else None
    return Linear(
        entry.name,
        entry.role,
        entry.block,
        entry.out_features,
        entry.in_features,
        weights,
        unpruned,
        entry.factors,
        use,
    )


def linears_of(bundle: MaskBundle) -> Iterator[Linear]:
    """The linears of a bundle, in order, nothing read yet; those that were taken out whole too."""
    uses = uses_of(bundle.header.model_config)
    for entry in bundle.entries:
        mask, values = partial(bundle.__getitem__, entry.name), partial(bundle.values, entry.name)
        yield linear_of(entry, mask, values, uses.get(entry.name, ONCE))


def linears_in_memory(layers: Iterable[tuple[LayerEntry, PackedMask]]) -> Iterator[Linear]:
    """Linears whose masks are in memory."""
    for entry, mask in layers:
        yield linear_of(entry, partial(_itself, mask))


def without_mask(pattern: str, nnz: int) -> Weights:
    """Of a shape alone, for targets that take its pattern at its word; its hash is ""."""
    return Weights(pattern, nnz, "", _unread)


def _itself(mask: PackedMask) -> PackedMask:
    return mask


def _unread() -> NoReturn:
    raise AssertionError("an operation without a mask was asked for one")
