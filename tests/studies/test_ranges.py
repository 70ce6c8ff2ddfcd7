"""Ranges of sweeps: both ends, whole numbers stay whole, decimals stay exact."""

import pytest

from studies.ranges import spread
from workloads.errors import UserError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("16:64:16", ["16", "32", "48", "64"]),
        ("16:70:16", ["16", "32", "48", "64"]),
        ("16:256:x2", ["16", "32", "64", "128", "256"]),
        ("5:5:1", ["5"]),
        ("0:2:1", ["0", "1", "2"]),
        ("0.1:0.5:0.1", ["0.1", "0.2", "0.3", "0.4", "0.5"]),
        ("12.8:51.2:x2", ["12.8", "25.6", "51.2"]),
        ("1:2:0.5", ["1", "1.5", "2"]),
        ("2:4", ["2:4"]),
        ('"1:2:3"', ['"1:2:3"']),
        ("bitmap", ["bitmap"]),
        ("1e3:4e3:x2", ["1000", "2000", "4000"]),
        ("1:1e3:500", ["1", "501"]),
    ],
)
def test_spread(text, values):
    assert spread(text) == values


@pytest.mark.parametrize("text", ["64:16:16", "1:2:0", "1:2:x1", "1:2:x0.5", "0:8:x2", "0:1000000:1"])
def test_ranges_that_never_end(text):
    with pytest.raises(UserError, match=f"range {text}"):
        spread(text)


@pytest.mark.parametrize("text", ["-1:2:1", "a:b:c", "4:8:x", "16:256:x-2", "1:2:3:4", "nan:8:1"])
def test_what_looks_like_a_range_and_is_none(text):
    with pytest.raises(UserError, match="is written from:to:step, as 16:128:16, or from:to:xfactor"):
        spread(text)
