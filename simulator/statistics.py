"""Tile statistics of a layer: gathered once from its mask, kept beside the bundle, for any number of designs."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from workloads.bundle import NO_NUMPY_TYPE
from workloads.errors import UserError
from workloads.files import replacing, sha256_of

FORMAT = 3  # of the file and its key; what a model's arrays mean is Accelerator.statistics_version


class MissingArray(LookupError):
    """A model asks for an array that was not gathered."""


class Statistics:
    """Named arrays, as stored, and `memo`: what evaluations derived from them, kept while the object lives."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        self.arrays = arrays
        self.memo: dict[Any, Any] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            known = ", ".join(self.arrays) or "none"
            raise MissingArray(
                f"`layer` asks for the array {name!r}, which `gather` and `dense` return; there are: {known}"
            )
        return self.arrays[name]


class StatisticsStore:
    """Statistics by (layer content, geometry): kept in `folder`, where one is given, and in memory where `hold` says
    so.

    A file that cannot be read is gathered again, and with `fresh` any file is; a folder that cannot be written
    (read-only bundle, full disk) is done without.
    """

    def __init__(self, folder: Path | None = None, hold: bool = False, fresh: bool = False):
        self.folder = folder
        self.hold = hold
        self.fresh = fresh
        self._held: dict[str, Statistics] = {}

    def get(
        self, content: str, geometry: Any, gather: Callable[[], dict[str, np.ndarray]], keep: bool = True
    ) -> Statistics:
        """`content` is the hash of mask (and values); `geometry` whatever else the arrays depend on, as JSON can say
        it; without `keep` the folder is neither read nor written."""
        key = sha256_of({"format": FORMAT, "content": content, "geometry": geometry})[:32]
        if key in self._held:
            return self._held[key]
        statistics = self._load(key) if keep and not self.fresh else None
        if statistics is None:
            statistics = Statistics(gather())
            if keep:
                self._save(key, statistics)
        if self.hold:
            self._held[key] = statistics
        return statistics

    def within(self) -> "StatisticsStore":
        """The same, that also holds whatever it hands out: for the designs evaluated on one layer."""
        store = StatisticsStore(self.folder, hold=True, fresh=self.fresh)
        store._held = self._held if self.hold else {}
        return store

    def _load(self, key: str) -> Statistics | None:
        if self.folder is None:
            return None
        try:
            with safe_open(self.folder / f"{key}.safetensors", framework="np") as file:
                arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
                whole = (file.metadata() or {}).get("checksum") == _checksum(key, arrays)
        except (OSError, SafetensorError, *NO_NUMPY_TYPE):
            return None
        return Statistics(arrays) if whole else None

    def _save(self, key: str, statistics: Statistics) -> None:
        if self.folder is None:
            return
        try:
            arrays = {name: np.ascontiguousarray(array) for name, array in statistics.arrays.items()}
            with replacing(self.folder / f"{key}.safetensors", durable=False) as temporary:
                # by us, as the library's own writing would leave a file under a name of its own behind when killed
                temporary.write_bytes(save(arrays, metadata={"checksum": _checksum(key, arrays)}))
        except UserError:
            self.folder = None


def _checksum(key: str, arrays: dict[str, np.ndarray]) -> str:
    """Of the arrays and of what they were gathered from; one entry of metadata, as the order of several is left to
    chance. CRC-32 finds any accident with a file that can be made again at any time, at a tenth of a hash's cost."""
    parts = [
        [name, array.dtype.str, array.shape, zlib.crc32(np.ascontiguousarray(array).data)]
        for name, array in sorted(arrays.items())
    ]
    return sha256_of([key, parts])
