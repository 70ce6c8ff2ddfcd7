"""Targets, conditions, statistics on disk, and what rows owe to each."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from simulator.accelerators import ACCELERATORS
from simulator.accelerators.named import open_accelerator
from simulator.simulate import simulate_layers
from simulator.statistics import StatisticsStore
from studies.designs import combined, open_targets, parse_sweep
from workloads import BundleHeader, PackedMask
from workloads.bundle import LayerEntry
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.operations import Linear, linears_in_memory

HEADER = BundleHeader("m", "x")


def layer_of(kept: np.ndarray, name: str = "l", bits: int | None = None) -> Linear:
    mask = PackedMask.from_dense(kept)
    entry = LayerEntry(name, "q", 0, *mask.shape, "unstructured", mask.nnz, bits, mask.sha256(), "")
    (layer,) = linears_in_memory([(entry, mask)])
    return layer


def random_mask(rows: int, cols: int, density: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, cols)) < density


def row_of(name: str, kept: np.ndarray, sets: list[str] | None = None, tokens: int = 4, density: float = 1.0) -> dict:
    conditions = Conditions(tokens, density)
    (row,) = simulate_layers([open_accelerator(name, sets or [])], HEADER, [layer_of(kept, bits=8)], conditions)
    return row


def test_a_named_dram_brings_its_own_energy():
    """Bytes x 8 x the device's published pJ a bit (HBM2 6.25, HBM3 4.05), whatever energy.dram said of the generic one
    before."""
    kept = random_mask(64, 256, 0.5)
    for device, pj in (("HBM2", 6.25), ("HBM3", 4.05)):
        design = open_accelerator("vitcod", ["energy.dram=DDR4-3200"]).changed(f"dram.device={device}")
        (row,) = simulate_layers([design], HEADER, [layer_of(kept, bits=8)], Conditions(4))
        parts = ("weight_bytes", "metadata_bytes", "scale_bytes", "activation_bytes", "output_bytes")
        assert row["dram_pj"] == pytest.approx(8 * pj * sum(row[part] for part in parts))
        assert row["dense_dram_pj"] == pytest.approx(8 * pj * row["dense_bytes"])
        of_dense = [row[f"dense_{name}_pj"] for name in ("mac", "idle", "register", "buffer", "dram")]
        assert row["dense_energy_pj"] == pytest.approx(sum(of_dense))


@pytest.mark.parametrize("name", [name for name, model in ACCELERATORS.items() if model.level == "cycle"])
def test_zero_inputs_change_nothing_where_they_are_multiplied(name):
    if ACCELERATORS[name].reads_values:
        pytest.skip("needs weight values; test_bitserial.py")
    kept = random_mask(96, 256, 0.5)
    dense, sparse = (row_of(name, kept, density=density) for density in (1.0, 0.3))
    assert sparse["activation_density"] == 0.3
    if ACCELERATORS[name].skips_zero_inputs:
        assert sparse["energy_pj"] < dense["energy_pj"]
    else:
        assert {**sparse, "activation_density": 1.0} == dense


@pytest.mark.parametrize("name", ["sparten", "stc", "dstc", "highlight", "vegeta"])
def test_near_equals_are_settled_by_bytes(name):
    """A token more or less moves about as many bytes: the mapping does not hang on chance among near-equal
    candidates."""
    kept = np.tile([True, True, False, False], (256, 128))
    moved = [row_of(name, kept, tokens=tokens)["dense_bytes"] for tokens in (254, 256, 258)]
    assert max(moved) < 1.5 * min(moved)


def test_statistics_of_another_layer_are_not_taken(tmp_path: Path):
    folder = tmp_path / "statistics"
    layers = [layer_of(random_mask(64, 128, d, seed), f"l{seed}") for seed, d in enumerate((0.2, 0.8))]
    target, conditions = open_accelerator("sparten"), Conditions(3)

    def run() -> list[dict]:
        return list(simulate_layers([target], HEADER, layers, conditions, StatisticsStore(folder)))

    before = run()
    files = sorted(folder.iterdir())
    assert len(files) == 2
    for source, place in ((files[0], files[1]), (files[1], files[0])):
        shutil.copy(source, place)
        assert run() == before
    for content in (b"", b"not a file of tensors", files[0].read_bytes()[:-3]):
        files[0].write_bytes(content)
        assert run() == before


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path: Path):
    (tmp_path / "statistics").write_text("a file where the folder should be")
    layer = layer_of(random_mask(8, 64, 0.5))
    store = StatisticsStore(tmp_path / "statistics")
    (row,) = simulate_layers([open_accelerator("stc")], HEADER, [layer], Conditions(1), store)
    assert row["feasible"]


@pytest.mark.parametrize("sets", [["clock.mhz=1e300"], ["dram.bandwidth_gbps=1e-300"], ["buffers.weight_kib=1e300"]])
def test_numbers_beyond_any_machine_are_refused(sets):
    with pytest.raises(UserError, match=sets[0].partition("=")[0]):
        open_accelerator("stc", sets)


def test_more_cycles_than_fit_are_refused():
    sets = ["clock.mhz=100000", "dram.bandwidth_gbps=0.001"]
    with pytest.raises(UserError, match="fewer tokens"):
        row_of("stc", np.ones((4096, 4096), bool), sets, tokens=10**9)


def test_designs_of_a_sweep():
    sweeps = ["array.width=32:64:x2", "engines.dense_thresholds=[1.0],[1.0, 0.5]"]
    targets = open_targets("vitcod", ["clock.mhz=400"], [parse_sweep(sweep) for sweep in sweeps])
    specs = [target.accelerator.spec for target in targets]
    found = [(spec.array.width, len(spec.engines.dense_thresholds)) for spec in specs]
    assert found == [(32, 1), (32, 2), (64, 1), (64, 2)]
    assert all(spec.clock.mhz == 400 for spec in specs)
    assert len({t.settings for t in targets}) == 4
    for choices, said in (
        ([[]], "without values"),
        ([["array.width=1"], ["array.width=2"]], "swept twice"),
        ([["array.width=1", "array.width=1"]], "a value twice"),
    ):
        with pytest.raises(UserError, match=said):
            combined("vitcod", [], choices)


@pytest.mark.parametrize(("tokens", "density"), [(0, 1.0), (10**9 + 1, 1.0), (1, 0.0), (1, 1.5), (1, float("nan"))])
def test_conditions_out_of_range(tokens, density):
    with pytest.raises(UserError):
        Conditions(tokens, density)


def test_where_only_the_masked_layer_fits_there_is_a_row_without_a_speedup():
    """64 x 64 weights of 4 bits are 2 KiB dense; 1 of 16 kept, an entry a column and PE at most, are 128 B in 1 KiB."""
    kept = np.zeros((64, 64), dtype=bool)
    kept[::16] = True
    row = row_of("eie", kept, ["array.pes=4", "buffers.weight_kib=1"])
    assert row["feasible"]
    assert min(row["cycles"], row["energy_pj"]) > 0
    assert row["reason"].startswith("no dense baseline, it does not fit: the fullest of 4 PEs, with 1,024 entries")
    assert not {"dense_cycles", "speedup", "dense_energy_pj", "energy_ratio", "dense_latency_us"} & set(row)
    roomy = row_of("eie", kept, ["array.pes=4", "buffers.weight_kib=2"])
    assert (roomy["cycles"], roomy["reason"]) == (row["cycles"], "")
    assert roomy["dense_cycles"] == 4 * 64 * 16 + roomy["dense_cycles"] - roomy["dense_compute_cycles"]
    # the smallest tile of vitcod is 64 x 64, too
    few = row_of("vitcod", kept, ["buffers.weight_kib=1", "engines.dense_thresholds=[1.0]"])
    assert few["feasible"]
    assert "no dense baseline" in few["reason"]
    assert "dense_cycles" not in few
