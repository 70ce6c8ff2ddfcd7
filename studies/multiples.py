"""Whether FFNs that structured pruning cut could keep more neurons and take no longer: widths rounded up to multiples
of what a machine takes at once, timed by that machine's own model, from shapes alone."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import pandas as pd

from simulator.simulate import AcceleratorTarget
from simulator.statistics import StatisticsStore
from workloads.bundle import BundleHeader
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.layers import FFN_ROLES
from workloads.mask import PackedMask
from workloads.operations import Linear, Weights
from workloads.patterns import DENSE, SMALLER
from workloads.targets import Target

MULTIPLES = (8, 16, 32, 64, 128)
SLOWER = (
    0.005  # a wider FFN takes no longer if its time grows by less than this, and than a tenth of what its width does
)
WORTH = 0.01  # the least growth of a width that is worth a word

Time = Callable[
    [int, int, int | None], float | None
]  # us of a dense (out_features, in_features, bits), None: cannot run


@dataclass(frozen=True)
class Matrix:
    """Of an FFN: `others` is the side that is not of neurons; `halves` is 2 where gate and up are one matrix."""

    outputs: bool
    others: int
    halves: int
    bits: int | None

    def shape(self, width: int) -> tuple[int, int]:
        return (width * self.halves, self.others) if self.outputs else (self.others, width)


@dataclass(frozen=True)
class Ffn:
    """Cut from `unpruned` neurons to `width`."""

    unpruned: int
    width: int
    matrices: tuple[Matrix, ...]

    def rounded(self, multiple: int) -> int:
        """The width a run with `multiple_of` would keep at least: all neurons where there is no further multiple."""
        return min(-(-self.width // multiple) * multiple, self.unpruned)

    def time_us(self, width: int, time: Time) -> float | None:
        times = [time(*matrix.shape(width), matrix.bits) for matrix in self.matrices]
        return None if None in times else sum(each for each in times if each is not None)

    def runs_free(self, width: int, time: Time) -> bool:
        """Whether it takes no longer with `width` neurons, more than it has."""
        now, wider = self.time_us(self.width, time), self.time_us(width, time)
        allowed = min(SLOWER, (width / self.width - 1) / 10)
        return now is not None and wider is not None and wider <= now * (1 + allowed)


def best_multiple(ffns: Mapping[Ffn, int], time: Time, multiples: Iterable[int] = MULTIPLES) -> int | None:
    """Of the multiples at which none of the FFNs (with how many there are of each) takes longer that by which most
    neurons more are kept, the smaller of equals. None where that gains nothing."""
    best, most = None, 0
    for multiple in sorted(set(multiples)):
        wider = {ffn: ffn.rounded(multiple) for ffn in ffns}
        if multiple > min((ffn.unpruned for ffn in ffns), default=0) or _growth(wider) < WORTH:
            continue
        more = sum(count * (wider[ffn] - ffn.width) for ffn, count in ffns.items())
        if more > most and all(ffn.runs_free(width, time) for ffn, width in wider.items() if width > ffn.width):
            best, most = multiple, more
    return best


def multiples_notes(rows: pd.DataFrame, targets: Sequence[Target]) -> list[str]:
    """A line for every target and number of tokens at which the smaller FFNs in the rows would gain from multiples.
    Nothing of mixtures' experts, whose times are averages, and of targets with several designs, as sweeps have."""
    names, cut = Counter(target.name for target in targets), _cut(rows)
    notes = []
    for target in targets:
        own = cut[(cut["target"] == target.name) & (cut["settings"].fillna("") == target.settings)]
        if names[target.name] > 1:
            continue
        for (tokens, density), part in own.groupby(["tokens", "activation_density"], sort=True):
            ffns = Counter(_ffns(part))
            time = partial(_time_us, target, Conditions(int(tokens), float(density)), StatisticsStore())
            best = best_multiple(ffns, cache(time), (*MULTIPLES, *_own_sizes(target)))
            if best is not None:
                notes.append(f"{target.name}, tokens {tokens}: {_words(ffns, best)}")
    return notes


def _words(ffns: Mapping[Ffn, int], multiple: int) -> str:
    wider = {ffn: ffn.rounded(multiple) for ffn in ffns}
    gaining = sum(count for ffn, count in ffns.items() if wider[ffn] > ffn.width)
    return (
        f"FFN widths that are multiples of {multiple} would run as fast as these ({gaining} of {sum(ffns.values())} "
        f"FFNs would keep up to {100 * _growth(wider):.0f} % more neurons for nothing); give `multiple_of={multiple}` "
        "when pruning."
    )


def _growth(wider: Mapping[Ffn, int]) -> float:
    return max((width / ffn.width - 1 for ffn, width in wider.items()), default=0.0)


def _cut(rows: pd.DataFrame) -> pd.DataFrame:
    """The matrices of FFNs from which neurons were taken and that run."""
    pattern = rows["layer_pattern"].fillna("").where(rows["layer_pattern"].fillna("") != "", rows["pattern"])
    roles = [role for role in FFN_ROLES if not role.startswith("expert_")]
    changed = (rows["unpruned_out_features"] != rows["out_features"]) ^ (
        rows["unpruned_in_features"] != rows["in_features"]
    )
    wanted = rows["feasible"] & (pattern == SMALLER) & rows["role"].isin(roles) & (rows["routing"].fillna("") == "")
    return rows[wanted & rows["unpruned_out_features"].notna() & changed]


def _ffns(rows: pd.DataFrame) -> Iterator[Ffn]:
    """Of one target's rows at one number of tokens: matrices of a block that have as many neurons are one FFN."""
    found: dict[tuple, list[Matrix]] = {}
    for row in rows.to_dict("records"):
        outputs = row["unpruned_out_features"] != row["out_features"]
        side, other = ("out_features", "in_features") if outputs else ("in_features", "out_features")
        halves = 2 if row["role"].endswith("gate_up") else 1
        bits = int(row["weight_bits"]) if (row["scale_bytes"] or 0) > 0 else None
        run = (row["model"], row["method"], row["pattern"], str(row["target_sparsity"]), row["seed"], row["block"])
        key = (*run, int(row[f"unpruned_{side}"]) // halves, int(row[side]) // halves)
        found.setdefault(key, []).append(Matrix(outputs, int(row[other]), halves, bits))
    for (*_, unpruned, width), matrices in found.items():
        yield Ffn(unpruned, width, tuple(matrices))


def _time_us(
    target: Target, conditions: Conditions, store: StatisticsStore, rows: int, cols: int, bits: int | None
) -> float | None:
    weights = Weights(DENSE, rows * cols, f"dense {rows} x {cols}", partial(PackedMask.dense, rows, cols), bits)
    layer = Linear("layer", "other", -1, rows, cols, weights)
    try:
        found = target.rows(BundleHeader("shapes", "none"), layer, conditions, store)
    except UserError:
        return None
    return found[0]["latency_us"] if len(found) == 1 and found[0]["feasible"] else None


def _own_sizes(target: Target) -> list[int]:
    """The sides of an accelerator's array, where it has one."""
    array = getattr(target.accelerator.spec, "array", None) if isinstance(target, AcceleratorTarget) else None
    sides = [getattr(array, side, None) for side in ("height", "width", "rows", "cols")]
    return [side for side in sides if isinstance(side, int) and side > 1]
