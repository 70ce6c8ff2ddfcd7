"""sparten's clusters: which filters share a unit, chunk by chunk, and what that takes."""

import numpy as np

from validation.rtl.designs.design import Design
from validation.rtl.groups import Group
from validation.rtl.job import FIRST, LAST, Beats, Tile, WalkRun, packed
from validation.runs import FREE_MEMORY, ROOMY, run

WORD = 64


class Join(Design):
    """Several clusters take one token each, so that all of them have filters of their own."""

    name = "bitmask_join"
    model = "sparten"
    events = "from the first edge at which a chunk is at the units to the last, both counted"

    def __init__(
        self,
        balancing: str = "none",
        clusters: int = 1,
        units: int = 4,
        words: int = 1,
        chunks: int = 2,
        tokens: int = 4,
        *,
        skip_zero_inputs: bool = False,
    ) -> None:
        self.balancing, self.clusters, self.units, self.chunks = balancing, clusters, units, chunks
        self.adds_up = balancing == "none"
        self.skip_zero_inputs = skip_zero_inputs
        self.share = 1 if balancing == "none" else 2
        self.chunk, self.tokens = WORD * words, tokens if clusters == 1 else 1
        self.parameters = {
            "CLUSTERS": clusters, "UNITS": units, "WORDS": words, "CHUNKS": chunks, "SHARE": self.share,
            "TOKENS": self.tokens,
        }  # fmt: skip
        self.filters = units * self.share  # of a cluster
        self.block = (2 * self.filters * clusters, self.chunk * chunks)
        self.most = (5 * self.filters, 5 * self.chunk, self.tokens)
        self.sets = (
            f"array.clusters={clusters}", f"array.units={units}", f"array.chunk={self.chunk}",
            f"array.sync_chunks={chunks}", f"array.balancing={balancing}", FREE_MEMORY, *ROOMY,
        )  # fmt: skip

    def __str__(self) -> str:
        return f"{super().__str__()}, {self.balancing}"

    def walk(self, group: Group) -> list[Tile]:
        groups, over = self.groups(group.kept), self.over_groups(group)
        window = self.chunk * self.chunks
        return [
            self.tile(group, groups[i : i + over], left)
            for i in range(0, len(groups), over)
            for left in range(0, group.mask.cols, window)
        ]

    def over_groups(self, group: Group) -> int:
        """Clusters that the model's division gives to filters: one token leaves the others idle."""
        if self.clusters == 1:
            return 1
        return int(run(self.model, self.sets, group.mask, group.tokens).sparse.mapping.split()[0])

    def groups(self, kept: np.ndarray) -> list[list[int]]:
        """Rows of every group, -1 where it is filled up: as they come, or from the middle of the order by density
        outwards, pairs of the densest and the sparsest side by side."""
        if self.balancing == "none":
            rows = [*range(len(kept)), *[-1] * (-len(kept) % self.filters)]
            return [rows[i : i + self.filters] for i in range(0, len(rows), self.filters)]
        densest_first = np.argsort(-kept.sum(axis=1), kind="stable")  # of alike ones the first row
        order = [*densest_first, *[-1] * (-len(kept) % self.filters)]
        middle = len(order) // 2
        pairs = [(order[middle - 1 - i], order[middle + i]) for i in range(middle)]
        return [[int(row) for pair in pairs[i : i + self.units] for row in pair] for i in range(0, middle, self.units)]

    def places(self, kept: np.ndarray, rows: list[int], left: int) -> list[list[tuple[int, int]]]:
        """Of every unit its filters, (identity in the group, row): in gb-h the densest of the chunk with the
        sparsest."""
        identified = list(enumerate(rows))
        if self.balancing == "gb-h":
            part = kept[:, left : left + self.chunk]
            identified.sort(key=lambda each: -int(part[each[1]].sum()) if each[1] >= 0 else 1)
            n = len(identified)
            return [[identified[i], identified[n - 1 - i]] for i in range(n // 2)]
        return [identified[i : i + self.share] for i in range(0, len(identified), self.share)]

    def tile(self, group: Group, clusters: list[list[int]], left: int) -> Tile:
        kept = group.kept
        chunks = -(-min(self.chunk * self.chunks, group.mask.cols - left) // self.chunk)
        every = self.clusters * self.filters * self.chunks
        masks = np.zeros((every, self.chunk // WORD), np.uint64)
        values = np.zeros((every, self.chunk), np.int8)
        identities = np.zeros(every, np.uint64)
        for c, rows in enumerate(clusters):
            for k in range(chunks):
                start = left + k * self.chunk
                for u, filters in enumerate(self.places(kept, rows, start)):
                    here = [each for each in filters if each[1] >= 0]
                    for f, (identity, row) in enumerate(here):
                        place = (((c * self.units + u) * self.share) + f) * self.chunks + k
                        identities[place] = (c * self.filters + identity) | (len(here) << 32 if f == 0 else 0)
                        words = group.mask.words[row, start // WORD : (start + self.chunk) // WORD]
                        masks[place, : len(words)] = words
                        part = slice(start, start + self.chunk)
                        found = group.weights[row, part][kept[row, part]]
                        values[place, : len(found)] = found
        input_masks, inputs = self.compressed(group.inputs, left, chunks)
        descriptor = FIRST * (left == 0) | LAST * (left + self.chunk * self.chunks >= group.mask.cols)
        spaces = masks.ravel(), packed(values), identities, input_masks, inputs
        beats = tuple(Beats(number, words) for number, words in enumerate(spaces))
        sums = group.tokens * self.clusters * self.filters if descriptor & LAST else 0
        return Tile(descriptor | group.tokens << 8 | chunks << 16, beats, sums)

    def compressed(self, inputs: np.ndarray, left: int, chunks: int) -> tuple[np.ndarray, np.ndarray]:
        """Masks and values of the tokens' chunks; every input is there, zero or not, unless zeros are skipped."""
        shape = len(inputs), self.chunks, self.chunk
        values = np.zeros((shape[0], shape[1] * shape[2]), np.int8)
        there = np.zeros_like(values, bool)
        part = inputs[:, left : left + chunks * self.chunk]
        values[:, : part.shape[1]], there[:, : part.shape[1]] = part, not self.skip_zero_inputs
        there |= values != 0
        front = np.argsort(~there.reshape(shape), axis=2, kind="stable")  # those that are there, in order
        values = np.take_along_axis(values.reshape(shape), front, axis=2)
        return np.packbits(there, bitorder="little").view(np.uint64), packed(values)

    def sums(self, group: Group, run: WalkRun) -> np.ndarray:
        groups, over = self.groups(group.kept), self.over_groups(group)
        found = np.zeros((group.tokens, group.mask.rows), np.int64)
        ends = [tile.sums.reshape(group.tokens, self.clusters, self.filters) for tile in run.tiles if len(tile.sums)]
        for i, rows in enumerate(groups):
            for identity, row in enumerate(rows):
                if row >= 0:
                    found[:, row] = ends[i // over][:, i % over, identity]
        return found

    def cycles(self, run: WalkRun) -> list[int]:
        return [sum(tile.busy for tile in run.tiles)]

    def model_cycles(self, group: Group) -> list[int]:
        return [run(self.model, self.sets, group.mask, group.tokens).sparse.compute_cycles]
