"""How a sweep is cut: every layer and design once, in the order of one go, whatever the sizes."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.entries import MOST_TRIED, design_count, targets_of, tried_of
from studies.running import store as module
from studies.running.spans import read_part, spans
from studies.running.store import Store
from studies.study import StudyAccelerator
from workloads import UserError


@given(layers=st.integers(1, 40), designs=st.integers(1, 60), job_rows=st.integers(1, 90))
def test_pieces_in_their_order_are_all_rows_in_theirs(layers, designs, job_rows):
    found = spans(layers, designs, job_rows)
    whole = [(layer, design) for layer in range(layers) for design in range(designs)]
    rows = [
        (layer, design)
        for span in found
        for layer in range(layers)[span.layers]
        for design in range(designs)[span.designs]
    ]
    assert rows == (whole if layers * designs > job_rows else [])
    sizes = [len(range(layers)[s.layers]) * len(range(designs)[s.designs]) for s in found]
    assert all(1 <= size <= job_rows for size in sizes)
    assert not found or len(found) > 1


def swept(rows: int, bandwidths: int) -> StudyAccelerator:
    sweep = {"array.rows": [8 + n for n in range(rows)], "dram.bandwidth_gbps": [10 + n for n in range(bandwidths)]}
    return StudyAccelerator("systolic", sweep=sweep)


def test_of_a_large_sweep_every_value_is_tried_once_and_of_a_small_one_every_design():
    assert len(tried_of(swept(3, 4))) == design_count(swept(3, 4)) == 12
    large = swept(40, 30)
    assert design_count(large) == 1200 > MOST_TRIED
    assert len(tried_of(large)) == 40 + 30 - 1
    with pytest.raises(UserError, match="bandwidth"):
        tried_of(StudyAccelerator("systolic", sweep={**large.sweep, "dram.bandwidth_gbps": [*range(1, 30), -1]}))


def test_designs_of_a_span_are_those_of_the_whole_sweep():
    every = [target.settings for target in targets_of(swept(3, 4))]
    assert [target.settings for target in targets_of(swept(3, 4), slice(5, 9))] == every[5:9]


def test_parts_come_back_as_they_were_in_either_form_and_say_what_they_need(tmp_path, monkeypatch):
    frame = pd.DataFrame({"a": [0.1, float("nan")], "b": ["=1", ""]})
    Store(tmp_path).make_rows("s/0", "k", lambda: frame, "parquet")
    file = Store(tmp_path).rows_file("s/0", "k", "parquet")
    pd.testing.assert_frame_equal(read_part(file), frame)
    assert Store(tmp_path).rows_file("s/0", "other", "parquet") is None

    def absent(*_, **__):
        raise ImportError

    monkeypatch.setattr(module.pd.DataFrame, "to_parquet", absent)
    with pytest.raises(UserError, match=r"lacks pyarrow: pip install 'prunesim\[parquet\]'"):
        Store(tmp_path).make_rows("s/1", "k", lambda: frame, "parquet")
