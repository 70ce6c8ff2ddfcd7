"""What structured pruning takes out of a model, and what stays of every matrix.

Axes are coupled: a kv group is its rows of k and v, its query heads' rows of q and their columns of o; an FFN neuron is
its row of gate and up and its column of down; a sub-layer is a whole attention or FFN; a block is everything in it.
Without them the model gives what it gives with their part of o's or down's input at zero (a sub-layer's: its output),
without a block what it gives where the hidden states pass it by."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from workloads.errors import UserError
from workloads.layers import Layer

KV_GROUP, NEURON = "kv_group", "neuron"
WORDS = {KV_GROUP: "kv groups", NEURON: "neurons"}


@dataclass(frozen=True)
class Units:
    """Those of one attention or one FFN, `module` its path in the model: `kept` (count,) bool, True = stays."""

    kind: str
    block: int
    module: str
    kept: np.ndarray

    def __post_init__(self) -> None:
        """Raises UserError if all of them would go."""
        if self.kind not in WORDS:
            raise UserError(f"{self.module}: units are {' or '.join(WORDS)}, not {self.kind!r}")
        if not self.kept.any():
            raise UserError(
                f"{self.module}: all {len(self.kept)} {WORDS[self.kind]} would go; remove the block, or leave one"
            )

    @property
    def key(self) -> str:
        return f"{self.module}.{self.kind}"


@dataclass(frozen=True)
class Cut:
    """What stays of one matrix: (out_features,) and (in_features,) bool."""

    rows: np.ndarray
    cols: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features) that are left."""
        return int(self.rows.sum()), int(self.cols.sum())


@dataclass(frozen=True)
class Removal:
    """Numbers of whole blocks; of the blocks that stay the units, and by the name of a matrix what stays of it.
    Matrices without a cut stay whole. sublayers: of the blocks that stay those that go, by path, with the form of their
    output, 0 for a tensor, n for a tuple of n values."""

    blocks: frozenset[int] = frozenset()
    units: tuple[Units, ...] = ()
    cuts: Mapping[str, Cut] = field(default_factory=dict)
    sublayers: Mapping[str, int] = field(default_factory=dict)

    def has_sublayer_of(self, name: str) -> bool:
        """Whether a matrix, or another parameter, is in a sub-layer that goes."""
        return any(name.startswith(f"{path}.") for path in self.sublayers)

    @property
    def takes_nothing(self) -> bool:
        return not self.blocks and not self.sublayers and all(each.kept.all() for each in self.units)

    def left(self, layer: Layer) -> Layer | None:
        """A matrix with the sizes that are left, None if its block or sub-layer goes. Raises UserError if the cut is of
        another shape."""
        if layer.block in self.blocks or self.has_sublayer_of(layer.name):
            return None
        cut = self.cuts.get(layer.name)
        if cut is None:
            return layer
        if (len(cut.rows), len(cut.cols)) != layer.shape:
            raise UserError(
                f"{layer.name}: the removal is of {len(cut.rows)} x {len(cut.cols)} weights, the matrix has "
                f"{layer.out_features} x {layer.in_features}; was it made for another model?"
            )
        return Layer(layer.name, layer.role, layer.block, *cut.shape)

    def arrays(self) -> dict[str, np.ndarray]:
        """As a bundle keeps it: uint8, 1 = stays, "units|KIND|BLOCK|MODULE", "rows|NAME" and "cols|NAME"; "blocks", the
        numbers of those that go; and "sublayers|PATH", (1,), the form of the output of one that goes."""
        kept = {f"units|{each.kind}|{each.block}|{each.module}": each.kept for each in self.units}
        for name, cut in self.cuts.items():
            kept |= {f"rows|{name}": cut.rows, f"cols|{name}": cut.cols}
        for path, values in self.sublayers.items():
            kept[f"sublayers|{path}"] = np.array([values])
        blocks = np.array(sorted(self.blocks), dtype=np.int64)
        return {name: array.astype(np.uint8) for name, array in kept.items()} | {"blocks": blocks}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Removal":
        """Raises KeyError and ValueError for what `arrays` never gives."""
        units: list[Units] = []
        rows: dict[str, np.ndarray] = {}
        cols: dict[str, np.ndarray] = {}
        sublayers: dict[str, int] = {}
        for key, array in sorted(arrays.items()):
            what, _, rest = key.partition("|")
            if what == "units":
                kind, block, module = rest.split("|", 2)
                units.append(Units(kind, int(block), module, array.astype(bool)))
            elif what in ("rows", "cols"):
                {"rows": rows, "cols": cols}[what][rest] = array.astype(bool)
            elif what == "sublayers":
                sublayers[rest] = int(array[0])
        cuts = {name: Cut(rows[name], cols[name]) for name in rows}
        units.sort(key=lambda each: (each.block, each.kind, each.module))
        return cls(frozenset(int(number) for number in arrays["blocks"]), tuple(units), cuts, sublayers)

    def counts(self) -> Iterator[tuple[str, int, int]]:
        """(kind, kept, of) over the blocks that stay."""
        for kind in WORDS:
            of = [each for each in self.units if each.kind == kind]
            if of:
                yield kind, sum(int(each.kept.sum()) for each in of), sum(len(each.kept) for each in of)

    @property
    def words(self) -> str:
        """One line for people: what goes."""
        parts = [f"{of - kept:,} of {of:,} {WORDS[kind]}" for kind, kept, of in self.counts() if kept < of]
        whole = [(len(self.blocks), "block"), (len(self.sublayers), "sub-layer")]
        counted = [f"{count} {word}{'s' if count > 1 else ''}" for count, word in whole if count]
        return ", ".join([*counted, *parts]) or "nothing"
