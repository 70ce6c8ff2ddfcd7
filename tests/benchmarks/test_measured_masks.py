"""Measured speedups of masks: what is asked of a CPU, and what is made of its times. None is taken here."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from measurement.records import TIMES, Record, to_frame, write_record
from workloads import UserError
from workloads.factors import Factors
from workloads.operations import Linear, without_mask
from workloads.uses import Use

ROOT = Path(__file__).parents[2]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "measured_masks", raising=False)
    import measured_masks

    return measured_masks


def linear(rows: int, cols: int, pattern: str, nnz: int, **others: Any) -> Linear:
    return Linear("a", "other", 0, rows, cols, without_mask(pattern, nnz), **others)


def test_a_masked_layer_runs_at_its_tokens_as_often_as_a_sample_asks(module):
    [layer] = module.layers_of([linear(4, 8, "unstructured", 24, use=Use(tokens=3, runs=5))], samples=16)
    shape = (48, 4, 8)
    assert layer == module.Layer(5, module.Product(shape), (module.Product(shape, 0.75),))


def test_what_is_smaller_gone_or_in_factors_runs_against_the_unpruned_layer(module):
    made = module.layers_of(
        [
            linear(4, 6, "smaller", 24, unpruned=(8, 8)),
            linear(8, 8, "gone", 0),
            linear(5, 8, "factored", 54, factors=Factors((2, 3, 4), (1, 5, 6))),
        ],
        samples=1,
    )
    assert [layer.before.shape for layer in made] == [(1, 8, 8), (1, 8, 8), (1, 5, 8)]
    assert [[product.shape for product in layer.after] for layer in made] == [
        [(1, 4, 6)],
        [],
        [(1, 3, 4), (1, 3, 4), (1, 5, 6)],
    ]
    assert {product.density for layer in made for product in layer.after} == {1.0}


def test_speedup_is_of_the_sums_of_times_by_runs(module):
    whole, half, small = module.Product((1, 4, 4)), module.Product((1, 4, 4), 0.5), module.Product((1, 2, 2))
    us = {whole: 10.0, half: 6.0, small: 1.0}.__getitem__
    layers = [
        module.Layer(3, whole, (half,)),
        module.Layer(1, whole, (small, small)),
        module.Layer(2, whole, ()),
    ]
    assert module.speedup(layers, us) == pytest.approx((3 + 1 + 2) * 10 / (3 * 6 + 2))


def case(kernel: str, us: float, pattern: str = "dense", density: float = 1.0, rows: int = 8) -> dict[str, Any]:
    return {
        "out_features": rows, "in_features": 8, "tokens": 2, "kernel": kernel, "dtype": "fp32", "pattern": pattern,
        "density": density, "compiled": "", "feasible": True, "reason": "", **dict.fromkeys(TIMES, us),
        "cold_samples_us": f"{9 * us} {9 * us}", "warm_samples_us": f"{us} {us}",
    }  # fmt: skip


def test_a_matrix_takes_the_least_of_its_kernels_warm_and_what_spreads_is_refused(module, tmp_path, monkeypatch):
    cases = [
        case("dense", 10.0), case("csr", 12.0, "unstructured", 0.5), case("csr", 8.0, "unstructured", 0.3),
        case("csr", 2.0, "unstructured", 0.1), case("dense", 3.0, rows=4), case("dense", 1.0, rows=2),
    ]  # fmt: skip
    header = {"source": {}, "environment": {"cpu": "Chip"}, "model": "m", "layers": [], "conditions": {}}
    write_record(tmp_path / "record.csv", Record(header, to_frame(cases)))
    asked = []

    def measure(shapes, kernels, folder):
        asked.append((shapes, kernels))
        return {(2, 2, 8)} & set(shapes)

    monkeypatch.setattr(module, "measure", measure)
    wanted = [module.Product((2, 8, 8)), *(module.Product((2, 8, 8), kept) for kept in (0.9, 0.5, 0.2, 0.05))]
    wanted += [module.Product((2, rows, 8)) for rows in (4, 2)]
    us = module.timed(wanted, tmp_path)
    assert [us(product) for product in wanted[:6]] == [10.0, 10.0, 10.0, pytest.approx(5.0), 2.0, 3.0]
    with pytest.raises(UserError, match="2 x 8 at 2 tokens spread too far"):
        us(wanted[6])
    assert asked == [([(2, 8, 8)], "csr"), ([(2, 2, 8), (2, 4, 8)], "")] * module.TRIES


def test_only_warm_times_that_spread_are_noisy(module, tmp_path, monkeypatch):
    import prunesim as ps

    frame = pd.DataFrame(
        {
            "tokens": [2, 2, 2], "out_features": [8, 4, 16], "in_features": [8, 8, 8],
            "reason": ["noisy: half of the warm times are ...", None, "noisy: of a shape that was not asked for"],
        }
    )  # fmt: skip
    given = {}
    monkeypatch.setattr(ps, "measure", lambda **settings: given.update(settings) or type("Rows", (), {"frame": frame}))
    assert module.measure([(2, 8, 8), (2, 4, 8)], "csr", tmp_path) == {(2, 8, 8)}
    assert (given["on"], given["l2"], given["kernels"], given["out"]) == ("cpu", "warm", "csr", tmp_path)
    assert module.measure([], "csr", tmp_path) == set()
