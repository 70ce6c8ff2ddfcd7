"""The contract of every accelerator: closed form of a full mask, functional twin, laws, edges, energy."""

import importlib
import pkgutil
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import validation.twins as twins
from simulator.accelerators import ACCELERATORS, Accelerator
from simulator.accelerators.granular import GranularAccelerator
from simulator.cycles import Infeasible, Outcome
from simulator.engine import run
from simulator.simulate import evaluate, open_target, simulate_layers
from simulator.statistics import Statistics, StatisticsStore
from validation.twins import engine
from validation.twins.case import Case
from workloads import BundleHeader, PackedMask
from workloads.bundle import LayerEntry
from workloads.conditions import Conditions
from workloads.operations import Linear, linear_of
from workloads.refusals import Refusal
from workloads.rows import to_frame

CASES: dict[str, Case] = {}
for module in pkgutil.iter_modules(twins.__path__):
    case = getattr(importlib.import_module(f"validation.twins.{module.name}"), "CASE", None)
    if case is not None:
        CASES[case.name] = case

ROOMY = [
    "buffers.weight_kib=65536",
    "buffers.index_kib=65536",
    "buffers.activation_kib=65536",
    "buffers.output_kib=65536",
]
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
small_sets = [(case, sets) for case in CASES.values() for sets in case.sets]
every_machine = pytest.mark.parametrize(
    ("case", "sets"), small_sets, ids=[f"{c.name}-{c.sets.index(s)}" for c, s in small_sets]
)
quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def target_of(case: Case, sets: tuple[str, ...] = (), extra: tuple[str, ...] | list[str] = ()) -> Accelerator:
    return open_target(case.name, [*sets, *extra])


def layer_of(kept: np.ndarray, weight_bits: int | None = None, group_size: int | None = None, values=None) -> Linear:
    mask = PackedMask.from_dense(kept)
    entry = LayerEntry(
        "l", "q", 0, mask.rows, mask.cols, "unstructured", mask.nnz, weight_bits, mask.sha256(), "", group_size
    )
    return linear_of(entry, lambda: mask, (lambda: values) if values else dict)


def outcome(
    target: Accelerator, kept: np.ndarray, tokens: int, case: Case | None = None, density: float = 1.0
) -> Outcome:
    bits = 8 if target.reads_values else None
    values = codes_of(np.where(kept, 77, 0)) if target.reads_values else None
    return evaluate(target, layer_of(kept, bits, None, values), Conditions(tokens, density), StatisticsStore())


def codes_of(weights: np.ndarray) -> dict[str, np.ndarray]:
    """8-bit codes of integers in -128..127, one a byte, with zero points of 128."""
    rows = len(weights)
    return {
        "codes": (weights + 128).astype(np.uint8),
        "scale": np.ones((rows, 1), np.float32),
        "zero": np.full((rows, 1), 128, np.uint8),
    }


def assert_says_the_way_out(refusal: Refusal) -> None:
    """What is needed and what there is, and a key of the machine to change."""
    if refusal.need:
        assert refusal.need > refusal.bound
        assert refusal.unit
    assert refusal.where
    assert re.search(r"[a-z]+\.[a-z_*]+", f"{refusal.resource} {refusal.way_out}"), refusal


def random_mask(rows: int, cols: int, density: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, cols)) < density


shapes = st.tuples(
    st.integers(1, 40), st.integers(1, 150), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), st.integers(0, 10**6)
)


def test_every_cycle_model_has_a_case():
    missing = {name for name, model in ACCELERATORS.items() if model.level == "cycle"} - set(CASES)
    assert {name for name in missing if not name.startswith("tpu")} == set()  # presets of systolic


@every_machine
@given(shape=shapes, tokens=st.integers(1, 9))
@quick
def test_full_mask_takes_the_closed_form(case, sets, shape, tokens):
    rows, cols = shape[0], max(shape[1], 16)  # so wide that a full mask follows no N:M by accident
    target = target_of(case, sets, ROOMY)
    found = outcome(target, np.ones((rows, cols), bool), tokens)
    taken = (found.sparse.mapping,) if case.arranged else ()
    assert found.sparse.compute_cycles == case.dense_compute(target.spec, rows, cols, tokens, *taken)
    assert found.dense.compute_cycles == found.sparse.compute_cycles or case.name in ("bitwave", "stripes")


