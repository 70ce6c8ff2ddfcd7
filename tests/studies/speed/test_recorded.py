"""Pruning for a speed by a record of measured times: the sum of the linears, as the record has them."""

import json
from pathlib import Path

import numpy as np
import pytest

from checkpoints.catalog import resolve_config
from checkpoints.catalog_layers import linears_of
from checkpoints.decoders import decoder_of
from measurement.records import Record, to_frame, write_record
from studies.speed.costs import Machine, cost_table
from studies.speed.recorded import means_record
from tests.measurement.test_by_density import case
from tests.studies.speed.conftest import LEAST, prune, saved
from workloads.bundle import MaskBundle
from workloads.choices import choices_of
from workloads.cost_table import CostTable
from workloads.errors import UserError
from workloads.phases import decode, prefill

SHAPES = {(32, 32): 4, (64, 32): 2, (32, 64): 1}  # how many a block has


def time_of(rows: int, cols: int, density: float) -> float:
    """Half of the dense time is spent whatever is kept, from three quarters on."""
    return rows * cols / 100 * (1.0 if density == 1 else 0.5 + 0.5 * density / 0.75)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = saved(tmp_path_factory.mktemp("models") / "small", LEAST, 16)
    cases = []
    for rows, cols in SHAPES:
        sizes = {"out_features": rows, "in_features": cols}
        cases += [case("dense", time_of(rows, cols, 1), **sizes)]
        cases += [case("csr", time_of(rows, cols, d), "unstructured", d, **sizes) for d in (0.75, 0.25)]
    header = {"source": {}, "environment": {"cpu": "Chip"}, "model": "small", "layers": [], "conditions": {}}
    write_record(folder / "record.csv", Record(header, to_frame(cases)))
    return folder


QUICK = ("--searches", "0", "--errors", "output")


def test_a_table_of_a_record_is_its_times(model: Path) -> None:
    decoder = decoder_of(LEAST.to_dict())
    layers = linears_of(resolve_config(str(model))[1])
    machine = Machine.open(str(model / "record.csv"))
    table = cost_table(decoder, layers, machine, decode(1, 8), choices_of(["unstructured", "bits:4"], levels=8))
    assert table.fixed == pytest.approx(0, abs=1e-9)
    for unit, row in zip(table.units, table.costs, strict=True):
        rows, cols = next(layer.shape for layer in layers if layer.name == unit.layers[0])
        assert len(unit.layers) == 1
        for choice, cost in zip(table.choices, row, strict=True):
            if choice.bits:
                assert np.isnan(cost)  # it has no such kernel
            else:
                kept = max(1 - choice.zeros, 0.25)  # sparser than measured: as the sparsest measured
                expected = time_of(rows, cols, kept if kept <= 0.75 else 1.0)
                assert cost == pytest.approx(expected, rel=1e-3)
    assert table.facts["source"] == "measured"
    assert "densities 0.25 0.75 interpolated" in table.facts["settings"]
    with pytest.raises(UserError, match="has 32 x 32 at 1 tokens, not at 16"):
        cost_table(decoder, layers, machine, prefill(1, 16), choices_of(["unstructured"]))
    with pytest.raises(UserError, match="holds times alone; choose us, flop or parameters"):
        cost_table(decoder, layers, machine, decode(1, 8), choices_of(["unstructured"]), "energy_pj")


def test_the_speed_is_met_by_the_record(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "masks"
    record = str(model / "record.csv")
    assert prune(model, out, *QUICK, "--speedup", 1.25, "--on", record, "--context", 8, "--levels", 8) == 0
    said, met = capsys.readouterr().err, json.loads((out / "speed.json").read_text())["met"]
    spent = 0.0
    for entry in MaskBundle.open(out).layers:
        kept = max(0.25, entry.nnz / entry.layer.n_weights)
        spent += time_of(*entry.layer.shape, kept if kept <= 0.75 else 1.0)
    dense = 2 * sum(number * time_of(*shape, 1.0) for shape, number in SHAPES.items())
    assert met["final"] >= 1.25
    assert met["final"] == pytest.approx(dense / spent)
    assert met["unpruned_us"] == pytest.approx(dense) == CostTable.read(out / "costs.json").dense
    assert "times are of a record: linears alone, fp32, l2=cold; masks between the measured densities" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--speedup", 1.2, "--on", "none.csv"), "no such record: none.csv"),
        (("--speedup", 1.2, "--phase", "prefill", "--prompt", 8), "has 32 x 32 at 1 tokens, not at 8"),
        (("--speedup", 1.1, "--also", "bytes:1.2"), "holds times alone"),
        (("--speedup", 9), "cannot be reached"),
    ],
)
def test_what_a_record_lacks_is_one_line(model: Path, tmp_path: Path, capsys, arguments, message: str) -> None:
    where = () if "--on" in arguments else ("--on", model / "record.csv")
    assert prune(model, tmp_path / "masks", *QUICK, *where, *arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_names_of_machines_mean_no_record(tmp_path: Path) -> None:
    assert means_record("slidesparse-a100-pcie")
    assert means_record("some.parquet")
    assert not means_record("vitcod")
    assert not means_record("chip.toml")
