"""What a refusal says: all of its parts, in one sentence."""

import pytest

from workloads.refusals import Refusal


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (
            Refusal("buffers.weight_kib", 98304, 54272.5, "B", "raise it to 96", "the smallest tile,"),
            "the smallest tile, needs 98,304 B in buffers.weight_kib, which holds 54,272.5 B; raise it to 96",
        ),
        (Refusal("array.width", 3, 0, where="a head"), "a head needs 3 in array.width, which holds 0"),
        (
            Refusal("kind of operation", "attention", "linear", where="blocks.0"),
            "blocks.0 has kind of operation attention, where there is only linear",
        ),
        (
            Refusal("a record", way_out="measure it", where="blocks.0.q"),
            "blocks.0.q needs a record; measure it",
        ),
    ],
)
def test_a_refusal_says_all_of_its_parts(refusal: Refusal, said: str) -> None:
    assert str(refusal) == said
