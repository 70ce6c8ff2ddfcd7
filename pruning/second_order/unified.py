"""Small blocks of a weight that are pruned, or share one magnitude: the nearest such weight, and ADMM, which comes to
one that leaves a layer's outputs as they are (methods 13)."""

from dataclasses import dataclass

import torch

from pruning.parallel import one_thread_per_operation, ordered_map
from pruning.rules import lowest_of_rows
from pruning.second_order.admm import LEAST, scaled
from pruning.second_order.groups import check_problem
from pruning.second_order.obs import ROWS
from workloads.errors import UserError

SETTLED = 0.5  # share of the iterations after which every block stays what it is


@dataclass(frozen=True)
class Kinds:
    """What becomes of every block: `pruned` and `unified`, (row blocks, column blocks) bool; the others are free."""

    pruned: torch.Tensor
    unified: torch.Tensor

    @property
    def shares(self) -> dict[str, float]:
        blocks, pruned, unified = self.pruned.numel(), int(self.pruned.sum()), int(self.unified.sum())
        return {
            "pruned_blocks": pruned / blocks,
            "unified_blocks": unified / blocks,
            "free_blocks": (blocks - pruned - unified) / blocks,
        }


@dataclass(frozen=True)
class Blocks:
    """How a (rows, cols) matrix is cut into blocks of height x width, those at its ends smaller. `counts`: blocks that
    are pruned, and that are unified."""

    shape: tuple[int, int]
    height: int
    width: int
    counts: tuple[int, int]

    @property
    def sides(self) -> tuple[int, int]:
        """Row blocks, column blocks."""
        return -(-self.shape[0] // self.height), -(-self.shape[1] // self.width)

    def cut(self, matrix: torch.Tensor) -> torch.Tensor:
        """(row blocks, column blocks, height * width), 0 beyond the matrix."""
        down, across = self.sides
        rows, cols = self.shape
        padded = torch.nn.functional.pad(matrix, (0, across * self.width - cols, 0, down * self.height - rows))
        return padded.reshape(down, self.height, across, self.width).transpose(1, 2).flatten(2)

    def spread(self, of_blocks: torch.Tensor) -> torch.Tensor:
        """(rows, cols) of (row blocks, column blocks): every weight has what its block has."""
        rows, cols = self.shape
        return of_blocks.repeat_interleave(self.height, 0)[:rows].repeat_interleave(self.width, 1)[:, :cols]


@dataclass(frozen=True)
class Costs:
    """Of every block, (row blocks, column blocks) float64: pruning = sum a w^2, unifying = sum a (|w| - magnitude)^2,
    where magnitude, the a-weighted mean of |w|, is the common value that costs least."""

    pruning: torch.Tensor
    unifying: torch.Tensor
    magnitude: torch.Tensor


def costs(weight: torch.Tensor, importance: torch.Tensor, blocks: Blocks) -> Costs:
    """weight (rows, cols); importance (cols,) > 0, the a of every input."""
    share = blocks.cut(importance.double().expand(blocks.shape))
    size = blocks.cut(weight.double().abs())
    high = size.amax(2)
    low = torch.where(share > 0, size, torch.inf).amin(2)
    magnitude = (share * size).sum(2) / share.sum(2)
    magnitude = torch.where(low == high, high, magnitude)  # not a rounding beside the one that all have
    unifying = (share * (size - magnitude[:, :, None]).square()).sum(2)
    return Costs((share * size.square()).sum(2), torch.where(low == high, 0.0, unifying), magnitude)


def choose(found: Costs, blocks: Blocks) -> Kinds:
    """The blocks that cost least to prune are pruned; of the others, those that cost least to unify are unified. Ties
    go to the block that comes first, row by row."""
    pruned = lowest_of_rows(found.pruning.reshape(1, -1), blocks.counts[0]).reshape(blocks.sides)
    left = found.unifying.masked_fill(pruned, torch.inf)
    unified = lowest_of_rows(left.reshape(1, -1), blocks.counts[1]).reshape(blocks.sides) & ~pruned
    return Kinds(pruned, unified)


def projected(
    weight: torch.Tensor, importance: torch.Tensor, blocks: Blocks, kinds: Kinds | None = None
) -> tuple[torch.Tensor, Kinds]:
    """The nearest (rows, cols) float64 weight, in sum a (w - w')^2, whose blocks are of these `kinds`, or of the kinds
    that its own costs choose. Signs of unified blocks stay, that of a 0 is +."""
    found = costs(weight, importance, blocks)
    kinds = choose(found, blocks) if kinds is None else kinds
    common = blocks.spread(torch.where(kinds.unified, found.magnitude, 0.0))
    made = torch.where(blocks.spread(kinds.unified), torch.where(weight < 0, -common, common), weight.double())
    return made.masked_fill_(blocks.spread(kinds.pruned), 0), kinds


@dataclass(frozen=True)
class Unified:
    """weight (rows, cols) float32. error, plain_error: ||X (W - W')^T||^2 over ||X W^T||^2, of this weight and of the
    plain projection of W; 0 where nothing is known of X."""

    weight: torch.Tensor
    kinds: Kinds
    error: float = 0.0
    plain_error: float = 0.0


def unify(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    blocks: Blocks,
    weighted: bool,
    rho: float,
    percdamp: float,
    iterations: int,
) -> Unified:
    """weight (rows, cols) with some blocks pruned and some unified, by ADMM. hessian: sum_t x_t x_t^T (cols, cols).

    a = diag(H) of every input if `weighted`, else their mean. With D = diag(sqrt(a)), G = D^-1 H D^-1 + `percdamp` of
    its mean diagonal, V0 = W D, and at first V = V0, U = 0, each iteration is

        Z = project(V + U);   U <- V + U - Z;   V <- (V0 G + rho (Z - U)) (G + rho I)^-1

    where `project` finds the nearest weight Z D^-1 in the a-weighted distance, which is the plain one of Z. In the
    first half of the iterations it chooses the blocks anew, afterwards they stay. No constraint set of this kind is
    convex, so Z need not get better each time: the Z of the least error ||X (W - Z D^-1)^T||^2 is taken. The first Z
    is the plain projection of W, so the error is never above that one's.

    Time: in^3 once, 2 in^2 out an iteration. Raises UserError as `admm` does.
    """
    check_problem(weight, hessian, percdamp)
    if rho <= 0 or iterations < 1:
        raise UserError(f"ADMM takes rho above 0 and at least 1 iteration, not {rho:g} and {iterations}")
    with torch.no_grad(), one_thread_per_operation():
        energy = hessian.diagonal().double()
        roots = (energy if weighted else energy.mean().expand_as(energy)).sqrt() + LEAST
        gram, inverse = scaled(hessian, roots, rho, percdamp)
        damping = percdamp / (1 + percdamp) * float(gram.diagonal().mean())
        start = weight.double() * roots
        wanted = times(start, gram)
        whole = float((wanted * start).sum()) - damping * float(start.square().sum())
        v, u, kinds = start, torch.zeros_like(start), None
        least, plain = torch.inf, 0.0
        for step in range(iterations):
            u = u + v
            settled = kinds if step >= SETTLED * iterations else None
            made, kinds = projected(u / roots, roots.square(), blocks, settled)
            z = made * roots
            off = start - z
            error = float((times(off, gram) * off).sum()) - damping * float(off.square().sum())
            plain = error if step == 0 else plain
            if error < least:
                least, best = error, (made, kinds)
            u = u - z
            v = times(wanted + rho * (z - u), inverse)
        of_all = max(whole, torch.finfo(torch.float64).tiny)
        return Unified(best[0].float(), best[1], max(least, 0.0) / of_all, max(plain, 0.0) / of_all)


def times(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left (rows, n) @ right (n, m), some rows at a time, on all threads to the same bits."""
    rows = [slice(at, at + ROWS) for at in range(0, len(left), ROWS)]
    return torch.cat(list(ordered_map(lambda some: left[some] @ right, rows)))
