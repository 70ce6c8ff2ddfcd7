"""The evolution of candidates (methods 9.2): the best so far are mutated and crossed, until the generations are over.

Nothing here knows a model: a candidate is sizes within a budget, and what it is worth comes from a function.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le

from pruning.evolution.sizes import Candidate, Space

TRIES = 10  # times the number of candidates that are wanted
Share = Annotated[float, Ge(0), Le(1)]
Draw = np.random.Generator


@dataclass(frozen=True)
class Search:
    """Of `generations`, each evaluates `population` candidates that were not seen before; the best `elites` of all are
    parents. Shares of units are drawn within `spread` of the uniform one at random, within `mutation_spread` of the
    parent's in a mutation, which changes each with the probability `mutation_rate`. At most `depth` whole blocks go,
    how many and which is redrawn in a mutation with `depth_rate`. At most `swaps` units of a group change places across
    the cut."""

    generations: Annotated[int, Ge(1)] = 10
    population: Annotated[int, Ge(1)] = 64
    elites: Annotated[int, Ge(1)] = 16
    mutations: Annotated[int, Ge(0)] = 32
    crossovers: Annotated[int, Ge(0)] = 16
    mutation_rate: Annotated[float, Gt(0), Le(1)] = 0.2
    depth_rate: Share = 0.4
    spread: Share = 0.3
    mutation_spread: Share = 0.1
    depth: Annotated[int, Ge(0)] = 0
    swaps: Annotated[int, Ge(0)] = 0

    @property
    def evaluations(self) -> int:
        """At most."""
        return self.generations * self.population


def evolve(space: Space, search: Search, order: list[int], loss: Callable[[Candidate], float], draw: Draw) -> Candidate:
    """The candidate of the lowest loss that was seen, the earlier of equals; never worse than the uniform one, which is
    the first. order: the numbers of blocks, those that may go first. Losses that are NaN count as infinite."""
    breeder = Breeder(space, search, order, draw)
    seen: dict[Candidate, float] = {}
    population = breeder.several(search.population - 1, breeder.random, [breeder.uniform()])
    for generation in range(search.generations):
        for candidate in population:
            value = loss(candidate)
            seen[candidate] = math.inf if math.isnan(value) else value
        best = sorted(seen, key=seen.__getitem__)
        if generation + 1 < search.generations:
            population = breeder.children(best[: search.elites], seen)
        if not population:  # none is left that was not seen
            break
    return best[0]


class Breeder:
    def __init__(self, space: Space, search: Search, order: list[int], draw: Draw):
        self.space, self.search, self.order, self.draw = space, search, order, draw

    def uniform(self) -> Candidate:
        return self._made(np.full(len(self.space.genes), 1 - self.space.sparsity))

    def random(self) -> Candidate:
        shares = 1 - self.space.sparsity + self._within(self.search.spread)
        return self._made(shares, self._gone(), [self._swaps() for _ in self.space.genes])

    def mutated(self, parent: Candidate) -> Candidate:
        changed = self.draw.random(len(self.space.genes)) < self.search.mutation_rate
        shares = self.space.shares(parent)
        gone = parent.gone
        if self.search.depth and self.draw.random() < self.search.depth_rate:
            gone = self._gone()
            back = np.array([gene.block in parent.gone for gene in self.space.genes])
            shares[back] = 1 - self.space.sparsity
        shares = shares + np.where(changed, self._within(self.search.mutation_spread), 0)
        swaps = [self._swaps() if new else old for new, old in zip(changed, self._swaps_of(parent), strict=True)]
        return self._made(shares, gone, swaps)

    def crossed(self, one: Candidate, two: Candidate) -> Candidate:
        """Of two that lose as many blocks; which blocks comes from either. A group that one of them lost comes from the
        other."""
        gone = (one, two)[int(self.draw.integers(2))].gone
        pairs = list(zip(self.space.shares(one), self.space.shares(two), strict=True))
        drawn = self.draw.integers(2, size=len(pairs)).tolist()
        take = [n if pair[n] else 1 - n for n, pair in zip(drawn, pairs, strict=True)]
        swaps = list(zip(self._swaps_of(one), self._swaps_of(two), strict=True))
        return self._made(
            np.array([pair[n] for n, pair in zip(take, pairs, strict=True)]),
            gone,
            [pair[n] for n, pair in zip(take, swaps, strict=True)],
        )

    def children(self, elites: list[Candidate], seen: dict[Candidate, float]) -> list[Candidate]:
        """The next generation: mutated, crossed, and random ones for the rest."""
        made = self.several(self.search.mutations, lambda: self.mutated(self._one(elites)), [], seen)
        by_depth = [[each for each in elites if len(each.gone) == depth] for depth in range(self.search.depth + 1)]
        mates = {each: others for others in by_depth if len(others) > 1 for each in others}
        if mates:

            def pair() -> Candidate:
                one = self._one(list(mates))
                return self.crossed(one, self._one([other for other in mates[one] if other != one]))

            made = self.several(self.search.crossovers, pair, made, seen)
        return self.several(self.search.population - len(made), self.random, made, seen)

    def several(
        self,
        count: int,
        make: Callable[[], Candidate],
        made: list[Candidate],
        seen: dict[Candidate, float] | None = None,
    ) -> list[Candidate]:
        """`made` and up to `count` more that are legal, that are not among them and were not seen."""
        known, wanted = {*made, *(seen or ())}, len(made) + count
        made = list(made)
        for _ in range(TRIES * count):
            if len(made) == wanted:
                break
            candidate = make()
            if candidate not in known and self.space.is_legal(candidate):
                known.add(candidate)
                made.append(candidate)
        return made

    def _made(self, shares: np.ndarray, gone: tuple[int, ...] = (), swaps: list | None = None) -> Candidate:
        kept = self.space.fit(shares, gone)
        possible = [
            tuple((n, m) for n, m in own if n < count and m < gene.count - count)
            for own, count, gene in zip(swaps or (), kept, self.space.genes, strict=False)
        ]
        return Candidate(kept, gone, tuple(possible) if any(possible) else ())

    def _one(self, some: list[Candidate]) -> Candidate:
        return some[int(self.draw.integers(len(some)))]

    def _within(self, width: float) -> np.ndarray:
        return self.draw.uniform(-width, width, len(self.space.genes))

    def _gone(self) -> tuple[int, ...]:
        """Any of the first 2 n blocks of the order, n of them."""
        count = int(self.draw.integers(min(self.search.depth, len(self.order) - 1) + 1))
        return tuple(sorted(int(n) for n in self.draw.permutation(self.order[: 2 * count])[:count]))

    def _swaps(self) -> tuple[tuple[int, int], ...]:
        """Up to `swaps` of the 2 x `swaps` units on this side of the cut, and as many of those on the other."""
        most = self.search.swaps
        count = int(self.draw.integers(most + 1))
        sides = [sorted(int(n) for n in self.draw.permutation(2 * most)[:count]) for _ in range(2)]
        return tuple(zip(*sides, strict=True))

    def _swaps_of(self, candidate: Candidate) -> tuple:
        return candidate.swaps or ((),) * len(self.space.genes)
