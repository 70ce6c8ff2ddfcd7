"""Which kind of compression is fastest within a perplexity: expectations are read off the few runs by hand."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.contents import gather
from reports.sections.equal_perplexity import at_equal_perplexity
from reports.tables.equal_perplexity import equal_perplexity, side_by_side
from reports.tables.layers import headline_table
from reports.tables.quality import perplexity_table
from reports.write import write_report
from tests.reports.samples import barred, dense, frame, measured, quality_frame, row


def made(method: str, target: float | str, cycles: int, pattern: str = "unstructured") -> dict:
    pattern, asked = (target, 0.5) if isinstance(target, str) else (pattern, target)
    return row(100, cycles, method=method, pattern=pattern, target_sparsity=asked)


# Speedups 1.25, 2 and 4 of masks, 2.5 of 2:4, 0.8 and 1.25 of smaller matrices; the unpruned model has 10.
ROWS = [
    made("a", 0.3, 80),
    made("a", 0.5, 50),
    made("a", 0.7, 25),
    made("b", "2:4", 40),
    made("c", 0.1, 125, "smaller"),
    made("c", 0.2, 80, "smaller"),
]
QUALITY = [
    dense(10.0),
    measured("a", 0.3, 10.4),
    measured("a", 0.5, 11.0),
    measured("a", 0.7, 30.0),
    measured("b", "2:4", 12.0),
    {**measured("c", 0.1, 10.2), "pattern": "smaller"},
    {**measured("c", 0.2, 14.9), "pattern": "smaller"},
]


def found_of(rows: list[dict], quality: list[dict]) -> pd.DataFrame:
    told = quality_frame(*quality)
    return equal_perplexity(headline_table(frame(rows), told), perplexity_table(told))


def test_the_fastest_of_each_kind_within_each_limit():
    found = found_of(ROWS, QUALITY)
    lines = found[["perplexity_limit_ratio", "kind", "speedup", "run"]].fillna(0.0)
    assert list(lines.itertuples(index=False, name=None)) == [
        (1.05, "masks", 1.25, "a 30 %"), (1.05, "2:4", 0.0, ""), (1.05, "smaller matrices", 0.8, "c 10 %"),
        (1.1, "masks", 2.0, "a 50 %"), (1.1, "2:4", 0.0, ""), (1.1, "smaller matrices", 0.8, "c 10 %"),
        (1.25, "masks", 2.0, "a 50 %"), (1.25, "2:4", 2.5, "b 2:4"), (1.25, "smaller matrices", 0.8, "c 10 %"),
        (1.5, "masks", 2.0, "a 50 %"), (1.5, "2:4", 2.5, "b 2:4"), (1.5, "smaller matrices", 1.25, "c 20 %"),
    ]  # fmt: skip


def test_side_by_side_a_line_is_a_machine_and_a_limit():
    [(model, table)] = side_by_side(found_of(ROWS, QUALITY))
    assert model == "tiny"
    assert list(table["perplexity_limit"]) == [10.5, 11.0, 12.5, 15.0]
    assert list(table["masks@speedup"]) == [1.25, 2.0, 2.0, 2.0]


def test_a_run_that_leaves_layers_out_is_no_candidate():
    """Else 2:4 would be 2.5 times as fast by not running a layer at all."""
    rows = [*ROWS, barred(method="b", pattern="2:4", target_sparsity=0.5)]
    assert set(found_of(rows, QUALITY)["kind"]) == {"masks", "smaller matrices"}


def test_bits_are_a_kind_of_their_own_over_the_unpruned_model_without_them():
    """Its own baseline has the same bits, 50 cycles; that of the others 100."""
    rows = [*ROWS, row(50, 40, method="d", pattern="unstructured", target_sparsity=0.0)]
    quality = [*QUALITY, measured("d", 0.0, 10.3, weight_bits=4.0)]
    lines = found_of(rows, quality)
    of_bits = lines[lines["kind"] == "4-bit weights"]
    assert set(of_bits["run"]) == {"d"}
    assert set(of_bits["speedup"]) == {2.5}


def test_a_step_is_of_the_kinds_of_those_before_it():
    rows = [*ROWS, row(100, 30, method="c + b", pattern="2:4", target_sparsity=0.5)]
    told = quality_frame(*QUALITY, measured("c + b", "2:4", 12.5, weight_bits=4.0))
    found = equal_perplexity(headline_table(frame(rows), told), perplexity_table(told), {"c + b": "c"})
    assert set(found.loc[found["run"] == "c + b 2:4", "kind"]) == {"smaller matrices + 2:4 + 4-bit weights"}


def test_one_kind_alone_is_no_comparison():
    assert found_of(ROWS[:3], QUALITY[:4]).empty
    assert at_equal_perplexity(gather(frame(ROWS), None)) is None  # and nor is anything without perplexities


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(20, 200), st.floats(10, 30)), min_size=1, max_size=6))
def test_a_higher_limit_is_never_slower(runs):
    rows = [made("a", 0.1 * n, cycles) for n, (cycles, _) in enumerate(runs)]
    quality = [measured("a", 0.1 * n, perplexity) for n, (_, perplexity) in enumerate(runs)]
    found = found_of([*rows, ROWS[3]], [dense(10.0), *quality, QUALITY[4]])
    for _, lines in found.groupby("kind"):
        speedups = lines.sort_values("perplexity_limit")["speedup"].fillna(0.0).to_numpy()
        assert (np.diff(speedups) >= 0).all()
        assert (lines["perplexity"].dropna() <= lines["perplexity_limit"][lines["perplexity"].notna()]).all()


def test_a_report_has_the_section_and_its_file(tmp_path):
    write_report(frame(ROWS), quality_frame(*QUALITY), tmp_path, "t", [])
    assert "At equal perplexity" in (tmp_path / "report.html").read_text()
    assert len(pd.read_csv(tmp_path / "equal-perplexity.csv")) == 12
