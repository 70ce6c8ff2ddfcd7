"""What is taken out of each block for a speed: kv groups, FFN neurons or all of it, one knapsack over the blocks.

An option of a block is a count of kv groups, one of neurons, and what masks make of what is left of each, the same for
the matrices of an attention or an FFN; or nothing of the block at all. Its cost is the difference it makes to the whole
phase, attention's own included; its error the structures' (pruning/run/structure_errors.py) and, by the share that is
left, the masks'. Masks are planned again on what is left, matrix by matrix (meet.py), so here they only say how much of
the speed is theirs to meet."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pruning.budget.knapsack import front, solve
from pruning.run.structure_errors import Group, StructureErrors
from simulator.inference.steps import times_of
from studies.speed.costs import Machine, under
from workloads.choices import Choice
from workloads.decoder.dimensions import Block, Decoder
from workloads.decoder.narrowed import ATTENTION, FFN, narrowed
from workloads.errors import UserError
from workloads.operations.gemm import Matrix
from workloads.phases import Phase
from workloads.removal import KV_GROUP, NEURON

STEPS = 16  # counts of a group
Part = tuple[int, int, float, float]  # (units kept, place of the mask, error, cost beside the whole block's)


@dataclass(frozen=True)
class Structure:
    """kept: units by the key of a group, of those that lose some; gone: blocks; share: of the units' weights taken."""

    kept: dict[str, int]
    gone: tuple[int, ...]
    share: float

    @property
    def takes_nothing(self) -> bool:
        return not self.kept and not self.gone


@dataclass(frozen=True)
class Structures:
    """`kinds` of units that may go; `masks`: choices, the first leaves a matrix as it is; `mask_errors` (masks,) by
    layer."""

    decoder: Decoder
    machine: Machine
    phase: Phase
    kinds: frozenset[str]
    masks: Sequence[Choice]
    errors: StructureErrors
    mask_errors: Mapping[str, np.ndarray]
    progress: Callable[[str, int, int], None]
    group_size: int = 0
    is_even: bool = True
    known: dict[tuple[Block, Block, Choice], float | None] = field(default_factory=dict)

    def plan(self, speedup: float, with_blocks: bool, weight: float = 1.0) -> Structure:
        """The least error at that speedup; `weight` on the structures' part of it. Raises UserError where no structure
        and mask together reach it."""
        whole = self._us(self.decoder)
        errors, costs, parts = [], [], []
        own = 0.0
        for n, number in enumerate(self.decoder.numbers):
            self.progress("costs of structures", n, len(self.decoder.numbers))
            base = whole - self._us(self._without(n))
            own += base
            heads, neurons = (self._parts(n, number, kind, weight, whole) for kind in (KV_GROUP, NEURON))
            pairs = [(a, b) for a in heads for b in neurons]
            error, cost = [a[2] + b[2] for a, b in pairs], [max(0.0, base + a[3] + b[3]) for a, b in pairs]
            both: list[tuple[Part, Part] | None] = [*pairs]
            if with_blocks and number in self.errors.gone:
                both, error, cost = [*both, None], [*error, weight * self.errors.gone[number]], [*cost, 0.0]
            errors.append(np.array(error))
            costs.append(np.array(cost))
            parts.append(both)
        budget = whole / speedup - (whole - own)
        least = sum(float(row.min()) for row in costs)
        if budget < least:
            raise UserError(f"`speedup` {speedup:g} is more than structures and masks give together")
        found = solve(errors, costs, budget)
        return self._structure([row[int(j)] for row, j in zip(parts, found.choices, strict=True)])

    def _structure(self, chosen: Sequence[tuple[Part, Part] | None]) -> Structure:
        kept: dict[str, int] = {}
        gone = tuple(number for number, one in zip(self.decoder.numbers, chosen, strict=True) if one is None)
        if len(gone) == len(chosen):
            raise UserError("the least error is that of no block at all; ask for less `speedup`")
        taken = 0.0
        for number, one in zip(self.decoder.numbers, chosen, strict=True):
            for kind, part in zip((KV_GROUP, NEURON), one or (), strict=False):
                group = self.errors.group(kind, number)
                if group is not None and part[0] < group.count:
                    kept[group.key] = part[0]
                    taken += group.weights * (1 - part[0] / group.count)
        left = sum(group.weights for group in self.errors.groups if group.block not in gone)
        return Structure(kept, gone, taken / left if left else 0.0)

    def _parts(self, n: int, number: int, kind: str, weight: float, whole: float) -> list[Part]:
        """The options of an attention or FFN that no other beats."""
        group, block = self.errors.group(kind, number), self.decoder.blocks[n]
        if group is None:
            return [(0, 0, 0.0, 0.0)]
        made: list[Part] = []
        for count in counts_of(group) if kind in self.kinds else [group.count]:
            small = narrowed(block, kv_groups=count) if kind == KV_GROUP else narrowed(block, neurons=count)
            of_masks = np.sum([self.mask_errors[name] for name in group.layers], axis=0) * (count / group.count)
            for place, choice in enumerate(self.masks):
                cost = self._beside(n, small, ATTENTION if kind == KV_GROUP else FFN, choice, whole)
                if cost is not None:
                    error = weight * float(group.errors[count]) + float(of_masks[place])
                    made.append((count, place, error, cost))
        places, _, _ = front(np.array([one[2] for one in made]), np.array([max(0.0, whole + one[3]) for one in made]))
        return [made[int(j)] for j in places]

    def _beside(self, n: int, small: Block, roles: frozenset[str], choice: Choice, whole: float) -> float | None:
        """What the whole phase takes more with block n so, its matrices of `roles` under a choice; None where they
        cannot have it."""
        key = self.decoder.blocks[n], small, choice
        if key not in self.known:
            try:
                matrices = tuple(
                    self._made(matrix, choice) if matrix.role in roles else matrix for matrix in small.matrices
                )
                self.known[key] = self._us(self._with(n, replace(small, matrices=matrices))) - whole
            except UserError:  # no such choice there
                self.known[key] = None
        return self.known[key]

    def _made(self, matrix: Matrix, choice: Choice) -> Matrix:
        made = under(matrix, choice, self.group_size)
        if made is None:
            raise UserError(f"{choice} does not divide {matrix.in_features} inputs")
        return self.machine.evenly(made) if self.is_even else made

    def _with(self, n: int, block: Block) -> Decoder:
        blocks = self.decoder.blocks
        return replace(self.decoder, blocks=(*blocks[:n], block, *blocks[n + 1 :]))

    def _without(self, n: int) -> Decoder:
        blocks, numbers = self.decoder.blocks, self.decoder.numbers
        return replace(self.decoder, blocks=(*blocks[:n], *blocks[n + 1 :]), numbers=(*numbers[:n], *numbers[n + 1 :]))

    def _us(self, decoder: Decoder) -> float:
        machine = self.machine
        return times_of(machine.runner, decoder, self.phase, machine.numbers, machine.stack).us()


def counts_of(group: Group) -> list[int]:
    """Up to STEPS counts, evenly, all the last; of neurons in multiples that lanes and tensor cores like, where there
    are enough."""
    step = 64 if group.count >= 64 * STEPS else 16 if group.kind == NEURON and group.count >= 16 * 4 else 1
    counts = {max(1, round(group.count * k / STEPS / step)) * step for k in range(1, STEPS)}
    return [*sorted(count for count in counts if count < group.count), group.count]
