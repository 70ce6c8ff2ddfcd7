"""Charts of a page: what they are given is in them, and a reader who cannot see them has the numbers."""

import json

from reports.charts.block_map import chart_blocks, map_chart, spoken_blocks
from reports.charts.parts import chart_parts, parts_chart, spoken_parts
from reports.charts.tradeoff import chart_points, spoken_points, tradeoff_chart
from reports.paper import told_columns
from reports.render.data import chart_columns, fields, packed
from reports.render.facets import FACETS, Facets
from reports.sections.where_time_goes import MAP, alike_parts
from reports.tables.blocks import block_table
from reports.tables.layers import headline_table
from reports.tables.parts import part_table
from reports.tables.sums import checked
from reports.tables.tradeoff import tradeoffs
from tests.reports.samples import dense, frame, measured, quality_frame, row


def blocks() -> list[dict]:
    return [row(100, 40 + 10 * b, layer=f"{b}.{role}", block=b, role=role) for b in range(3) for role in ("q", "up")]


def test_every_column_that_a_chart_reads_is_there():
    made = checked(frame(blocks()))
    pairs = (
        (chart_parts(part_table(made)), parts_chart),
        (chart_blocks(block_table(made)), map_chart),
    )
    for lines, chart in pairs:
        spec = chart(lines)
        assert fields(spec) <= set(lines.columns)
        assert set(told_columns(spec)) <= set(chart_columns(spec, lines))
        assert "http" not in json.dumps(spec)


def test_texts_have_the_numbers():
    made = checked(frame(blocks()))
    assert spoken_blocks(chart_blocks(block_table(made))) == (
        "Speedup by block and role: wanda 2:4: 1.67x (q of block 2) to 2.50x (q of block 0)."
    )
    assert spoken_parts(chart_parts(part_table(made))).startswith(
        "Mean cycles per layer of each role: q, wanda 2:4 2.00x, 50; up, wanda 2:4 2.00x"
    )


def test_bars_that_are_all_equal_are_a_sentence():
    equal = chart_parts(part_table(checked(frame(blocks()))))
    assert alike_parts(equal) == "every role gains 2.00x with every run, made of ideal compute 100.0 %."
    other = [*blocks(), row(100, 90, layer="o", role="o", block=3)]
    assert alike_parts(chart_parts(part_table(checked(frame(other))))) == ""
    assert MAP._words(chart_blocks(block_table(checked(frame([row(100, 50)]))))).startswith("one block alone")


def test_points_have_bands_and_fronts_on_each_machine():
    rows = [
        {**row(100, us, method=m, seed=s), "target_sparsity": 0.5} for m, us in (("a", 50), ("b", 80)) for s in (0, 1)
    ]
    rows[1] |= {"cycles": 60, "latency_us": None, "speedup": 100 / 60}
    known = quality_frame(
        dense(10.0), *(measured(m, "2:4", p + s, s) for m, p in (("a", 12), ("b", 14)) for s in (0, 1))
    )
    points = chart_points(tradeoffs(headline_table(frame(rows), known)))
    of_a = points[points["method"] == "a"].iloc[0]
    assert of_a["speedup_low"] < of_a["speedup"] == 200 / 110 < of_a["speedup_high"]
    assert points.loc[points["method"] == "b", "front"].tolist() == [False]
    assert "a 2:4 on vitcod, 1 token 1.82x" in spoken_points(points)
    assert '"speedup_low"' in json.dumps(tradeoff_chart(points))


def test_facets_number_values_as_they_come_and_leave_the_unpruned_alone():
    facets = Facets()
    lines = frame([row(1, 1, method="a"), row(1, 1, method="dense"), row(1, 1, method="b", tokens=512, pattern="x")])
    assert facets.of_lines(lines) == ["0,0,0,0,0", "0,0,,,0", "0,0,1,1,1"]
    assert dict(zip(FACETS, facets.values, strict=True))["phase"] == ["decode", "prefill"]
    assert facets.codes(lines[["layer"]]) == [None] * 5


def test_equal_data_give_equal_letters():
    assert packed({"a": [1.5, None, "µ"]}) == packed({"a": [1.5, None, "µ"]})
