"""What a step does, as pure functions of its number: so a run goes on anywhere to the same weights."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Schedule:
    """`steps` steps of `batch` sequences; the learning rate rises to `lr` over `warmup` steps and falls to 0 along
    half a cosine. `seed` orders the sequences."""

    steps: int
    lr: float
    warmup: int
    batch: int
    seed: int

    def lr_at(self, step: int) -> float:
        """Of step 0 .. steps - 1; never 0."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / (self.steps - self.warmup)))

    def guide_at(self, step: int) -> float:
        """The share of a guide in step 0 .. steps - 1: from 1 along half a cosine to 0 after half of the steps (methods
        8.3)."""
        last = self.steps / 2
        return 0.5 * (1 + math.cos(math.pi * step / last)) if step < last else 0.0

    def sequences_at(self, step: int, count: int) -> list[int]:
        """Which of `count` sequences step `step` takes: an order of its own for every round through all of them, drawn
        from (seed, round), so that each is seen once before any is seen twice."""
        places = range(step * self.batch, (step + 1) * self.batch)
        orders = {number: self._order(number, count) for number in {place // count for place in places}}
        return [int(orders[place // count][place % count]) for place in places]

    def _order(self, number: int, count: int) -> np.ndarray:
        return np.random.default_rng([self.seed, number]).permutation(count)
