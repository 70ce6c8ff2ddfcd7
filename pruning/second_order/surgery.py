"""Taking columns out of a weight while the others make up for them: the optimal brain surgeon for groups.

With G = H + lambda I, H = X^T X, taking the columns S out of W costs, if all others make up for it at best,

    tr(W_S (G^-1_SS)^-1 W_S^T),   by   W <- W - W_S (G^-1_SS)^-1 G^-1_S:,   G^-1 <- G^-1 - G^-1_:S (G^-1_SS)^-1 G^-1_S:

for a single column sum_r W_rj^2 / G^-1_jj (Hassibi and Stork 1993; Frantar and Alistarh 2022). The costs of one removal
after the other add up to tr(D G D^T), D = W - W' of all that is gone, so ||X D^T||^2 = tr(D H D^T) is their sum less
lambda ||D||^2. All of it is in float64: G^-1 loses digits at every step, and the time is mostly that of moving it.
"""

import math

import torch

from pruning.parallel import ordered_map
from pruning.second_order.obs import RETRIES, ROWS
from workloads.errors import UserError

LINES = 32  # rows whose squares are summed at once: they stay in the cache
SHRINK = 0.875  # what is gone is cut out of the matrices when this much of them is left


class Damped:
    """G = H + lambda I, lambda `damping` times the mean diagonal, dead inputs having a diagonal of 1 (methods 2.1)."""

    def __init__(self, hessian: torch.Tensor, damping: float):
        diagonal = hessian.diagonal()
        self.hessian = hessian
        self.dead = diagonal == 0
        self.damping, self.remedy = damping, ""
        self._mean = float(torch.where(self.dead, 1.0, diagonal.double()).mean())

    @property
    def added(self) -> float:
        """lambda"""
        return self.damping * self._mean

    def lower(self, inputs: torch.Tensor) -> torch.Tensor:
        """The lower Cholesky factor of G of these inputs, float64."""
        asked = self.damping
        for attempt in range(RETRIES + 1):
            self.damping = asked * 10**attempt
            part = self.hessian[inputs][:, inputs].double()
            part.diagonal().add_(self.dead[inputs].double() + self.added)
            lower, failed = torch.linalg.cholesky_ex(part)
            if not bool(failed):
                self.remedy = f"damping {self.damping:g} instead of {asked:g}" if attempt else ""
                return lower
        raise UserError(
            f"the Hessian of {len(inputs)} inputs is not positive definite, even damped by {self.damping:g} of its "
            "mean diagonal; choose a `damping` such as 0.01, or calibrate with more tokens than inputs"
        )


