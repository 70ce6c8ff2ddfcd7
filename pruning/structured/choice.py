"""From how many units should stay to which ones do."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch

from pruning.structured.scores import ScoredBlock
from pruning.structured.units import UnitGroup
from workloads.errors import NotForThisModel
from workloads.removal import NEURON

Scored = list[tuple[UnitGroup, torch.Tensor]]


def scored(blocks: Iterable[ScoredBlock], kind: str | None = None) -> Scored:
    """Every group with its scores, those of one kind if it is given."""
    return [(g, b.scores[g.key]) for b in blocks for g in b.groups if kind is None or g.kind == kind]


def split(groups: Scored, values: np.ndarray) -> list[np.ndarray]:
    """(units,) of the model, group by group."""
    return np.split(values, np.cumsum([group.count for group, _ in groups])[:-1])


def uniform(groups: Scored, sparsity: float) -> dict[str, float]:
    """The same share of every group stays."""
    return {group.key: group.count * (1 - sparsity) for group, _ in groups}


def standardized(score: torch.Tensor) -> torch.Tensor:
    """(score - mean) / standard deviation (unbiased), zeros where all are equal."""
    spread = score.std() if len(score) > 1 else score.new_zeros(())
    return (score - score.mean()) / spread if float(spread) > 0 else torch.zeros_like(score)


def cheapest(groups: Scored, share: float, one_fewer: bool = False, costs: Mapping[str, float] | None = None):
    """{key: units that stay} when units of all groups are ranked together and the lowest go, as many as bring the
    weights taken out nearest to `share` of all; the best unit of every group stays. `costs`: of one unit, by key,
    default its weights. one_fewer: the boundary unit goes too, as in FLAP's released program."""
    cost = np.concatenate(
        [np.full(g.count, (costs or {}).get(g.key, g.unit_weights), dtype=np.float64) for g, _ in groups]
    )
    owner = np.repeat(np.arange(len(groups)), [g.count for g, _ in groups])
    value = np.concatenate([score.numpy() for _, score in groups])
    last = np.concatenate([_is_best(score.numpy()) for _, score in groups])
    order = np.lexsort((np.arange(len(value)), value))
    order = order[~last[order]]
    taken = np.concatenate([[0.0], np.cumsum(cost[order])])
    count = int(np.abs(taken - share * cost.sum()).argmin()) + one_fewer
    gone = np.bincount(owner[order[:count]], minlength=len(groups))
    return {group.key: float(group.count - gone[n]) for n, (group, _) in enumerate(groups)}


def _is_best(score: np.ndarray) -> np.ndarray:
    best = np.zeros(len(score), dtype=bool)
    best[int(score.argmax())] = True
    return best


def kept_units(groups: Scored, wanted: Mapping[str, float], multiple_of: int = 1) -> dict[str, np.ndarray]:
    """By key (count,) bool: the units with the highest scores, the earlier of equals. Counts are whole numbers of
    multiples of `multiple_of` (of neurons), by the largest remainders, so that their sum is nearest to what is wanted;
    at least one multiple stays of every group, and as many neurons of every expert of a stack. Raises NotForThisModel
    for multiples that do not fit a group."""
    kept = {}
    for kind in dict.fromkeys(group.kind for group, _ in groups):
        own = [(group, score) for group, score in groups if group.kind == kind]
        step = multiple_of if kind == NEURON else 1
        counts = _counts([g for g, _ in own], [wanted[g.key] for g, _ in own], step)
        for (group, score), count in zip(own, counts, strict=True):
            order = torch.argsort(score, descending=True, stable=True)[:count]
            kept[group.key] = np.zeros(group.count, dtype=bool)
            kept[group.key][order.numpy()] = True
    return kept


def _counts(groups: list[UnitGroup], wanted: list[float], step: int) -> list[int]:
    for group in groups:
        check_step(group, step)
    wanted = _equal_in_stacks(groups, wanted)
    most = [group.count // step for group in groups]
    ideal = [min(max(want / step, 1.0), float(top)) for want, top in zip(wanted, most, strict=True)]
    whole = [int(np.floor(value + 1e-9)) for value in ideal]
    left = round(sum(ideal)) - sum(whole)
    order = sorted(range(len(groups)), key=lambda n: (whole[n] - ideal[n], n))
    for n in order:
        if left > 0 and whole[n] < most[n]:
            whole[n], left = whole[n] + 1, left - 1
    counts = [number * step for number in whole]
    counts = [g.count if want >= g.count - 1e-9 else n for g, want, n in zip(groups, wanted, counts, strict=True)]
    return [int(n) for n in _equal_in_stacks(groups, counts, whole=True)]


def check_step(group: UnitGroup, step: int) -> None:
    """Raises NotForThisModel for multiples that do not fit a group."""
    if group.count < step:
        raise NotForThisModel(f"{group.module}: {group.count} neurons hold no multiple of {step}; lower `multiple_of`")


def _equal_in_stacks(groups: list[UnitGroup], counts: list, whole: bool = False) -> list:
    """Experts in one parameter keep as many as they do on average; whole numbers, the least of them."""
    stacks: dict[tuple, list[int]] = {}
    for n, group in enumerate(groups):
        if group.output.expert is not None:
            stacks.setdefault((group.block, group.output.module_path), []).append(n)
    made = list(counts)
    for members in stacks.values():
        values = [counts[n] for n in members]
        for n in members:
            made[n] = min(values) if whole else sum(values) / len(values)
    return made