@every_machine
@given(shape=shapes, tokens=st.integers(1, 9), data=st.data())
@quick
def test_twin_agrees_to_the_cycle_and_byte(case, sets, shape, tokens, data):
    rows, cols, density, seed = shape
    rng = np.random.default_rng(seed)
    target = target_of(case, sets)
    reads_values = target.reads_values
    weight_bits, group_size = (8, None) if reads_values else data.draw(st.sampled_from(case.weight_bits))
    kept = random_mask(rows, cols, density, seed)
    if case.follows and seed % 2:
        kept = case.follows(kept)
    weights = rng.integers(-9, 10, (rows, cols))
    weights = np.where(kept, np.where(weights == 0, 3, weights), 0)
    inputs = rng.integers(-9, 10, (tokens, cols))
    layer = layer_of(kept, weight_bits, group_size, codes_of(weights) if reads_values else None)
    try:
        found = evaluate(target, layer, Conditions(tokens), StatisticsStore()).sparse
    except Infeasible as error:
        assert_says_the_way_out(error.refusal)
        return
    if not case.granules:
        assert case.run_layer
        taken = (found.mapping,) if case.arranged else ()
        twin = case.run_layer(target.spec, weights, kept, inputs, *taken)
        assert found.compute_cycles == twin.cycles
    else:
        statistics = Statistics(target.gather(PackedMask.from_dense(kept), layer.weights.values))
        assert isinstance(target, GranularAccelerator)
        granules = target.granules(statistics)
        work = _work(layer, tokens)
        twin = engine.run_layer(
            case, target.spec, weights, kept, inputs, work, found.mapping, granules.granule, granules.stationary,
            granules.act_reads,
            granules.token_step,
        )  # fmt: skip
        assert found.compute_cycles == twin.compute_cycles
        assert found.cycles == twin.cycles
        assert found.transfer_cycles == twin.transfer_cycles
        for name in ("weight_bytes", "metadata_bytes", "scale_bytes", "activation_bytes", "output_bytes"):
            assert getattr(found, name) == getattr(twin, name), name
    assert np.array_equal(twin.outputs, inputs @ weights.T)
    assert np.array_equal(twin.uses, np.where(kept, tokens, 0))


def _work(layer: Linear, tokens: int):
    from simulator.work import Work

    weights = layer.weights
    return Work(layer.out_features, layer.in_features, weights.nnz, tokens, weights.weight_bits, weights.group_size)


@every_machine
@given(shape=shapes, tokens=st.integers(1, 9), fewer=st.floats(0, 1))
@quick
def test_more_zeros_never_add_compute_cycles_where_promised(case, sets, shape, tokens, fewer):
    if not case.fewer_is_faster:
        pytest.skip(f"{case.name} does not promise it; its docstring says why")
    rows, cols, density, seed = shape
    target = target_of(case, sets, ROOMY)
    kept = random_mask(rows, cols, density, seed)
    less = kept & random_mask(rows, cols, fewer, seed + 1)
    assert outcome(target, less, tokens).sparse.compute_cycles <= outcome(target, kept, tokens).sparse.compute_cycles


@every_machine
@given(shape=shapes, tokens=st.integers(1, 9))
@quick
def test_parts_sum_to_the_whole(case, sets, shape, tokens):
    rows, cols, density, seed = shape
    target = target_of(case, sets)
    try:
        found = outcome(target, random_mask(rows, cols, density, seed), tokens)
    except Infeasible:
        return
    for layer in (found.sparse, found.dense):
        assert layer.cycles == layer.compute_cycles + layer.stall_cycles
        assert 0 <= layer.buffer_cycles <= layer.stall_cycles
        assert layer.cycles >= max(layer.compute_cycles, layer.transfer_cycles)
        assert layer.compute_cycles >= layer.ideal_cycles - 1e-6
        parts = (
            layer.weight_bytes,
            layer.metadata_bytes,
            layer.scale_bytes,
            layer.activation_bytes,
            layer.output_bytes,
        )
        assert layer.total_bytes == sum(parts)
        assert min(parts) >= 0
        assert layer.actions
        assert layer.actions.dram_bits == 8 * layer.total_bytes
        assert layer.actions.macs + layer.actions.idle_macs == pytest.approx(
            max(layer.compute_cycles * target.spec.macs, layer.actions.macs), rel=1e-9
        )
    layer, stream = found.sparse, found.sparse.stream
    assert stream
    assert run(stream, target.spec.buffers.double) == layer.cycles
    assert stream.total(stream.load) + stream.total(stream.store) == layer.transfer_cycles


