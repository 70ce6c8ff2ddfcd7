"""The released optimizer as a whole against a slow twin, written from methods 4.1 to 4.6 alone: dense masks in float64
through autograd, a Prodigy of its own, and the exact projection row by row."""

import copy
import math

import pytest
import torch

from pruning.block_job import BlockJob
from pruning.methods.besa.besa import Besa
from tests.pruning.block_jobs import make_job

D = 101
POINTS = torch.arange(D, dtype=torch.float64) / (D - 1)


class Prodigy:
    """Mishchenko and Defazio 2023, Algorithm 4 with Adam: no decay, no warm-up, no correction of bias."""

    def __init__(self, parameters: list[torch.Tensor], d_coef: float):
        self.parameters, self.first = parameters, [p.detach().clone() for p in parameters]
        self.m, self.v, self.s = ([torch.zeros_like(p) for p in parameters] for _ in range(3))
        self.d = self.d_max = self.d0 = 1e-6
        self.numerator, self.d_coef = 0.0, d_coef

    def step(self, gradients: list[torch.Tensor]) -> None:
        beta1, beta2 = 0.9, 0.999
        beta3, old = math.sqrt(beta2), self.d
        self.numerator *= beta3
        for i, g in enumerate(gradients):
            self.numerator += old / self.d0 * old * float((g * (self.first[i] - self.parameters[i])).sum())
            self.m[i] = beta1 * self.m[i] + (1 - beta1) * old * g
            self.v[i] = beta2 * self.v[i] + (1 - beta2) * old**2 * g**2
            self.s[i] = beta3 * self.s[i] + old / self.d0 * old * g
        found = self.d_coef * self.numerator / sum(float(s.abs().sum()) for s in self.s)
        grown = max(old, found) if old == self.d0 else old
        self.d_max = max(self.d_max, found)
        self.d = min(self.d_max, math.inf * grown)
        for i, p in enumerate(self.parameters):
            p -= old * self.m[i] / (self.v[i].sqrt() + self.d * 1e-8)


def twin(job: BlockJob, target: float, settings: Besa, bounded: bool) -> dict[str, torch.Tensor]:
    """Keep masks by layer name."""
    assert job.moments is not None
    block = copy.deepcopy(job.block).double()
    weights, ranks, thetas = {}, {}, {}
    for ref in job.refs:
        name = ref.layer.name
        weights[name] = ref.matrix(job.block).double()
        norm = (job.moments.sums[name].energy / job.samples).sqrt()
        ranks[name] = (weights[name].abs() * norm).argsort(dim=1, stable=True).argsort(dim=1, stable=True)
        groups = len(weights[name]) if settings.granularity == "row" else 1
        thetas[name] = torch.zeros(groups, D, dtype=torch.float64)  # 0.5 everywhere
    size = sum(w.numel() for w in weights.values())
    optimizer = Prodigy(list(thetas.values()), settings.d_coef)
    sequences = [x.double() for batch in job.inputs for x in batch.split(1)]
    wanted = [y.double() for batch in job.outputs for y in batch.split(1)]

    def sparsities(theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pi = torch.softmax(torch.sigmoid(theta) if bounded else theta, dim=1)
        return pi, pi @ POINTS

    for _ in range(settings.epochs):
        for x, y in zip(sequences, wanted, strict=True):
            logits = [theta.clone().requires_grad_() for theta in thetas.values()]
            masked, pruned = {}, torch.zeros((), dtype=torch.float64)
            for ref, theta in zip(job.refs, logits, strict=True):
                name, (rows, cols) = ref.layer.name, ref.layer.shape
                pi, s = sparsities(theta)
                c = (cols * POINTS + 1e-6).floor()
                soft = 1 - (pi[:, None, :] * (ranks[name][:, :, None] < c)).sum(dim=2)
                hard = (ranks[name] >= (cols * s.detach() + 1e-3).floor()[:, None]).double()
                masked[f"{ref.module_path}.{ref.parameter}"] = weights[name] * (hard - soft.detach() + soft)
                pruned = pruned + rows * cols * s.mean()
            output = torch.func.functional_call(block, masked, (x,))
            sigma = y.flatten(0, 1).norm(dim=0)
            sigma = sigma + 1e-6 * sigma.max()
            loss = ((output - y).flatten(0, 1) / sigma).square().sum(dim=0).mean()
            loss = loss + settings.beta * ((pruned / size - target) / target) ** 2
            optimizer.step(list(torch.autograd.grad(loss, logits)))
    by_row = {n: sparsities(t)[1].expand(len(weights[n])) for n, t in thetas.items()}
    return projected(by_row, ranks, math.floor(size * target + 1e-6))


def projected(s: dict[str, torch.Tensor], ranks: dict[str, torch.Tensor], total: int) -> dict[str, torch.Tensor]:
    """One shift for all, down to whole counts, and the largest fractions one more (methods 4.5)."""
    rows = [(name, r, float(s[name][r]), ranks[name].shape[1]) for name in s for r in range(len(s[name]))]
    low, high = -1.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        enough = sum(min(max(each + middle, 0), 1) * cols for _, _, each, cols in rows) >= total
        low, high = (low, middle) if enough else (middle, high)
    exact = [min(max(each + low, 0), 1) * cols for _, _, each, cols in rows]
    counts = [math.floor(x + 1e-9) for x in exact]
    by_fraction = sorted(range(len(rows)), key=lambda i: counts[i] - exact[i])
    for i in by_fraction[: total - sum(counts)]:
        counts[i] += 1
    keep = {name: torch.ones_like(each, dtype=torch.bool) for name, each in ranks.items()}
    for (name, r, _, _), count in zip(rows, counts, strict=True):
        keep[name][r] = ranks[name][r] >= count
    return keep


@pytest.mark.parametrize(("coefficients", "d_coef"), [("sigmoid", 200.0), ("softmax", 20.0)])
@pytest.mark.parametrize("granularity", ["row", "layer"])
def test_the_released_optimizer_makes_the_masks_of_its_twin(coefficients: str, d_coef: float, granularity: str) -> None:
    settings = Besa(optimizer="prodigy", coefficients=coefficients, d_coef=d_coef, granularity=granularity, epochs=8)  # type: ignore[arg-type]
    job, _ = make_job(seed=3)
    job.grid = lambda ref: None
    job.sparsity = {ref.layer.name: 0.5 for ref in job.refs}
    job.patterns = {ref.layer.name: None for ref in job.refs}
    found = settings.decide(job)
    wanted = twin(job, 0.5, settings, coefficients == "sigmoid")
    moved = 0
    for ref in job.refs:
        name = ref.layer.name
        kept = wanted[name].sum(dim=1)
        moved += (
            int((kept != kept.float().mean().round()).sum())
            if granularity == "row"
            else int(kept[0] * 2 != ref.layer.in_features)
        )
        assert torch.equal(found[name].keep, wanted[name]), name
    assert moved > (20 if granularity == "row" else 2)  # there was something to be found
