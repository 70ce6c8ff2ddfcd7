import xml.etree.ElementTree as ET

import pandas as pd
import pytest

from reports import write_report
from reports.figures.timeline import timeline_figure, timelines_of
from tests.reports.samples import frame, svg_bytes, trace, two_layers

BUSY = [(0.5, 0.75, 0.25), (1.0, 0.5, 0.0)]


def figures(*traces: pd.DataFrame) -> list:
    return [(key, timeline_figure(key, same)) for key, same in timelines_of(pd.concat(traces, ignore_index=True))]


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_visible()]


def test_a_panel_shows_array_and_port_over_the_time_of_the_layer():
    ((key, figure),) = figures(trace(BUSY, settings="array.macs=8"))
    assert (key["layer"], key["settings"], key["tokens"]) == ("layers.0.q", "array.macs=8", 4)
    assert titles(figure) == ["wanda\narray 75 %, DRAM 75 % of the time"]
    array, dram = (patch.get_data() for patch in figure.axes[0].patches)
    assert array.values.tolist() == [0.5, 1.0]
    assert dram.values.tolist() == [1.0, 0.5]
    assert array.edges.tolist() == [0, 2, 4]
    assert "layers.0.q on stc with array.macs=8, 4 tokens" in figure.get_suptitle()
    ET.fromstring(svg_bytes(figure))


def test_every_method_has_a_panel_on_one_axis_of_time():
    ((_, figure),) = figures(trace(BUSY), trace(BUSY * 3, method="besa"))
    assert [title.split("\n")[0] for title in titles(figure)] == ["wanda", "besa"]
    assert {axes.get_xlim() for axes in figure.axes} == {(0, 12)}


def test_masks_of_one_method_are_told_apart_by_what_is_known_of_them():
    ((_, figure),) = figures(trace(BUSY), trace(BUSY))
    assert [title.split("\n")[0] for title in titles(figure)] == ["wanda", "wanda, mask 2"]
    ((_, figure),) = figures(*(trace(BUSY, pattern=p, seed=7) for p in ("2:4", "unstructured")))
    assert [title.split("\n")[0] for title in titles(figure)] == ["wanda 2:4", "wanda unstructured"]
    ((_, figure),) = figures(*(trace(BUSY, pattern="2:4", seed=s) for s in (1, 2)))
    assert [title.split("\n")[0] for title in titles(figure)] == ["wanda seed 1", "wanda seed 2"]


@pytest.mark.parametrize("other", [{"tokens": 8}, {"settings": "a=1"}, {"target": "x"}, {"model": "m"}, {"layer": "y"}])
def test_other_places_are_other_figures(other):
    assert len(figures(trace(BUSY), trace(BUSY, **other))) == 2


def test_a_layer_of_one_step_or_of_no_time_is_drawn():
    for made in (trace([(1.0, 1.0, 0.0)]), trace([(0.0, 0.0, 0.0)] * 3, step_us=0.0)):
        ET.fromstring(svg_bytes(figures(made)[0][1]))


def test_the_report_has_the_figure_and_says_what_it_shows(tmp_path):
    traced = trace(BUSY, method="<b>")
    written = write_report(frame(two_layers()), None, tmp_path, "t", [], timelines=traced)
    assert "figures/tiny-stc-4-tokens-utilisation.svg" in written
    page = written["report.html"].read_text()
    assert "tiny, layers.0.q on stc, 4 tokens" in page
    assert "Utilisation over time" in page
    assert "utilisation.svg" in written["report.md"].read_text()
