"""What is known of the inputs of every matrix of a block, and the factor that follows, shared by matrices with the same
input; and what to do where data is thin."""

import torch

from checkpoints.discovery import LinearRef
from pruning.block_job import BlockJob
from pruning.evidence.moments import Moments
from pruning.second_order.obs import Factor, factorise
from workloads.importers import natural

FEW_TOKENS = 4  # times its inputs: below that an expert's own X^T X says little


class Inputs:
    """`of(ref)` gives the sums of a matrix's input. `remedy` says what becomes of a matrix of whose input nothing is
    known."""

    def __init__(self, job: BlockJob, remedy: str):
        self._job = job
        self._remedy = remedy
        self._pools: dict[str, Moments] = {}

    def of(self, ref: LinearRef) -> Moments | None:
        """None where nothing, or only zeros, came in. Experts that few tokens reached use the sums of all experts of
        their stack."""
        assert self._job.moments is not None
        sums = self._job.moments.sums
        own = sums.get(ref.layer.name)
        tokens = own.tokens if own is not None else 0
        if ref.expert is not None and tokens < FEW_TOKENS * ref.layer.in_features:
            pool = self._pool(ref)
            if pool is not None:
                self._job.warn(
                    f"{ref.layer.name}: {tokens} calibration tokens reached it; the Hessian of all experts is used"
                )
                own = pool
        if own is None or not bool(own.energy.any()):
            self._job.warn(f"{ref.layer.name}: {self._job.why_unseen(ref.layer.name)}; {self._remedy}")
            return None
        return own

    def _pool(self, ref: LinearRef) -> Moments | None:
        """The sums of all experts of a stack, those that stay dense included; None if no token reached any."""
        assert self._job.moments is not None
        stack = ref.layer.name.rpartition(".")[0]
        if stack not in self._pools:
            sums = self._job.moments.sums
            peers = sorted((name for name in sums if name.rpartition(".")[0] == stack), key=natural)
            if not peers:
                return None
            pool = sums[peers[0]].copy()
            for peer in peers[1:]:
                pool.add_(sums[peer])
            self._pools[stack] = pool
        return self._pools[stack]


class Factors:
    """`of(ref)` gives the factor of a matrix (pruning/second_order/obs.py) and, with `order`, the permutation of its
    inputs by falling diagonal. `remedy` says what becomes of matrices whose inputs nothing is known of. A factor is
    kept until one of another input is asked for: q, k and v cost one factorisation."""

    def __init__(self, job: BlockJob, damping: float, remedy: str, by_size: bool = False):
        self._job = job
        self._inputs = Inputs(job, remedy)
        self._damping = damping
        self._by_size = by_size
        self._latest: tuple[object, tuple[Factor, torch.Tensor | None]] | None = None

    def of(self, ref: LinearRef) -> tuple[Factor, torch.Tensor | None]:
        moments = self._inputs.of(ref)
        key: object = moments if moments is not None else ref
        if self._latest is None or self._latest[0] is not key:
            self._latest = (key, self._made(ref, moments))
        return self._latest[1]

    def _made(self, ref: LinearRef, moments: Moments | None) -> tuple[Factor, torch.Tensor | None]:
        if moments is None:
            identity = torch.eye(ref.layer.in_features, device=self._job.weight(ref).device)
            return Factor(identity, identity.diagonal() == 0), None
        hessian = moments.hessian
        assert hessian is not None
        if moments.tokens < ref.layer.in_features:
            self._job.warn(
                f"{ref.layer.name}: {moments.tokens} calibration tokens for {ref.layer.in_features} inputs: its "
                "Hessian has no full rank, damping makes up for it; more `samples` are better"
            )
        order = None
        if self._by_size:
            order = hessian.diagonal().argsort(descending=True, stable=True)
            hessian = hessian[order][:, order]
        factor = factorise(hessian, self._damping)
        if factor.remedy:
            self._job.warn(f"{ref.layer.name}: the Cholesky factorisation failed; used {factor.remedy}")
        if order is not None:  # `dead` speaks of the inputs in their own order
            dead = torch.zeros_like(factor.dead)
            dead[order] = factor.dead
            factor = Factor(factor.upper, dead, factor.remedy)
        return factor, order
