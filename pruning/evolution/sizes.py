"""How many units every attention and every FFN keeps, within a budget of weights (methods 9.1)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pruning.shifting import shifted
from pruning.structured.choice import check_step
from pruning.structured.units import UnitGroup
from workloads.removal import NEURON


@dataclass(frozen=True)
class Gene:
    """One attention or one FFN; experts in one parameter, which keep as many each, are one gene together. keys: of its
    groups; weights: of one unit, of all its groups; step: so many units go or stay at once."""

    keys: tuple[str, ...]
    kind: str
    block: int
    count: int
    weights: int
    step: int = 1

    @cached_property
    def levels(self) -> np.ndarray:
        """The numbers of units that may stay, rising: multiples of the step, and all."""
        return np.append(np.arange(self.step, self.count, self.step), self.count)

    def is_level(self, count: int) -> bool:
        return count == self.count or (0 < count < self.count and count % self.step == 0)


@dataclass(frozen=True)
class Candidate:
    """By gene how many units stay, 0 in blocks that go; the numbers of those blocks, rising; and by gene the units that
    change places across the cut: (n, m), the last but n that stays and the m-th that goes, in the order of units."""

    kept: tuple[int, ...]
    gone: tuple[int, ...] = ()
    swaps: tuple[tuple[tuple[int, int], ...], ...] = ()


@dataclass(frozen=True)
class Space:
    """All candidates that hold the share 1 - sparsity of the weights, to half a step of the finest kind of unit."""

    genes: tuple[Gene, ...]
    sparsity: float

    @cached_property
    def blocks(self) -> tuple[int, ...]:
        """The numbers of blocks with units."""
        return tuple(sorted({gene.block for gene in self.genes}))

    @cached_property
    def sizes(self) -> np.ndarray:
        """(genes,): the weights of each with all its units."""
        return np.array([gene.count * gene.weights for gene in self.genes])

    @cached_property
    def target(self) -> float:
        """Weights that should stay."""
        return (1 - self.sparsity) * float(self.sizes.sum())

    @cached_property
    def kinds(self) -> list[str]:
        """The kind with the heaviest step first."""
        heaviest = {g.kind: max(o.step * o.weights for o in self.genes if o.kind == g.kind) for g in self.genes}
        return sorted(heaviest, key=lambda kind: (-heaviest[kind], kind))

    @cached_property
    def tolerance(self) -> float:
        """Weights by which a candidate may miss the target."""
        return max(gene.step * gene.weights for gene in self.genes if gene.kind == self.kinds[-1]) / 2

    def weights(self, kept: Iterable[int], places: Iterable[int] | None = None) -> int:
        """Of so many units of all genes, or of those at `places`."""
        genes = self.genes if places is None else [self.genes[n] for n in places]
        return sum(int(count) * gene.weights for count, gene in zip(kept, genes, strict=True))

    def shares(self, candidate: Candidate) -> np.ndarray:
        """(genes,): of the units that stay."""
        return np.array([count / gene.count for count, gene in zip(candidate.kept, self.genes, strict=True)])

    def is_legal(self, candidate: Candidate) -> bool:
        """Within the budget, at least a step of every group of the blocks that stay, and swaps between units that there
        are."""
        fits = all(
            count == 0 if gene.block in candidate.gone else gene.is_level(count)
            for count, gene in zip(candidate.kept, self.genes, strict=True)
        )
        near = abs(self.weights(candidate.kept) - self.target) <= self.tolerance * (1 + 1e-9)
        possible = all(
            n < count and m < gene.count - count
            for count, gene, swaps in zip(candidate.kept, self.genes, candidate.swaps, strict=False)
            for n, m in swaps
        )
        return fits and near and possible and len(candidate.gone) < len(self.blocks)

    def fit(self, shares: np.ndarray, gone: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Whole numbers of units nearest to these shares (genes,), all shifted alike until they meet the budget; it may
        be that none do.

        The heavy units are settled first, by the largest remainders; then the lighter ones for what is left.
        """
        kept = np.zeros(len(self.genes), dtype=np.int64)
        left = self.target
        stays = np.array([gene.block not in gone for gene in self.genes])
        for n in range(len(self.kinds)):
            own, open_ = np.flatnonzero(stays & (self._ranks == n)), stays & (self._ranks >= n)
            if not len(own):
                continue
            wanted = np.zeros(len(self.genes))
            wanted[open_] = shifted(shares[open_], self.sizes[open_], left, self._least[open_], 1.0)
            due = left if n == len(self.kinds) - 1 else float((wanted * self.sizes)[own].sum())
            kept[own] = self._whole(own, wanted, due)
            left -= self.weights(kept[own], own)
        return tuple(kept.tolist())

    @cached_property
    def _ranks(self) -> np.ndarray:
        """(genes,): the place of each one's kind in `kinds`."""
        return np.array([self.kinds.index(gene.kind) for gene in self.genes])

    @cached_property
    def _least(self) -> np.ndarray:
        """(genes,): the smallest share that may stay."""
        return np.array([gene.levels[0] / gene.count for gene in self.genes])

    def _whole(self, places: np.ndarray, shares: np.ndarray, due: float) -> list[int]:
        """Levels below the shares, then the next ones of the largest remainders, while that comes nearer to `due`."""
        genes = [self.genes[n] for n in places]
        ideal = [shares[n] * gene.count + 1e-9 for n, gene in zip(places, genes, strict=True)]
        at = [int(np.searchsorted(gene.levels, want, "right")) - 1 for gene, want in zip(genes, ideal, strict=True)]
        missing = due - sum(int(gene.levels[n]) * gene.weights for gene, n in zip(genes, at, strict=True))
        rest = {}  # by place the share of the way to the next level, and the units on it
        for n, (gene, level) in enumerate(zip(genes, at, strict=True)):
            if level + 1 < len(gene.levels):
                units = int(gene.levels[level + 1] - gene.levels[level])
                rest[n] = ((ideal[n] - gene.levels[level]) / units, units)
        for n in sorted(rest, key=lambda n: (-rest[n][0], n)):
            more = rest[n][1] * genes[n].weights
            if 2 * missing > more:
                at[n], missing = at[n] + 1, missing - more
        return [int(gene.levels[n]) for gene, n in zip(genes, at, strict=True)]


def genes_of(groups: Iterable[UnitGroup], multiple_of: int = 1) -> tuple[Gene, ...]:
    """In the order of the groups. Raises NotForThisModel for multiples that do not fit a group."""
    together: dict[tuple, list[UnitGroup]] = {}
    for group in groups:
        stack = (group.block, group.output.module_path) if group.output.expert is not None else (group.key,)
        together.setdefault(stack, []).append(group)
    found = []
    for members in together.values():
        first = members[0]
        step = multiple_of if first.kind == NEURON else 1
        check_step(first, step)
        keys, weights = tuple(group.key for group in members), sum(group.unit_weights for group in members)
        found.append(Gene(keys, first.kind, first.block, first.count, weights, step))
    return tuple(found)


def masks(candidate: Candidate, genes: tuple[Gene, ...], orders: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By a group's key (count,) bool, True = stays: the first units of `orders`, (count,) the best first, but for
    swaps. In blocks that go nothing stays."""
    made = {}
    for n, (gene, count) in enumerate(zip(genes, candidate.kept, strict=True)):
        for key in gene.keys:
            places = np.arange(gene.count) < count
            for inside, outside in candidate.swaps[n] if candidate.swaps else ():
                places[[count - 1 - inside, count + outside]] = False, True
            made[key] = np.zeros(gene.count, dtype=bool)
            made[key][orders[key][places]] = True
    return made
