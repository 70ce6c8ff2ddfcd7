"""Layers that are products of factors: in bundles, as linears, and their rows against the unpruned layer, once."""

import json

import numpy as np
import pytest

from simulator.simulate import rows_on
from simulator.targets import find_target
from workloads.bundle import BundleHeader, MaskBundle
from workloads.bundle_writer import BundleWriter
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.factors import Factors
from workloads.layers import Layer
from workloads.mask import PackedMask
from workloads.operations import Linear, linears_of, without_mask
from workloads.patterns import DENSE, FACTORED
from workloads.unpruned import rows_against_unpruned

UP = Layer("model.layers.1.mlp.up_proj", "up", 1, 96, 64)
Q = Layer("model.layers.1.self_attn.q_proj", "q", 1, 64, 64)
SHUFFLED = Factors((2, 16, 32), (2, 48, 16))
CHAINS = [Factors((1, 20, 64), (1, 96, 20)), Factors((4, 4, 16), (1, 96, 16)), SHUFFLED]


def written(folder, factors: Factors = SHUFFLED) -> MaskBundle:
    draw = np.random.default_rng(0)
    writer = BundleWriter(folder, BundleHeader("m", "blockshuffle", FACTORED, target_sparsity=0.5))
    writer.add(Q, PackedMask.dense(64, 64), DENSE)
    pair = zip(("first", "second"), (factors.first, factors.second), strict=True)
    writer.add_factored(UP, factors, {f"{name}-float16": draw.normal(size=size).astype("f2") for name, size in pair})
    return writer.finish()


def test_a_bundle_keeps_factors_and_counts_their_weights(tmp_path):
    made = written(tmp_path)
    made.validate()
    assert json.loads((tmp_path / "bundle.json").read_text())["version"] == 6
    again = MaskBundle.open(tmp_path)
    entry = again.entry(UP.name)
    assert (entry.factors, entry.pattern, entry.nnz) == (SHUFFLED, FACTORED, 2 * 16 * 32 + 2 * 48 * 16)
    assert again[UP.name].nnz == 96 * 64
    assert again.treated_sparsity == entry.sparsity == 1 - entry.nnz / (96 * 64)
    assert again.sparsity == pytest.approx(1 - (64 * 64 + entry.nnz) / (64 * 64 + 96 * 64))
    assert {kind: tensor.shape for kind, tensor in again.values(UP.name).items()} == {
        "first-float16": (2, 16, 32), "second-float16": (2, 48, 16),
    }  # fmt: skip


def test_bundles_without_factors_stay_of_the_version_they_were(tmp_path):
    writer = BundleWriter(tmp_path, BundleHeader("m", "wanda"))
    writer.add(Q, PackedMask.dense(64, 64), DENSE)
    writer.finish()
    content = json.loads((tmp_path / "bundle.json").read_text())
    assert content["version"] == 3
    assert "factors" not in content["layers"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nnz": 7}, "does not fit together"),
        ({"factors": None}, "does not fit together"),
        ({"pattern": "dense"}, "does not fit together"),
        ({"out_features": 95}, "does not fit together"),
        ({"factors": {"first": [2, 16, 32], "second": [2, 48, 15]}}, "2 x 16 x 32 and 2 x 48 x 15 weights do not fit"),
        ({"factors": {"first": [1, 3, 64], "second": [3, 32, 1]}}, "does not fit together"),
        ({"factors": {"first": [2, 16], "second": [2, 48, 16]}}, "layers.1.factors.first"),
    ],
)
def test_factors_that_do_not_fit_are_told(tmp_path, change, message):
    written(tmp_path)
    file = tmp_path / "bundle.json"
    content = json.loads(file.read_text())
    content["layers"][1] |= change
    content["sha256"] = ""
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        MaskBundle.open(tmp_path)


def test_blocks_that_cannot_be_shuffled_are_told():
    with pytest.raises(UserError, match="2 blocks cannot share the 3 outputs of each block of the first factor"):
        Factors((2, 3, 8), (2, 8, 3))


def test_a_writer_refuses_factors_of_another_shape(tmp_path):
    writer = BundleWriter(tmp_path, BundleHeader("m", "lowrank", FACTORED))
    with pytest.raises(UserError, match=r"1 x 16 x 32|do not make weights of shape \(64, 64\)"):
        writer.add_factored(Q, SHUFFLED, {})


def rows_of(target: str, operations, density: float = 1.0) -> list:
    return list(rows_on([find_target(target)], BundleHeader("m", "x"), operations, Conditions(40, density)))


