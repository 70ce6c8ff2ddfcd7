"""One model checked against its designs in RTL: on random groups, on a mask, or on layers of a bundle."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from validation.rtl.compare import Tally, compared
from validation.rtl.designs.design import Design
from validation.rtl.designs.known import DESIGNS, designs_of
from validation.rtl.groups import Group, blocks, random_groups
from validation.rtl.job import Harness
from workloads.errors import UserError
from workloads.mask import PackedMask

GROUPS = 400
TOKENS = 2
SEED = 1


@dataclass(frozen=True)
class Layer:
    """mask: None for random groups."""

    name: str
    mask: PackedMask | None = None


@dataclass
class Checked:
    """One design on one layer. whole: cycles of the model for the layer as one, where its blocks add up to it. tiles:
    (block, tile, RTL cycles, model cycles, what explains the difference)."""

    design: Design
    layer: Layer
    tally: Tally
    tiles: list[tuple[int, int, int, int, str]] = field(default_factory=list)
    whole: int | None = None

    @property
    def agrees(self) -> bool:
        return self.tally.agrees and self.whole in (None, self.tally.model_cycles)

    def __str__(self) -> str:
        t = self.tally
        named = "".join(f", {name} in {times}" for name, times in sorted(t.named.items()))
        differences = ", ".join(f"{d:+d}: {times}" for d, times in sorted(t.differences.items()))
        lines = [
            f"{self.layer.name}: {self.design}: {t.groups} groups, {t.pairs} compared; cycles {t.rtl_cycles:,} in RTL, "
            f"{t.model_cycles:,} of the model; differences {{{differences}}}{named}; unexplained {t.unexplained}; "
            f"{t.macs:,} multiplications, {t.wrong_macs} wrong; sums of {t.wrong_sums} wrong, checksum {t.checksum:08x}"
        ]
        if self.whole is not None:
            lines[0] += f"; the layer as one {self.whole:,} of the model"
        return "\n".join(lines + ([f"  first that differs: {t.first_wrong}"] if t.first_wrong else []))


def groups_of(layer: Layer, design: Design, groups: int, size: tuple[int, int] | None = None) -> Iterable[Group]:
    """size: of the blocks of a real layer, where not the design's."""
    if layer.mask is None:
        return random_groups(groups, *design.most, seed=SEED)
    return blocks(layer.mask, *(size or design.block), min(TOKENS, design.most[2]), SEED)


def check_model(model: str, layers: Iterable[Layer], groups: int = GROUPS) -> Iterator[Checked]:
    """Every design of the model on every layer. Raises UserError for a model without one, and without Verilator."""
    found = designs_of(model)
    if not found:
        known = ", ".join(DESIGNS)
        raise UserError(f"{model} has no design in RTL; {known} have one, and classes of one's own that state one")
    layers = list(layers)
    for design in found:
        with Harness(design.program()) as harness:
            for layer in layers:
                tally, tiles = Tally(), []
                pairs = compared(design, groups_of(layer, design, groups), harness, tally)
                for block, some in enumerate(pairs):
                    for tile, pair in enumerate(some):
                        why = " ".join(f"{name}={cycles}" for name, cycles in pair.named.items() if cycles)
                        tiles.append((block, tile, pair.rtl, pair.model, why))
                yield Checked(design, layer, tally, tiles, whole_layer(design, layer))


def whole_layer(design: Design, layer: Layer) -> int | None:
    if layer.mask is None or not design.adds_up:
        return None
    tokens = min(TOKENS, design.most[2])
    nothing = np.zeros((0, 0), np.int8)  # the model looks at the mask alone
    return sum(design.model_cycles(Group(layer.mask, nothing, np.zeros((tokens, layer.mask.cols), np.int8))))


def numbered(layers: Iterable[tuple[str, PackedMask | None]], most: int | None) -> list[Layer]:
    return [Layer(name, mask) for (name, mask), _ in zip(layers, range(most) if most else count(), strict=False)]
