"""AlphaPruning: exponents against closed forms, power laws and their definition, start by start; the budgets."""

import math

import numpy as np
import pytest
import torch

from pruning.allocations import alpha
from pruning.allocations.balance import CAP
from tests.pruning.allocation_jobs import Matrix, allocate, geometric, job_of, mean_of
from workloads.layers import Layer


def power_law(exponent: float, count: int) -> np.ndarray:
    """The quantiles of density ~ lam^-exponent from 1 upwards."""
    return (1 - (np.arange(count) + 0.5) / count) ** (-1 / (exponent - 1))


@pytest.mark.parametrize("step", [0.01, 0.2])
@pytest.mark.parametrize("count", [2, 7, 64])
def test_hill_of_a_geometric_spectrum_is_its_closed_form(step: float, count: int) -> None:
    """sum of 0, step, ..., (n-1) step = step n (n-1) / 2 over the n = ceil(count / 2) upper ones."""
    n = count - count // 2
    found = alpha.alpha_mid(geometric(step, count))
    if n == 1:
        assert found is None
    else:
        assert found == pytest.approx(1 + 2 / (step * (n - 1)), rel=1e-9)


@pytest.mark.parametrize("exponent", [1.5, 2.0, 3.5, 6.0])
def test_both_estimators_find_the_exponent_of_a_power_law(exponent: float) -> None:
    spectrum = power_law(exponent, 4000)
    assert alpha.alpha_mid(spectrum) == pytest.approx(exponent, rel=0.005)
    assert alpha.alpha_peak(spectrum) == pytest.approx(exponent, rel=0.005)
    assert alpha.alpha_mid(spectrum * 1e-4) == pytest.approx(
        alpha.alpha_mid(spectrum), rel=1e-9
    )  # scale does not count


def slow_peak(spectrum: np.ndarray, low: float = 0.95, high: float = 1.5) -> float | None:
    """methods 17 number by number: the bins counted by hand, every start tried, every distance a loop."""
    logs = [math.log10(value) for value in spectrum]
    width = (logs[-1] - logs[0]) / 100
    bins = [0] * 100
    for value in logs:
        bins[min(int((value - logs[0]) / width), 99)] += 1
    mode = 10 ** (logs[0] + bins.index(max(bins)) * width)
    count = len(spectrum)
    best: tuple[float, float] | None = None
    for i in range(count - 1):
        if not low * mode <= spectrum[i] <= high * mode:
            continue
        n = count - i
        excess = sum(math.log(spectrum[j] / spectrum[i]) for j in range(i, count))
        exponent = 1 + n / excess
        distance = max(abs(1 - (spectrum[j] / spectrum[i]) ** (1 - exponent) - (j - i) / n) for j in range(i, count))
        if best is None or distance < best[0]:
            best = (distance, exponent)
    return best[1] if best else None


@pytest.mark.parametrize("seed", range(8))
def test_the_peak_estimator_equals_its_slow_twin(seed: int) -> None:
    draw = np.random.default_rng(seed)
    kinds = [
        draw.pareto(1.5, 150) + 1,
        draw.lognormal(0, 2, 150),
        draw.exponential(1, 150) * 50,
        draw.normal(0, 1, 150) ** 2,
    ]
    spectrum = np.sort(kinds[seed % 4])
    assert alpha.alpha_peak(spectrum) == pytest.approx(slow_peak(spectrum), rel=1e-9)


def test_the_lower_bound_of_the_window_is_a_raw_value() -> None:
    """A power law from 20 upwards, with a lump at 50, the mode, and one at 80: from the mode on nothing looks like a
    power law, and were the bound the logarithm of 47.5, which is 1.7, the better starts near 20 would win."""
    lumps = [50 + np.arange(50) * 1e-3, 80 + np.arange(25) * 1e-3]
    spectrum = np.sort(np.concatenate([20 * power_law(4, 400), *lumps]))
    right, released = slow_peak(spectrum), slow_peak(spectrum, low=0)
    assert right != pytest.approx(released, rel=0.1)
    assert alpha.alpha_peak(spectrum) == pytest.approx(right, rel=1e-9)


def test_spectra_without_a_tail_have_no_exponent() -> None:
    for spectrum in (np.array([]), np.ones(1), np.full(9, 4.0), np.array([1.0, 1 + 1e-8, 1 + 2e-8])):
        assert alpha.alpha_mid(spectrum) is None
        assert alpha.alpha_peak(spectrum) is None
    assert alpha.alpha_peak(np.array([1.0, 100, 100])) is None  # the mode is the top: nothing above it to fit
    assert alpha.filled([2.0, None, 4.0]) == [2, 3, 4]
    assert alpha.filled([None, None]) == [0, 0]


