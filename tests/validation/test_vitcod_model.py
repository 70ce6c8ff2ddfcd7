"""A whole DeiT beside the published logs: which are read, and that the parts are the model."""

from pathlib import Path

import pytest

from validation.sources.vitcod_model import ALL, ATTENTION, LINEAR, WIDE, on_array, parts, read_linears
from workloads.errors import UserError

DEIT = Path(__file__).resolve().parents[3] / "shared" / "data" / "vitcod" / "deit_tiny_0.95"
needs_deit = pytest.mark.skipif(not DEIT.exists(), reason="ViTCoD's masks and logs are not here")


@needs_deit
def test_the_parts_of_a_whole_model():
    found = {part.name: part for part in parts(DEIT)}
    assert list(found) == [LINEAR, WIDE, ATTENTION, ALL]
    assert found[WIDE].log == found[WIDE].ideal == 12 * 2 * 197 * 192 * 768 / 512
    assert found[LINEAR].log == pytest.approx(found[LINEAR].ideal, rel=0.001)
    for name in (LINEAR, WIDE):  # dense: no faster than the MACs, and the array fills but for edges
        assert found[name].ideal <= found[name].cycles <= 1.02 * found[name].ideal
        assert found[name].cycles == found[name].dense_cycles
    assert found[ATTENTION].log == found[ATTENTION].paper == 9492
    few = [found[name] for name in (LINEAR, WIDE, ATTENTION)]
    assert found[ALL].log == sum(part.log for part in few)
    assert found[ALL].cycles == sum(part.cycles for part in few)
    assert found[ALL].dense_cycles == sum(part.dense_cycles for part in few)


def test_fewer_weights_take_fewer_cycles():
    (dense,), (half,) = (on_array([(192, 192)], 197, density, 0) for density in (1.0, 0.5))
    assert dense["cycles"] == dense["dense_cycles"] == half["dense_cycles"]
    assert dense["cycles"] / 2 <= half["cycles"] < dense["cycles"]


def test_the_last_run_of_a_log_counts(tmp_path):
    file = tmp_path / "vitcod_atten_ffn.txt"
    with pytest.raises(UserError, match="is absent"):
        read_linears(tmp_path)
    file.write_text("total linear cycles: 1\n")
    with pytest.raises(UserError, match="no complete run"):
        read_linears(tmp_path)
    file.write_text("total linear cycles: 1\ntotal ffn cycles: 2\ntotal linear cycles: 3\ntotal ffn cycles: 4\n")
    assert read_linears(tmp_path) == {LINEAR: 3, WIDE: 4}
