"""Times of any mask from a record of a few: what was measured, straight lines between, and nothing beyond."""

import pytest

from measurement.by_density import TimesByDensity
from measurement.records import TIMES, Record, to_frame
from measurement.rows import RecordTarget
from workloads.errors import UserError


def case(kernel: str, us: float, pattern: str = "dense", density: float = 1.0, tokens: int = 1, **others) -> dict:
    return {
        "out_features": 64, "in_features": 32, "tokens": tokens, "kernel": kernel, "dtype": "fp32", "pattern": pattern,
        "density": density, "compiled": "", "feasible": True, "reason": "", **dict.fromkeys(TIMES, us),
        "cold_samples_us": f"{us} {us}", "warm_samples_us": f"{us} {us}", **others,
    }  # fmt: skip


def times(*cases: dict, machine: str = "cpu", dtype: str = "") -> TimesByDensity:
    environment = {"cpu": "Chip"} if machine == "cpu" else {"gpu": "Card"}
    header = {"source": {}, "environment": environment, "model": "m", "layers": [], "conditions": {}}
    return TimesByDensity(RecordTarget(Record(header, to_frame(cases)), "cold"), dtype)


CASES = (
    case("dense", 10.0), case("csr", 12.0, "unstructured", 0.5), case("csr", 4.0, "unstructured", 0.1),
    case("bsr", 1.0, "16x16 blocks", 0.1), case("smaller", 1.0, "smaller", 0.1),
    case("int8-weights", 6.0), case("int8-x86", 2.0), case("dense", 80.0, tokens=16),
)  # fmt: skip


@pytest.mark.parametrize(
    ("density", "us", "kernel"),
    [
        (1.0, 10.0, "dense"), (0.9, 10.0, "dense"), (0.5, 10.0, "dense"), (0.4, 10.0, "csr"), (0.3, 8.0, "csr"),
        (0.2, 6.0, "csr"), (0.1, 4.0, "csr"), (0.01, 4.0, "csr"),
    ],
)  # fmt: skip
def test_between_densities_it_is_linear_and_beyond_them_as_measured(density: float, us: float, kernel: str) -> None:
    """csr: 4 at 0.1 and 12 at 0.5, so 2 + 20 d; any mask also runs on the dense kernel, in 10."""
    found = times(*CASES).us(64, 32, 1, density)
    assert found[0] == pytest.approx(us)
    assert found[1] == kernel or us == 10.0


def test_bits_are_of_kernels_whose_inputs_stay_as_they_are() -> None:
    assert times(*CASES).us(64, 32, 1, bits=8) == (6.0, "int8-weights")
    assert times(*CASES).us(64, 32, 1, 0.1, bits=8) == (6.0, "int8-weights")  # zeros gain nothing there
    with pytest.raises(UserError, match="no kernel of 4-bit weights of 64 x 32 at 1 tokens"):
        times(*CASES).us(64, 32, 1, bits=4)


def test_a_pattern_is_of_its_own_kernels_in_the_dense_type() -> None:
    found = times(
        case("dense", 10.0, "2:4"), case("cusparselt24", 7.0, "2:4"), case("int8-24", 3.0, "2:4"), machine="gpu"
    )
    assert found.us(64, 32, 1, 0.5, "2:4") == (7.0, "cusparselt24")
    assert found.us(64, 32, 1, 0.5) == (10.0, "dense")
    assert found.us(64, 32, 1, 0.25, "1:4") == (10.0, "dense")
    assert found.densities == []


def test_what_was_not_measured_is_one_line() -> None:
    noisy = {"feasible": False, "reason": "did not fit"}
    for asked, message in (
        ((32, 64, 1), "has no 32 x 64 in fp32; measure that matrix there"),
        ((64, 32, 4), "has 64 x 32 at 1, 16 tokens, not at 4; measure it with `tokens` 4"),
    ):
        with pytest.raises(UserError, match=message):
            times(*CASES).us(*asked)
    with pytest.raises(UserError, match="no steady dense time of 64 x 32 at 1 tokens"):
        times(case("dense", 1.0, **noisy), case("csr", 4.0, "unstructured", 0.1)).us(64, 32, 1)
    with pytest.raises(UserError, match="has no dense times of bf16; it has fp32"):
        _ = times(*CASES, dtype="bf16").dtype