ADDED = ("cycles", "compute_cycles", "stall_cycles", "latency_us", "energy_pj", "weight_bytes", "activation_bytes")


@pytest.mark.parametrize("target", ["systolic", "vitcod", "sparten", "a100-pcie"])
@pytest.mark.parametrize("factors", CHAINS, ids=lambda factors: factors.words)
def test_a_layer_costs_what_its_parts_cost_as_layers_of_their_own(tmp_path, target, factors):
    """Against the unpruned layer's time, once."""
    _, up = linears_of(written(tmp_path, factors))
    (row,) = rows_of(target, [up])
    alone = [(count, rows_of(target, [plain(rows, cols)])[0]) for count, rows, cols in (factors.first, factors.second)]
    for name in ADDED:
        if alone[0][1].get(name) is not None:
            assert row[name] == pytest.approx(sum(count * part[name] for count, part in alone)), name
    (dense,) = rows_of(target, [plain(96, 64)])
    for own, name in (("dense_cycles", "cycles"), ("dense_latency_us", "latency_us"), ("dense_energy_pj", "energy_pj")):
        if name in dense:
            assert row[own] == dense[name]
    assert row["speedup"] == pytest.approx(dense["latency_us"] / row["latency_us"])
    assert (row["out_features"], row["in_features"], row["nnz"]) == (96, 64, factors.n_weights)
    assert row["sparsity"] == 1 - factors.n_weights / (96 * 64)
    assert f"{factors.first[0]} x {factors.first[1]} x {factors.first[2]}: " in row["mapping"]
    if "energy_pj" in row:
        assert row["edp_pj_us"] == row["energy_pj"] * row["latency_us"]
        assert row["energy_ratio"] == dense["energy_pj"] / row["energy_pj"]


def plain(rows: int, cols: int) -> Linear:
    """A dense layer that has nothing to do with factors."""
    return Linear("other", "up", 1, rows, cols, without_mask(DENSE, rows * cols)).before()


def test_what_a_factor_gives_is_dense(tmp_path):
    """On a design that skips zero inputs, only the first factor meets them."""
    factors = CHAINS[0]
    _, up = linears_of(written(tmp_path, factors))
    (row,) = rows_of("sparten", [up], 0.5)
    first = rows_of("sparten", [plain(20, 64)], 0.5)[0]["cycles"]
    second = rows_of("sparten", [plain(96, 20)])[0]["cycles"]
    assert row["cycles"] == first + second
    assert row["activation_density"] == 0.5


def test_a_factor_that_does_not_fit_is_a_row_with_its_reason(tmp_path):
    _, up = linears_of(written(tmp_path))
    machine = find_target("systolic", ["buffers.weight_kib=0.01"])
    (row,) = rows_on([machine], BundleHeader("m", "x"), [up], Conditions(40))
    assert not row["feasible"]
    assert row["reason"].startswith("its factor of 16 x 32: ")


class Recorded:
    """Knows some shapes alone, and gives as many rows of each as it is told."""

    name, executes = "card", (Linear,)

    def __init__(self, shapes):
        self.shapes = shapes

    def supports(self, operation):
        return None if (operation.out_features, operation.in_features) in self.shapes else "no such shape"

    def rows(self, header, operation, conditions, gathered):
        many = self.shapes[operation.out_features, operation.in_features]
        return [{"settings": f"kernel={n}", "feasible": True, "reason": "", "latency_us": 1.0} for n in range(many)]


def test_records_must_hold_every_shape_that_runs(tmp_path):
    _, up = linears_of(written(tmp_path))
    shapes = {(96, 64): 2, (16, 32): 2, (48, 16): 2}
    given = BundleHeader("m", "x"), up, Conditions(40), None
    rows = rows_against_unpruned(Recorded(shapes), *given)
    assert [(row["settings"], row["latency_us"], row["speedup"]) for row in rows] == [
        ("kernel=0", 4.0, 0.25), ("kernel=1", 4.0, 0.25),
    ]  # fmt: skip
    for missing in shapes:
        with pytest.raises(UserError, match="card: no such shape"):
            rows_against_unpruned(Recorded({key: n for key, n in shapes.items() if key != missing}), *given)
    for changed, message in (((16, 32), "of one factor than of the other"), ((96, 64), "of the unpruned layer")):
        with pytest.raises(UserError, match=message):
            rows_against_unpruned(Recorded(shapes | {changed: 1}), *given)