@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (24, 24)])
def test_eigenvalues_are_those_of_the_gram_matrix(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    gram = (weight.double() @ weight.double().T).numpy()
    expected = np.linalg.eigvalsh(gram)[-min(shape) :]
    np.testing.assert_allclose(alpha.eigenvalues(Layer("x", "q", 0, *shape), weight), expected, rtol=1e-3)
    weight[:, 5:] = 0  # rank 5: what the SVD returns for the others is rounding
    assert len(alpha.eigenvalues(Layer("x", "q", 0, *shape), weight)) == 5


def of_spectrum(eigenvalues: np.ndarray, rows: int, block: int = 0, seed: int = 0) -> Matrix:
    """A (rows, cols) matrix whose squared singular values are the given ones, its factors random and orthonormal."""
    cols = len(eigenvalues)
    draw = torch.Generator().manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(rows, cols, generator=draw, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(cols, cols, generator=draw, dtype=torch.float64))
    weight = left * torch.from_numpy(np.sqrt(eigenvalues)) @ right.T
    return Layer(f"{block}.{seed}", "q", block, rows, cols), weight.float(), None


def test_alpha_allocates_linearly_between_the_bounds() -> None:
    """Exponents 1 + 2 / (step (n-1)), n = 10 of 20: 3.22, 2.11, 1.56 for steps 0.1, 0.2, 0.4; 40, 20, 30 rows."""
    steps, rows = (0.1, 0.2, 0.4), (40, 20, 30)
    matrices = [
        of_spectrum(geometric(step, 20), r, block) for block, (step, r) in enumerate(zip(steps, rows, strict=True))
    ]
    exponents = [1 + 2 / (step * 9) for step in steps]
    q = [0.8 + (a - min(exponents)) / (max(exponents) - min(exponents)) * 0.4 for a in exponents]
    assert q[1] == pytest.approx(0.8 + 0.4 / 3)
    scale = 0.6 * sum(rows) / sum(r * share for r, share in zip(rows, q, strict=True))
    found = allocate("alpha", job_of(matrices, 0.6), eps=0.2, estimator="alpha_mid").sparsity
    assert list(found.values()) == pytest.approx([scale * share for share in q], rel=1e-4)


def test_alpha_averages_over_a_block_or_takes_every_matrix() -> None:
    """Blocks {0.1, 0.2}, {0.4, zeros}, {zeros}: means 2.67, 1.56, and the mean of both for the last."""
    layout = [(0, 0.1), (0, 0.2), (1, 0.4), (1, None), (2, None)]
    matrices = [
        of_spectrum(geometric(step, 20) if step else np.zeros(20), 20, block, seed=n)
        for n, (block, step) in enumerate(layout)
    ]
    job = job_of(matrices, 0.5)
    by_block = list(allocate("alpha", job, eps=0.2, estimator="alpha_mid").sparsity.values())
    scale = 0.5 * 5 / (1.2 * 2 + 0.8 * 2 + 1.0)
    assert by_block == pytest.approx([scale * q for q in (1.2, 1.2, 0.8, 0.8, 1.0)], rel=1e-4)
    by_layer = list(allocate("alpha", job, eps=0.2, estimator="alpha_mid", granularity="layer").sparsity.values())
    middle = 0.8 + 0.4 * (sum((1 + 2 / 0.9, 1 + 1 / 0.9, 1 + 0.5 / 0.9)) / 3 - 1 - 0.5 / 0.9) / (1.5 / 0.9)
    q = [1.2, 0.8 + 0.4 / 3, 0.8, middle, middle]
    assert by_layer == pytest.approx([0.5 * 5 / sum(q) * share for share in q], rel=1e-4)


def test_alpha_beyond_the_cap_is_capped_at_the_exact_mean() -> None:
    matrices = [of_spectrum(geometric(step, 20), 20, block) for block, step in enumerate((0.1, 0.2, 0.4))]
    job = job_of(matrices, 0.9)
    found = allocate("alpha", job, eps=0.4)
    assert max(found.sparsity.values()) == CAP
    assert mean_of(job, found) == pytest.approx(0.9, rel=1e-9)
