"""The optimal brain surgeon for groups of inputs, as structured pruning wants it: the columns of o_proj that a kv group
feeds, or single neurons of down_proj (Kurtic, Frantar and Alistarh, "ZipLM", NeurIPS 2023). Formulas: surgery.py.

Deviations from ZipLM's program: errors are ||X (W - W')^T||^2 itself, not half of it, and damping is taken out of them;
several groups may go at once.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from pruning.parallel import one_thread_per_operation, ordered_map
from pruning.second_order.obs import ROWS
from pruning.second_order.surgery import Damped, Surgery
from workloads.errors import UserError

SHARE = 16  # a step takes at most one in so many of the groups that are left, however large the block

Groups = Sequence[Sequence[int]] | torch.Tensor


@dataclass(frozen=True)
class Sweep:
    """groups (groups, size) int64: the inputs of each. order (groups,) int64: which went first, second, ... errors
    (groups,) float64: ||X (W - W')^T||^2 when the first of them, two, ... all are gone; the last is ||X W^T||^2, so
    errors / errors[-1] are relative. snapshots: W' (out, in) float32 by the number of groups kept, 0 where an input is
    gone or dead. damping: the share of the mean diagonal that was added. remedy: why that is not what was asked for,
    "" if it is."""

    groups: torch.Tensor
    order: torch.Tensor
    errors: torch.Tensor
    snapshots: dict[int, torch.Tensor]
    damping: float
    remedy: str = ""

    def keep(self, count: int) -> torch.Tensor:
        """(in,) bool: the inputs that are left when `count` groups are."""
        keep = torch.zeros(self.groups.numel(), dtype=torch.bool, device=self.groups.device)
        keep[self.groups[self.order[len(self.order) - count :]].flatten()] = True
        return keep


def adjacent(inputs: int, size: int = 1) -> torch.Tensor:
    """(inputs / size, size) int64: groups of neighbours. Size 1: neurons of an FFN; query heads of a kv group times the
    size of a head: kv groups of o_proj."""
    if size < 1 or inputs % size:
        raise UserError(f"groups of {size} do not divide {inputs} inputs; choose a divisor of {inputs}")
    return torch.arange(inputs).reshape(-1, size)


def sweep(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    groups: Groups,
    keep_counts: Iterable[int] = (),
    damp: float = 0.01,
    block: int = 1,
) -> Sweep:
    """Takes all groups out of a weight (out, in), one after the other, the cheapest first; ties go to the lower group.

    hessian: sum_t x_t x_t^T (in, in) float32 (pruning/evidence/moments.py), damped by `damp` times its mean diagonal;
    neither is changed. groups: a partition of the inputs into groups of one size. keep_counts: numbers of groups for
    which W' is wanted; each is a copy of the weight, and `exact` makes the same of `keep` later.

    block: so many groups of the lowest scores are taken out together, though never more than a 16th of what is left,
    and never across a count that was asked for; their cost is still exact, only which they are is not looked at again
    in between. Time: in^2 (in + out) for all counts together; single neurons one at a time take some ten times as long
    as 32 at a time (benchmarks/second_order_groups.py), for then all of G^-1 is moved for each of them.

    Inputs that were always 0 go first, at no cost. Where damping matters, errors need not rise at every step: what is
    minimised holds lambda ||W - W'||^2 as well. A factorisation that fails is tried with ten times the damping, up to
    four times. Raises UserError for groups that are no partition, counts out of range, numbers that are not finite, and
    an H that no damping helped.
    """
    check_problem(weight, hessian, damp)
    partition = _partition(groups, weight)
    stops = _stops(keep_counts, len(partition))
    if block < 1:
        raise UserError(f"block {block}: at least one group goes at a time")
    with torch.no_grad(), one_thread_per_operation():
        surgery = Surgery(weight, Damped(hessian, damp), partition)
        order: list[int] = []
        costs = [torch.zeros(0, dtype=torch.float64, device=weight.device)]
        snapshots = {}
        while True:
            left = len(partition) - len(order)
            if left in stops:
                snapshots[left] = surgery.whole()
            if not left:
                break
            most = min(block, math.ceil(left / SHARE), left - max(stop for stop in (*stops, 0) if stop < left))
            chosen, added = surgery.remove_cheapest(most)
            order += chosen
            costs.append(added)
        errors = torch.cat(costs).cumsum(0).clamp_min(0)
        went = torch.tensor(order, device=weight.device)
        return Sweep(partition, went, errors, snapshots, surgery.damped.damping, surgery.damped.remedy)


def exact(weight: torch.Tensor, hessian: torch.Tensor, keep: torch.Tensor, damp: float = 0.01) -> torch.Tensor:
    """(out, in) float32: the best weights on the inputs keep (in,) bool, W G_:K (G_KK)^-1, and 0 elsewhere, by least
    squares. What a `sweep` with the same damping comes to, without its steps."""
    check_problem(weight, hessian, damp)
    if not bool(keep.any()):
        return torch.zeros_like(weight, dtype=torch.float32)
    with torch.no_grad(), one_thread_per_operation():
        damped = Damped(hessian, damp)
        stay, gone = torch.nonzero(keep).squeeze(1), torch.nonzero(~keep).squeeze(1)
        lower = damped.lower(stay)
        across = hessian[gone][:, stay].double()
        alive = torch.where(damped.dead, 0.0, weight.float())

        def refitted(rows: torch.Tensor) -> torch.Tensor:
            made = torch.zeros_like(rows)
            carried = torch.cholesky_solve((rows[:, gone].double() @ across).T, lower).T
            made[:, stay] = (rows[:, stay] + carried).float()
            return made

        return torch.cat(list(ordered_map(refitted, list(alive.split(ROWS)))))


def filling(hessian: torch.Tensor, keep: torch.Tensor, damp: float = 0.01) -> torch.Tensor:
    """(gone, kept) float32, R = G_:K (G_KK)^-1 of the inputs that go: R x is what the others, keep (in,) bool, say of
    them by least squares. W with its inputs so filled in gives what `exact` gives."""
    damped = Damped(hessian, damp)
    stay, gone = torch.nonzero(keep).squeeze(1), torch.nonzero(~keep).squeeze(1)
    with torch.no_grad(), one_thread_per_operation():
        across = hessian[gone][:, stay].double()
        return torch.cholesky_solve(across.T, damped.lower(stay)).T.float()


def check_problem(weight: torch.Tensor, hessian: torch.Tensor, damp: float) -> None:
    """Raises UserError for a Hessian of another size, numbers that are not finite and damping below 0."""
    inputs = weight.shape[1]
    if hessian.shape != (inputs, inputs):
        raise UserError(f"a weight of {inputs} inputs needs a Hessian of {inputs} x {inputs}, not {_by(hessian)}")
    if not bool(torch.isfinite(weight.sum(dtype=torch.float64))):
        raise UserError(f"the weight of {_by(weight)} holds numbers that are not finite")
    if not bool(torch.isfinite(hessian.sum(dtype=torch.float64))):
        raise UserError(f"the Hessian of {inputs} inputs holds numbers that are not finite; calibrate again")
    if not (damp >= 0 and math.isfinite(damp)):
        raise UserError(f"damping {damp:g} is no share of the mean diagonal; choose 0 or more, such as 0.01")


def _partition(groups: Groups, weight: torch.Tensor) -> torch.Tensor:
    """The groups as (groups, size) int64; UserError unless every input is in exactly one."""
    inputs = weight.shape[1]
    sizes = sorted({len(group) for group in groups})
    if len(sizes) != 1 or sizes[0] == 0:
        raise UserError(f"groups of {' and '.join(map(str, sizes)) or 'no'} inputs; all must be of one size")
    partition = torch.as_tensor(groups, dtype=torch.int64, device=weight.device)
    if not torch.equal(partition.flatten().sort().values, torch.arange(inputs, device=weight.device)):
        raise UserError(
            f"{len(partition)} groups of {sizes[0]} do not hold each of {inputs} inputs, 0 to {inputs - 1}, once"
        )
    return partition


def _stops(keep_counts: Iterable[int], groups: int) -> set[int]:
    stops = set(keep_counts)
    if beyond := sorted(count for count in stops if not 0 <= count <= groups):
        raise UserError(f"{beyond[0]} of {groups} groups cannot be kept; choose 0 to {groups}")
    return stops


def _by(matrix: torch.Tensor) -> str:
    return " x ".join(map(str, matrix.shape))
