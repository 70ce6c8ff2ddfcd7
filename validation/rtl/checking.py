"""One model checked against its designs in RTL: on random groups, on a mask, or on layers of a bundle."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

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
    """One design on one layer. tiles: (block, tile, RTL cycles, model cycles, what explains the difference)."""

    design: Design
    layer: Layer
    tally: Tally
    tiles: list[tuple[int, int, int, int, str]] = field(default_factory=list)

    def __str__(self) -> str:
        t = self.tally
        named = "".join(f", {name} in {times}" for name, times in sorted(t.named.items()))
        differences = ", ".join(f"{d:+d}: {times}" for d, times in sorted(t.differences.items()))
        lines = [
            f"{self.layer.name}: {self.design}: {t.groups} groups, {t.pairs} compared; cycles {t.rtl_cycles:,} in RTL, "
            f"{t.model_cycles:,} of the model; differences {{{differences}}}{named}; unexplained {t.unexplained}; "
            f"{t.macs:,} multiplications, {t.wrong_macs} wrong; sums of {t.wrong_sums} wrong, checksum {t.checksum:08x}"
        ]
        return "\n".join(lines + ([f"  first that differs: {t.first_wrong}"] if t.first_wrong else []))


def groups_of(layer: Layer, design: Design, groups: int) -> Iterable[Group]:
    if layer.mask is None:
        return random_groups(groups, *design.most, seed=SEED)
    return blocks(layer.mask, *design.block, min(TOKENS, design.most[2]), SEED)


def check_model(model: str, layers: Iterable[Layer], groups: int = GROUPS) -> Iterator[Checked]:
    """Every design of the model on every layer. Raises UserError for a model without one, and without Verilator."""
    found = designs_of(model)
    if not found:
        raise UserError(f"{model} has no design in RTL; {', '.join(DESIGNS)} have one, and classes that state `rtl`")
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
                yield Checked(design, layer, tally, tiles)


def write_waveform(model: str, layer: Layer, number: int, path: Path) -> np.ndarray:
    """Of one group (a block of the layer, or a random group) under the model's first design, as VCD. The lanes at work
    of every edge, (edges, 64) bool. Raises UserError where there are fewer groups."""
    (design, *_) = designs_of(model)
    groups = groups_of(layer, design, number + 1)
    group = next(islice(iter(groups), number, None), None)
    if group is None:
        raise UserError(
            f"{layer.name} has no group {number}: it is cut into blocks of {design.block[0]} x {design.block[1]}"
        )
    with Harness(design.program(waveform=True), path) as harness:
        (run,) = harness.run([design.walk(group)], traced=0)
    return (run.actives[:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)).astype(bool)


def numbered(layers: Iterable[tuple[str, PackedMask | None]], most: int | None) -> list[Layer]:
    return [Layer(name, mask) for (name, mask), _ in zip(layers, range(most) if most else count(), strict=False)]
