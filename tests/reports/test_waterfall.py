"""From the ideal speedup to the real one, by hand."""

import pytest

from reports.charts.waterfall import chart_steps, spoken_steps, waterfall_chart
from reports.contents import gather
from reports.limits import EXAMPLES, MOST_SERIES
from reports.section import Drawing
from reports.sections.where_time_goes import WATERFALL
from reports.tables.sums import checked
from reports.tables.waterfall import waterfall_table
from tests.reports.samples import barred, frame, kernel, row

BYTES = {"weight_bytes": 60, "metadata_bytes": 20, "scale_bytes": 0, "activation_bytes": 15, "output_bytes": 5}


def steps(*rows: dict):
    return waterfall_table(checked(frame(list(rows))))


def test_the_losses_lead_from_the_density_to_the_speedup():
    # Dense: 800 compute and 200 stalled cycles; half of the weights are kept, so 500 would be ideal. Masked: 450
    # compute (50 more than half), 250 stalled, of which 50 for buffers and 200 for DRAM, a fifth of them for the mask.
    made = row(1000, 700, stall=250, ideal=400, buffer_stall_cycles=50, dense_compute_cycles=800, **BYTES)
    table = steps(made)
    found = dict(zip(table["step"], table["end"], strict=True))
    assert found == {
        "ideal, 1 / density": 1000 / 500,
        "imbalance": pytest.approx(1000 / 550),
        "mask metadata": pytest.approx(1000 / 590),
        "waiting for buffers": pytest.approx(1000 / 640),
        "waiting for DRAM": pytest.approx(1000 / 700),  # 200 - 40 - half of 200
        "real": pytest.approx(1000 / 700),
    }
    assert table["lost_share"].sum() == pytest.approx(0.2)
    text = spoken_steps(chart_steps(table))
    assert "wanda 2:4: ideal 2.00x, after imbalance 1.82x" in text
    assert text.endswith("real 1.43x.")
    assert {"begin", "end", "run", "step"} <= set(str(waterfall_chart(chart_steps(table))).split("'"))


def test_of_more_runs_than_a_figure_holds_a_page_of_them_is_drawn_once():
    def many(count: int, *targets: str):
        made = [row(1000, 700 + n, method=f"m{n}", target=target, stall=0, ideal=400, dense_compute_cycles=800)
                for target in targets for n in range(count)]  # fmt: skip
        return gather(frame(made), None)

    for count, shown in ((MOST_SERIES, MOST_SERIES), (MOST_SERIES + 1, EXAMPLES)):
        contents = many(count, "vitcod", "sparten")
        drawn = [block.draw for block in WATERFALL.blocks(contents.with_cycles) if isinstance(block, Drawing)]
        assert [draw is not None for draw in drawn] == [True, count <= MOST_SERIES]
        labels = [label.get_text() for label in drawn[0]().axes[0].get_yticklabels()]
        assert labels == [f"m{n} 2:4" for n in range(shown)]


def test_what_wastes_less_than_the_unpruned_layer_gains():
    table = steps(row(1000, 440, stall=0, dense_compute_cycles=1000))
    assert table.set_index("step").loc["imbalance", "lost_share"] == pytest.approx(-0.06)


def test_without_zeros_cycles_or_a_layer_that_runs_there_is_none():
    whole = row(100, 100, nnz=40, sparsity=0.0)
    assert steps(whole, kernel(10, 5, layer="k"), barred()).empty
