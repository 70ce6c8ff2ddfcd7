"""What each layer gets where N:M or a group does not divide its inputs."""

import pytest

from workloads.errors import NotForThisModel, UserError
from workloads.layers import Layer
from workloads.patterns import NofM
from workloads.selectors import Selection
from workloads.treatment import check_fallback, treatment_of

EVEN, ODD, SIX = (Layer(f"b.0.{name}", name, 0, 4, cols) for name, cols in (("q", 16), ("k", 9), ("o", 6)))
LAYERS = [EVEN, ODD, SIX]
HALF = NofM(2, 4)


def test_where_everything_divides_the_fallback_is_nothing() -> None:
    for fallback in ("refuse", "unstructured", "skip"):
        treatment = treatment_of([EVEN], Selection(), HALF, 8, fallback)
        assert treatment.treated == {"b.0.q"}
        assert (treatment.pattern("b.0.q", HALF), treatment.group_size("b.0.q", 8)) == (HALF, 8)
        assert treatment.words(HALF, 8) == []


def test_refuse_names_the_first_matrix_and_the_ways_out() -> None:
    with pytest.raises(
        NotForThisModel, match=r"b\.0\.k: pattern 2:4 needs in_features divisible by 4, not 9; .*`fallback`"
    ):
        treatment_of(LAYERS, Selection(), HALF, 0, "refuse")
    with pytest.raises(NotForThisModel, match=r"b\.0\.o: `group_size=4` does not divide its 6 inputs; .*`fallback`"):
        treatment_of([EVEN, SIX], Selection(), None, 4, "refuse")
    assert treatment_of(LAYERS, Selection(("q",)), HALF, 0, "refuse").treated == {"b.0.q"}  # the others are not asked


def test_unstructured_and_skip() -> None:
    loose = treatment_of(LAYERS, Selection(), HALF, 3, "unstructured")
    assert loose.treated == {"b.0.q", "b.0.k", "b.0.o"}
    assert [loose.pattern(layer.name, HALF) for layer in LAYERS] == [HALF, None, None]
    assert [loose.group_size(layer.name, 3) for layer in LAYERS] == [0, 3, 3]  # 3 does not divide 16
    assert loose.words(HALF, 3) == [
        "2 matrices, e.g. b.0.k: 2:4 does not divide their inputs; pruned unstructured",
        "1 matrices, e.g. b.0.q: `group_size=3` does not divide their inputs; one scale a row",
    ]
    skipped = treatment_of(LAYERS, Selection(), HALF, 0, "skip")
    assert (skipped.treated, skipped.unfit) == ({"b.0.q"}, {"b.0.k", "b.0.o"})
    with pytest.raises(NotForThisModel, match="2:4 fit none of the 2 chosen matrices; `fallback=skip` leaves nothing"):
        treatment_of(LAYERS, Selection((), ("q",)), HALF, 0, "skip")


def test_fallbacks_that_cannot_be() -> None:
    with pytest.raises(UserError, match="unknown fallback 'skp'; did you mean 'skip'"):
        check_fallback("skp", True)
    with pytest.raises(UserError, match="`fallback=skip` has no meaning without an N:M"):
        check_fallback("skip", False)
    check_fallback("refuse", False)
