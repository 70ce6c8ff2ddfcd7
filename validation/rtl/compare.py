"""RTL beside the model, group by group: cycles, multiplications, sums."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from validation.rtl.designs.design import Design
from validation.rtl.groups import Group
from validation.rtl.job import Harness

JOB = 64  # groups a job


@dataclass(frozen=True)
class Pair:
    """One tile or group: cycles of both, and the named constants that apply."""

    rtl: int
    model: int
    named: dict[str, int]

    @property
    def difference(self) -> int:
        return self.rtl - self.model

    @property
    def unexplained(self) -> int:
        return self.difference - sum(self.named.values())


@dataclass
class Tally:
    """groups and tiles seen; differences: how often the RTL took so many cycles more; named: how often each constant
    explained one; wrong_sums, wrong_macs: groups; checksum: of all sums, as the RTL gave them."""

    groups: int = 0
    pairs: int = 0
    rtl_cycles: int = 0
    model_cycles: int = 0
    macs: int = 0
    wrong_sums: int = 0
    wrong_macs: int = 0
    unexplained: int = 0
    checksum: int = 0
    differences: Counter[int] = field(default_factory=Counter)
    named: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    first_wrong: str = ""

    def add(self, design: Design, group: Group, pairs: list[Pair], sums: np.ndarray, macs: int) -> None:
        self.groups += 1
        self.kinds[group.kind] += 1
        self.macs += macs
        self.wrong_macs += macs != design.macs(group)
        right = np.array_equal(sums, group.product)
        self.wrong_sums += not right
        self.checksum = (self.checksum * 31 + int(sums.sum())) % 2**32
        for pair in pairs:
            self.pairs += 1
            self.rtl_cycles += pair.rtl
            self.model_cycles += pair.model
            self.differences[pair.difference] += 1
            self.named.update(name for name, cycles in pair.named.items() if cycles)
            self.unexplained += pair.unexplained != 0
        if not self.first_wrong and (not right or macs != design.macs(group) or any(p.unexplained for p in pairs)):
            self.first_wrong = (
                f"{self.groups - 1} ({group.kind}), {group.mask.rows} x {group.mask.cols}, {group.tokens} tokens: "
                f"RTL {[p.rtl for p in pairs]}, model {[p.model for p in pairs]}, "
                f"{macs} of {design.macs(group)} multiplications, sums {'right' if right else 'wrong'}"
            )

    @property
    def agrees(self) -> bool:
        return not (self.wrong_sums or self.wrong_macs or self.unexplained)


def compare(design: Design, groups: Iterable[Group]) -> Tally:
    """Builds where needed. Raises UserError without Verilator."""
    tally = Tally()
    with Harness(design.program()) as harness:
        for _ in compared(design, groups, harness, tally):
            pass
    return tally


def compared(design: Design, groups: Iterable[Group], harness: Harness, tally: Tally) -> Iterator[list[Pair]]:
    """The pairs of one group after the other, added up in `tally`."""
    groups = iter(group for group in groups if design.takes(group))
    while some := list(islice(groups, JOB)):
        runs = harness.run([design.walk(group) for group in some])
        for group, run in zip(some, runs, strict=True):
            rtl, model, named = design.cycles(run), design.model_cycles(group), design.left_over(group, run)
            assert len(rtl) == len(model) == len(named), (len(rtl), len(model), len(named))
            pairs = [Pair(*each) for each in zip(rtl, model, named, strict=True)]
            tally.add(design, group, pairs, design.sums(group, run), sum(tile.macs for tile in run.tiles))
            yield pairs