@every_machine
@pytest.mark.parametrize(
    "better",
    ["dram.bandwidth_gbps", "buffers.weight_kib", "buffers.activation_kib", "buffers.output_kib", "buffers.index_kib"],
)
@given(shape=shapes, tokens=st.integers(1, 9))
@settings(max_examples=6, deadline=None)
def test_more_bandwidth_or_buffer_is_never_slower(case, sets, better, shape, tokens):
    rows, cols, density, seed = shape
    kept = random_mask(rows, cols, density, seed)
    target = target_of(case, sets)
    section, key = better.split(".")
    value = getattr(getattr(target.spec, section), key)
    try:
        before = outcome(target, kept, tokens).sparse.cycles
    except Infeasible:
        return
    after = outcome(target_of(case, sets, [f"{better}={2 * value}"]), kept, tokens).sparse.cycles
    assert after <= before * (1 + 1 / 64)


@every_machine
@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (3, 65), (64, 64)])
@pytest.mark.parametrize("fill", ["none", "one", "all"])
def test_edge_masks_run(case, sets, shape, fill):
    kept = np.full(shape, fill == "all")
    kept[-1, -1] = fill != "none"
    target = target_of(case, sets, ROOMY)
    for tokens in (1, 7):
        found = outcome(target, kept, tokens)
        assert found.sparse.cycles >= 0
        assert found.dense.cycles > 0


@every_case
def test_broken_pattern_is_named(case):
    if case.follows is None:
        pytest.skip(f"{case.name} takes any mask")
    target = target_of(case, (), ROOMY)
    kept = random_mask(64, 128, 0.9, 3)
    try:
        found = outcome(target, kept, 1)
    except Infeasible as error:
        assert_says_the_way_out(error.refusal)
        return
    followed = outcome(target, case.follows(kept), 1)
    assert found.sparse.mapping.split(",")[0] != followed.sparse.mapping.split(",")[0]


@every_case
def test_defaults_make_whole_rows_with_energy(case, tmp_path: Path):
    target = target_of(case)
    kept = random_mask(96, 192, 0.5, 1)
    reads = target.reads_values
    layer = layer_of(kept, 8 if reads else None, None, codes_of(np.where(kept, 5, 0)) if reads else None)
    store = StatisticsStore(tmp_path / "statistics")
    first = list(simulate_layers([target], BundleHeader("m", "x"), [layer], Conditions(3), store))
    blind = replace(
        layer, weights=replace(layer.weights, mask=_unreadable, values=_unreadable)
    )  # what lies on disk is enough
    again = list(
        simulate_layers(
            [target],
            BundleHeader("m", "x"),
            [blind],
            Conditions(3),
            StatisticsStore(tmp_path / "statistics"),
            threads=1,
        )
    )
    assert first == again
    row = to_frame(first, extra=target.columns).iloc[0]
    assert row["feasible"], row["reason"]
    parts = row[["mac_pj", "idle_pj", "register_pj", "buffer_pj", "dram_pj"]]
    assert row["energy_pj"] == pytest.approx(parts.sum())
    assert (parts >= 0).all()
    assert row["edp_pj_us"] == pytest.approx(row["energy_pj"] * row["latency_us"])
    assert row["area_mm2"] > 0
    assert 0 < row["utilisation"] <= 1


def _unreadable():
    raise AssertionError("read although the statistics are there")


@every_case
def test_one_address_one_line_of_documentation(case):
    model = ACCELERATORS[case.name]
    assert "Deviations and approximations:" in model.documentation
    assert model.notes
    assert all(note.endswith(".") for note in model.notes)
