"""Settings of a target: in captions, in short, and never mixed; rows written before there were any."""

import pandas as pd
import pytest

from reports import headline_table, write_report
from reports.tables.sums import CONFIG, LATER, checked
from reports.words.naming import config_text
from reports.words.settings import common, parts_of, settings_tag, settings_text, shortened, swept_keys
from studies.report import constants_for, read_rows
from tests.reports.samples import frame, row, two_layers, two_powered
from workloads.errors import UserError

KEY = dict(zip(CONFIG, ("tiny", "stc", "", "cycle", "simulated", 512, 1.0), strict=True))


def test_settings_are_parted_at_keys_not_at_spaces():
    assert parts_of("a.b=1 c=[1, 2] dram.device=HBM2") == ["a.b=1", "c=[1, 2]", "dram.device=HBM2"]
    assert parts_of("") == []


def test_long_settings_are_cut_at_a_part_and_get_a_tag_of_all_of_them():
    assert settings_text("a=1 b=2", width=7) == "a=1 b=2"
    long = "a=1 b=2 c=3"
    assert settings_text(long, width=7) == f"a=1 b=2 and 1 more (settings {settings_tag(long)})"
    assert settings_text("a=123456789", width=7) == f"settings {settings_tag('a=123456789')}"
    assert settings_tag(long) != settings_tag("a=1 b=2 c=4")


def test_what_all_designs_share_is_left_out_of_their_names():
    settings = ["array.rows=8 dram.gbps=1", "array.rows=8 dram.gbps=2", "array.rows=8 dram.gbps=2 x.y=3"]
    assert common(pd.Series(settings)) == "array.rows=8"
    assert list(shortened(settings).values()) == ["gbps=1", "gbps=2", "gbps=2 y=3"]
    assert swept_keys(pd.Series(settings)) == ["dram.gbps", "x.y"]
    # With the sections gone, these two would be one.
    assert list(shortened(["a.rows=8", "b.rows=8", ""]).values()) == ["a.rows=8", "b.rows=8", "preset"]


def test_captions_name_settings_and_activations_where_there_are_any():
    assert config_text(KEY) == "tiny, stc (cycle level), 512 tokens"
    other = {**KEY, "settings": "array.macs=2048", "activation_density": 0.25}
    assert config_text(other) == (
        "tiny, stc with array.macs=2048 (cycle level), 512 tokens, 25 % of activations nonzero"
    )


def test_every_setting_gets_its_figures_and_tables(tmp_path):
    rows = [r for s in ("", "array.width=8") for r in two_layers(settings=s)]
    written = write_report(frame(rows), None, tmp_path, "t", [])
    drawn = [name for name in written if name.endswith("cycles.svg")]
    assert drawn == [
        "figures/tiny-vitcod-1-tokens-cycles.svg",
        "figures/tiny-vitcod-array-width-8-1-tokens-cycles.svg",
    ]
    page = written["report.html"].read_text()
    assert "tiny, vitcod with array.width=8 (cycle level), 1 token" in page
    assert "sha256 s0, with array.width=8" in page


def test_a_double_row_is_refused_with_its_settings():
    with pytest.raises(UserError, match=r"on vitcod array\.width=8, 1 tokens"):
        headline_table(frame([row(1, 1, settings="array.width=8"), row(1, 1, settings="array.width=8")]))


def test_rows_of_earlier_versions_are_read_and_say_what_they_said(tmp_path):
    old = frame(two_layers()).drop(columns=list(LATER))
    old.to_csv(tmp_path / "old.csv", index=False)
    for rows in (old, read_rows(tmp_path / "old.csv")):
        made = checked(rows)
        assert made["settings"].tolist() == ["", ""]
        assert made["activation_density"].tolist() == [1.0, 1.0]
        assert headline_table(rows).speedup.item() == pytest.approx(400 / 350)
        assert "report.html" in write_report(rows, None, tmp_path / "out", "t", [])


def test_old_and_new_rows_of_one_configuration_stand_in_one_line(tmp_path):
    old, new = two_layers()
    new = {**new, "activation_density": 1.0, "settings": ""}
    assert len(headline_table(frame([old, new]))) == 1


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_rows_of_attention_are_refused_by_name(tmp_path, ending):
    path = tmp_path / f"rows.{ending}"
    table = pd.DataFrame([{"masks": "m", "layer": "0", "head_features": 64, "cycles": 1}])
    table.to_csv(path, index=False) if ending == "csv" else table.to_json(path, orient="records")
    with pytest.raises(UserError, match="rows of attention"):
        read_rows(path)


def test_constants_are_handed_in_where_rows_have_energies():
    assert constants_for(None) is None
    assert constants_for(frame(two_layers())) is None
    found = constants_for(frame(two_powered()))
    assert list(found.columns) == ["name", "value", "unit", "node_nm", "source"]
    assert (found["source"] != "").all()
