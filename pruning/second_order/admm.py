"""New weights under a mask that is given, by ADMM (methods 9.3; Boza, "Fast and Effective Weight Update for Pruned
Large Language Models", TMLR 2024): every row r makes up for what its mask takes, min ||X (w_r - w'_r)^T||^2, w'_r = 0
where pruned. One inverse serves all rows, though every one has a mask of its own: where all have the same, `exact`
(pruning/second_order/groups.py) solves in one step what this comes near to.
"""

import torch

from pruning.parallel import one_thread_per_operation, ordered_map
from pruning.second_order.groups import check_problem
from pruning.second_order.obs import ROWS
from workloads.errors import UserError

RHO, PERCDAMP, ITERATIONS = 1.0, 0.1, 20
LEAST = 1e-8  # added to the norm of an input, for those that were always 0


def admm(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    keep: torch.Tensor,
    rho: float = RHO,
    percdamp: float = PERCDAMP,
    iterations: int = ITERATIONS,
) -> torch.Tensor:
    """(out, in) float32: weight (out, in) as keep, (out, in) or (in,) bool, leaves it, and 0 elsewhere. hessian: sum_t
    x_t x_t^T (in, in) float32; neither is changed.

    With D = diag(sqrt(H_jj) + 1e-8), G = D^-1 H D^-1 + `percdamp` of its mean diagonal (1 where no input is dead), V0 =
    (W D)^T, and at first V = V0, U = 0, each iteration is

        Z = (V + U) * M^T;   U <- U + V - Z;   V <- (G + rho I)^-1 (G V0 + rho (Z - U))

    and W' = ((V + U) * M^T)^T D^-1. Its fixed point is, row by row, w_K' = w (H + `percdamp` D^2)_:K (H_KK +
    `percdamp` D^2_KK)^-1; a large `rho` comes near to it slowly. Time: in^3 once, in^2 out an iteration.

    Deviations: float64; the program behind methods 9.3 multiplies by the mask of what is pruned, keeping that. Raises
    UserError for a mask of another shape, settings out of range and numbers that are not finite.
    """
    check_problem(weight, hessian, percdamp)
    if keep.shape not in (weight.shape, weight.shape[1:]):
        raise UserError(
            f"the mask has shape {tuple(keep.shape)}, the weight {tuple(weight.shape)}; give one of the weight's shape "
            f"or of its {weight.shape[1]} inputs"
        )
    if rho <= 0 or iterations < 1:
        raise UserError(f"ADMM takes rho above 0 and at least 1 iteration, not {rho:g} and {iterations}")
    with torch.no_grad(), one_thread_per_operation():
        norms = hessian.diagonal().double().sqrt() + LEAST
        gram, inverse = scaled(hessian, norms, rho, percdamp)

        def updated(rows: slice) -> torch.Tensor:
            """(rows, in); everything is transposed against the formulas."""
            start = weight[rows].double() * norms
            mask = keep if keep.ndim == 1 else keep[rows]
            wanted, v, u = start @ gram, start, torch.zeros_like(start)
            for _ in range(iterations):
                u = u + v
                z = u * mask
                u = u - z
                v = (wanted + rho * (z - u)) @ inverse
            return (torch.where(mask, v + u, 0.0) / norms).float()

        return torch.cat(list(ordered_map(updated, [slice(at, at + ROWS) for at in range(0, len(weight), ROWS)])))


def scaled(
    hessian: torch.Tensor, norms: torch.Tensor, rho: float, percdamp: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """G = D^-1 H D^-1, D = diag(`norms`), with `percdamp` of its mean diagonal on it, and (G + rho I)^-1; both (in, in)
    float64. Raises UserError where that has no Cholesky factor."""
    gram = hessian.double() / norms / norms[:, None]
    gram.diagonal().add_(percdamp * float(gram.diagonal().mean()))
    damped = gram.clone()
    damped.diagonal().add_(rho)
    lower, failed = torch.linalg.cholesky_ex(damped)
    if bool(failed) or not bool(torch.isfinite(lower).all()):
        raise UserError(f"the Hessian of {len(hessian)} inputs is not positive definite; raise `rho` or `percdamp`")
    return gram, torch.cholesky_inverse(lower)
