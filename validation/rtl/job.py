"""Walks of tiles as bytes for the harness, and what it answers; the harness as a process that stays."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from workloads.errors import UserError

EVENTS = (
    "load_begin", "load_end", "start", "done", "drained", "first_in", "last_in", "last_out", "ins", "macs", "active",
)  # fmt: skip
LAST = 2  # bit of a descriptor: the tile ends an output group, whose sums are stored
FIRST = 1
BEAT_BYTES = 8


@dataclass(frozen=True)
class Beats:
    """uint64 words for consecutive addresses of a space."""

    space: int
    words: np.ndarray
    first: int = 0


@dataclass(frozen=True)
class Tile:
    """`sums`: how many are read when it ends an output group, two 32-bit ones a beat."""

    descriptor: int
    beats: tuple[Beats, ...]
    sums: int = 0

    @property
    def load_beats(self) -> int:
        return sum(len(each.words) for each in self.beats)

    @property
    def store_beats(self) -> int:
        return -(-self.sums // 2)


@dataclass(frozen=True)
class TileRun:
    """Edges are numbered from reset: the first and last beat of its load, the first and last edge at which it has the
    array, the one at which its group's last sum is written, the first and last at which operands enter and the last
    that writes a sum (of the tiles before too, where they are still in the pipeline). `ins`: edges at which operands
    enter; `macs`: multiplications; `active`: lanes at work, summed over edges. sums: int32, as they were stored."""

    load_begin: int
    load_end: int
    start: int
    done: int
    drained: int
    first_in: int
    last_in: int
    last_out: int
    ins: int
    macs: int
    active: int
    sums: np.ndarray

    @property
    def busy(self) -> int:
        """Edges from the first to the last at which the tile has the array, both counted."""
        return self.done - self.start + 1


@dataclass(frozen=True)
class WalkRun:
    """cycles: edges from reset until all is loaded, computed and stored. actives: a bit a lane at work, every edge, of
    the walk that was traced."""

    cycles: int
    tiles: list[TileRun]
    actives: np.ndarray


def packed(values: np.ndarray) -> np.ndarray:
    """int8 values as words, 8 a word, the last one filled up with zeros."""
    flat = np.ascontiguousarray(values, dtype=np.int8).ravel()
    return np.pad(flat, (0, -len(flat) % BEAT_BYTES)).view(np.uint64)


def encoded(tile: Tile) -> np.ndarray:
    pairs = np.empty((tile.load_beats, 2), np.uint64)
    at = 0
    for each in tile.beats:
        n = len(each.words)
        pairs[at : at + n, 0] = (each.space << 16) + each.first + np.arange(n)
        pairs[at : at + n, 1] = each.words
        at += n
    head = np.array([tile.descriptor, tile.load_beats, tile.store_beats], np.uint64)
    return np.concatenate((head, pairs.ravel()))


class Harness:
    """The built program of a design, kept running: one process for as many jobs as are given."""

    def __init__(self, program: Path, waveform: Path | None = None):
        command = [str(program), *([str(waveform)] if waveform else [])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __enter__(self) -> "Harness":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.communicate()

    def run(
        self, walks: Sequence[Sequence[Tile]], traced: int | None = None, *, beat_cycles: int = 1, double: bool = True
    ) -> list[WalkRun]:
        """beat_cycles: of 8 bytes through the port; double: buffers have two halves. traced: the walk whose lanes at
        work are kept, and whose waveform is written. Raises UserError where the design does not come to an end."""
        assert self.process.stdin
        none = np.uint64(2**64 - 1)
        parts = [np.array([len(walks), none if traced is None else traced, beat_cycles, double], np.uint64)]
        for walk in walks:
            parts += [np.array([len(walk)], np.uint64), *map(encoded, walk)]
        self.process.stdin.write(np.concatenate(parts).tobytes())
        self.process.stdin.flush()
        return [self._answer(walk) for walk in walks]

    def _answer(self, walk: Sequence[Tile]) -> WalkRun:
        cycles = int(self._words(1)[0])
        tiles = []
        for tile in walk:
            events = self._words(len(EVENTS))
            sums = self._words(tile.store_beats).view(np.int32)[: tile.sums]
            tiles.append(TileRun(**dict(zip(EVENTS, map(int, events), strict=True)), sums=sums))
        return WalkRun(cycles, tiles, self._words(int(self._words(1)[0])))

    def _words(self, count: int) -> np.ndarray:
        assert self.process.stdout
        assert self.process.stderr
        read = self.process.stdout.read(8 * count)
        if len(read) < 8 * count:
            said = self.process.stderr.read().decode(errors="replace").strip()
            raise UserError(f"the RTL stopped: {said or f'exit {self.process.poll()}'}")
        return np.frombuffer(read, np.uint64)
