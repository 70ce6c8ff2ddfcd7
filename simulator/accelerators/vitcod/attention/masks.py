"""Attention masks from an .npy file, layer by layer, and the division of a head's keys between the two engines."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from simulator.accelerators.vitcod.relabel import count_right_of, relabel
from workloads import __version__
from workloads.arrays import load_arrays
from workloads.bundle import BundleHeader
from workloads.errors import UserError
from workloads.layers import ATTENTION_ROLE
from workloads.mask import PackedMask
from workloads.operations import Attention


@dataclass(frozen=True)
class AttentionMasks:
    """Masks (layers, heads, T, T), rows = queries, columns = keys; read one layer at a time."""

    name: str
    values: np.ndarray
    pruned_is_one: bool

    @classmethod
    def open(cls, path: Path, pruned_is_one: bool = False) -> "AttentionMasks":
        """An .npy file of shape (layers, heads, T, T) or (heads, T, T), boolean or 0/1; mapped, not loaded.

        Raises UserError for a missing or unreadable file and for another shape. Values are checked as layers are read.
        """
        if not path.exists():
            raise UserError(f"no such mask file: {path}")
        values = load_arrays(path, "r")
        if not isinstance(values, np.ndarray):
            values.close()
            raise UserError(f"{path} is an .npz archive; give one .npy array (layers, heads, T, T)")
        return cls.of(values, path.stem, pruned_is_one)

    @classmethod
    def of(cls, values: np.ndarray, name: str = "masks", pruned_is_one: bool = False) -> "AttentionMasks":
        """From an array of either shape. Raises UserError for another shape or type."""
        form = "attention masks have the shape (layers, heads, T, T) or (heads, T, T)"
        if values.ndim not in (3, 4):
            raise UserError(f"{name}: {form}; this array has shape {values.shape}")
        if values.shape[-1] != values.shape[-2]:
            raise UserError(f"{name}: {form}, as many queries as keys; this array has shape {values.shape}")
        if values.size == 0:
            raise UserError(f"{name}: {form}; this array of shape {values.shape} is empty")
        if values.dtype.kind not in "biuf":
            raise UserError(f"{name}: a mask holds booleans or 0/1; this array is of type {values.dtype}")
        return cls(name, values if values.ndim == 4 else values[None], pruned_is_one)

    @property
    def layers(self) -> int:
        return int(self.values.shape[0])

    @property
    def heads(self) -> int:
        return int(self.values.shape[1])

    @property
    def tokens(self) -> int:
        return int(self.values.shape[2])

    @property
    def header(self) -> BundleHeader:
        return BundleHeader(self.name, "imported-arrays", tool_version=__version__)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Every layer as `layer` reads it."""
        yield from map(self.layer, range(self.layers))

    def operations(self) -> Iterator[Attention]:
        """The attention of every layer, in order, nothing read yet. All heads have keys and values of their own."""
        for number in range(self.layers):
            read = partial(self.layer, number)
            yield Attention(
                f"attention.{number}", ATTENTION_ROLE, number, self.heads, self.heads, self.tokens, self.tokens, read
            )

    def layer(self, number: int) -> np.ndarray:
        """Bool (heads, T, T), True = kept. Raises UserError for other values, or nothing kept."""
        values = np.asarray(self.values[number])
        where = f"{self.name}: layer {number}"
        if values.dtype != np.bool_:
            fits = (values == 0) | (values == 1)
            if not fits.all():
                raise UserError(
                    f"{where} holds {np.count_nonzero(~fits):,} values other than 0 and 1, the first is "
                    f"{values[~fits][0]}; save booleans or 0/1"
                )
        kept = values == 0 if self.pruned_is_one else values != 0
        if not kept.any():
            other = "without" if self.pruned_is_one else "with"
            raise UserError(
                f"{where} keeps no position at all; if 1 and 0 are the other way round, read it {other} `pruned_is_one`"
            )
        return kept


def layer_sha256(kept: np.ndarray) -> str:
    """Hash of shape and bits of (heads, T, T) bool."""
    digest = hashlib.sha256(f"{kept.shape}:".encode())
    digest.update(np.packbits(kept).tobytes())
    return digest.hexdigest()


def global_keys(kept: np.ndarray, above: int) -> np.ndarray:
    """Columns of one head's mask (T, T) with more than `above` kept positions, ascending."""
    return np.flatnonzero(kept.sum(axis=0) > above)


def right_of_global(kept: np.ndarray, dense: np.ndarray) -> int:
    """Kept positions right of the global keys once the publication's label walk has moved those to the front.

    The walk swaps rows and columns alike; where T > 200 its scratch label merges two of each (`relabel`).
    """
    mask = PackedMask.from_dense(kept)
    return count_right_of(mask, mask.column_counts(), relabel(dense, mask.rows), len(dense))