class Surgery:
    """A weight (out, in) and G^-1 while groups are taken out of them. Columns stand group by group; those that are
    gone are 0 until they are cut out."""

    def __init__(self, weight: torch.Tensor, damped: Damped, partition: torch.Tensor):
        inputs = partition.flatten()
        self.damped = damped
        self.inputs = inputs  # of every column that is held
        self.groups = torch.arange(len(partition), device=weight.device)  # of every place that is held
        self.gone = torch.zeros_like(self.groups, dtype=torch.bool)
        self._size = partition.shape[1]
        self._shape = weight.shape
        self._dense = torch.where(damped.dead, 0.0, weight.float())[:, inputs]
        self._weight = self._dense.double()
        self._inverse = torch.cholesky_inverse(damped.lower(inputs))
        self._energy = _total([_energy(rows) for rows in self._weight.split(ROWS)])

    def whole(self) -> torch.Tensor:
        """The weight as it is now, (out, in) float32."""
        made = torch.zeros(self._shape, dtype=torch.float32, device=self._weight.device)
        made[:, self.inputs] = self._weight.float()
        return made

    def remove_cheapest(self, count: int) -> tuple[list[int], torch.Tensor]:
        """The `count` groups of the lowest scores, lowest first, and by how much each raised ||X D^T||^2."""
        places = self._scores().argsort(stable=True)[:count]
        chosen = self.groups[places].tolist()
        raised = self._remove(places)
        self.gone[places] = True
        left = ~self.gone
        if int(left.sum()) <= SHRINK * len(left):
            self._cut_down_to(torch.nonzero(left).squeeze(1))
        return chosen, raised

    def _scores(self) -> torch.Tensor:
        """(places,) float64: tr(W_S (G^-1_SS)^-1 W_S^T), infinite where nothing is left."""
        if self._size == 1:
            return (self._energy / self._inverse.diagonal()).masked_fill_(self.gone, math.inf)
        scores = torch.full((len(self.gone),), math.inf, dtype=torch.float64, device=self._weight.device)
        places = torch.nonzero(~self.gone).squeeze(1)
        scores[places] = torch.cat(list(ordered_map(self._scores_of, list(places.split(max(1, ROWS // self._size))))))
        return scores

    def _scores_of(self, places: torch.Tensor) -> torch.Tensor:
        span = self._columns(places)
        of_each = span.reshape(-1, self._size)
        lower = torch.linalg.cholesky(self._inverse[of_each[:, :, None], of_each[:, None, :]])
        held = self._weight[:, span].T.reshape(len(places), self._size, -1)
        return torch.linalg.solve_triangular(lower, held, upper=False).square().sum((1, 2))

    def _remove(self, places: torch.Tensor) -> torch.Tensor:
        """Takes the groups at these places out, together; returns by how much each, in this order, raised ||X D^T||^2.

        With G^-1_SS = L L^T, z = L^-1 W_S^T and v = L^-1 G^-1_S: the update is W -= z^T v. Its i-th term is what column
        i does after those before it: it costs |z_i|^2 and adds z_i^T v_i to D.
        """
        span = self._columns(places)
        across = self._inverse[span]
        lower = torch.linalg.cholesky(across[:, span])
        z = torch.linalg.solve_triangular(lower, self._weight[:, span].T.contiguous(), upper=False)
        v = torch.linalg.solve_triangular(lower, across, upper=False)

        def update_weight(rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
            """z_i D_j summed over these rows, D as it was before; and the new squares of every column."""
            now = self._weight[rows]
            along = z[:, rows] @ (self._dense[rows] - now) if self.damped.added else torch.zeros_like(v)
            return along, _energy(now.addmm_(z[:, rows].T, v, alpha=-1))

        def update_inverse(rows: slice) -> None:
            self._inverse[rows].addmm_(v[:, rows].T, v, alpha=-1)

        sums = list(ordered_map(update_weight, _chunks(len(self._weight))))
        for _ in ordered_map(update_inverse, _chunks(len(self._inverse))):
            pass
        self._energy = _total([energy for _, energy in sums])
        self._weight[:, span] = 0
        self._inverse[:, span] = 0
        self._inverse[span] = 0
        overlap = (z @ z.T) * (v @ v.T)
        grown = 2 * (_total([along for along, _ in sums]) * v).sum(1) + 2 * overlap.tril(-1).sum(1) + overlap.diagonal()
        raised = z.square().sum(1) - self.damped.added * grown  # grown: of ||D||^2
        return raised.reshape(-1, self._size).sum(1)

    def _cut_down_to(self, places: torch.Tensor) -> None:
        columns = self._columns(places)
        self.inputs, self.groups, self.gone = self.inputs[columns], self.groups[places], self.gone[places]
        self._energy = self._energy[columns]
        self._dense, self._weight = self._dense[:, columns], self._weight[:, columns]
        self._inverse = self._inverse[columns][:, columns]

    def _columns(self, places: torch.Tensor) -> torch.Tensor:
        return (places[:, None] * self._size + torch.arange(self._size, device=places.device)).flatten()


def _energy(rows: torch.Tensor) -> torch.Tensor:
    """(cols,): the sum of squares of every column, a few rows at a time."""
    return _total([few.square().sum(0) for few in rows.split(LINES)])


def _total(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(parts).sum(0)


def _chunks(rows: int) -> list[slice]:
    return [slice(start, start + ROWS) for start in range(0, rows, ROWS)]
