"""The loop: rows for what runs, what cannot, what is wrong; resume; a clock of our own."""

import pytest
import torch

from measurement import kernels as k
from measurement.environment import number, yardsticks
from measurement.measure import Device, Procedure, case, measure
from measurement.problem import Problem
from measurement.records import KEY, to_frame
from measurement.shapes import Shape
from measurement.timing import Samples, quickest
from tests.measurement.stand_ins import FakeClock, FakeCuSparseLt, machine
from workloads.errors import UserError

FP16 = Procedure("fp16")


def rows_of(*args, **kwargs):
    return [row for rows in measure(*args, **kwargs) for row in rows]


def test_every_shape_token_and_kernel_is_a_row_and_dense_comes_first():
    shapes = [(Shape(64, 64, "2:4"), [1, 16]), (Shape(32, 128, "2:4"), [4])]
    rows = rows_of(machine(), shapes, [k.Int8(), k.CuSparseLt24(FakeCuSparseLt())], FP16)
    assert [(r["out_features"], r["tokens"], r["kernel"]) for r in rows] == [
        (n, t, name) for n, t in ((64, 1), (64, 16), (32, 4)) for name in ("dense", "int8", "cusparselt24")
    ]
    frame = to_frame(rows)
    assert frame["feasible"].all()
    assert (frame["cold_us"] == 10).all()
    assert (frame["warm_us"] == 5).all()
    assert (frame["cold_p10_us"] < frame["cold_us"]).all()
    assert all(len(text.split()) == 50 for text in frame["cold_samples_us"])
    assert frame["sm_mhz"].eq(1755).all()


def test_a_wrong_kernel_is_not_timed():
    clock = FakeClock()
    wrong = k.CuSparseLt24(FakeCuSparseLt("transposed", found=(0, 1, -1)))
    row = case(machine(clock), Problem(64, 64, 64, "fp16"), wrong, FP16)
    assert not row["feasible"]
    assert row["reason"].startswith("wrong result, not timed: off by ")
    assert clock.timed == {"cold": 0, "warm": 0}


def test_what_the_library_refuses_is_a_row_in_one_line():
    refusing = k.CuSparseLt24(FakeCuSparseLt("refuses"))
    row = case(machine(), Problem(64, 64, 8, "fp16"), refusing, FP16)
    assert not row["feasible"]
    assert row["reason"] == "does not run: CUDA error: operation not supported when calling `cusparseLtMatmulPlanInit`"


def test_a_shape_that_does_not_fit_is_a_row_and_nothing_runs():
    library = FakeCuSparseLt()
    row = case(machine(), Problem(40, 64, 8, "fp16"), k.CuSparseLt24(library), FP16)
    assert "multiple of 16" in row["reason"]
    assert not row["feasible"]
    assert library.ran == []


def test_unstructured_masks_are_told_that_nothing_is_faster():
    rows = rows_of(machine(), [(Shape(64, 64, "unstructured"), [8])], [k.CuSparseLt24(FakeCuSparseLt())], FP16)
    assert [row["feasible"] for row in rows] == [True, False]
    assert "no kernel faster than its dense one" in rows[1]["reason"]


def test_a_device_that_failed_stops_the_loop_and_keeps_what_was_measured():
    class Broken(Device):
        def settle(self):
            raise RuntimeError("illegal memory access")

    good = machine()
    broken = Broken(good.name, good.capability, good.clock, good.telemetry)
    with pytest.raises(UserError, match="the GPU failed"):
        case(broken, Problem(64, 64, 8, "fp16"), k.CuSparseLt24(FakeCuSparseLt("refuses")), FP16)


def test_the_quickest_algorithm_is_timed_and_named():
    library = FakeCuSparseLt()
    clock = FakeClock(lambda output: 5.0 if library.ran[-1] == 3 else 8.0)
    row = case(machine(clock), Problem(64, 64, 8, "fp16"), k.CuSparseLt24(library), FP16)
    assert row["cold_us"] == 5.0
    assert "alg_id=3 split_k=2 mode=1 of 2 tried" in row["variant"]
    library = FakeCuSparseLt()
    clock = FakeClock(lambda output: 9.0 if library.ran[-1] == 3 else 8.0)
    row = case(machine(clock), Problem(64, 64, 8, "fp16"), k.CuSparseLt24(library), FP16)
    assert row["cold_us"] == 8.0
    assert "alg_id=0 of 2 tried" in row["variant"]


def test_an_algorithm_that_fails_loses():
    def fails():
        raise RuntimeError("no")

    name, _ = quickest(FakeClock(), [("bad", fails), ("good", lambda: 1)])
    assert name == "good"
    with pytest.raises(RuntimeError, match="no"):
        quickest(FakeClock(), [("bad", fails), ("worse", fails)])


def test_what_is_done_is_not_measured_again():
    shapes = [(Shape(64, 64, "2:4"), [1, 16])]
    first = rows_of(machine(), shapes, [k.Int8()], FP16)
    done = {tuple(row[key] for key in KEY) for row in first[:3]}
    clock = FakeClock()
    again = rows_of(machine(clock), shapes, [k.Int8()], FP16, done)
    assert [(row["tokens"], row["kernel"]) for row in again] == [(16, "int8")]
    everything = {tuple(row[key] for key in KEY) for row in first}
    assert rows_of(machine(), shapes, [k.Int8()], FP16, everything) == []
    assert len(rows_of(machine(), shapes, [k.Int8()], Procedure("bf16"), everything)) == 4


def test_progress_ends_at_its_total():
    seen = []
    rows_of(machine(), [(Shape(32, 32, "2:4"), [1, 2])], [k.Int8()], FP16, (), lambda *step: seen.append(step))
    assert [done for _, done, _ in seen] == [0, 1, 2, 3, 4]
    assert {of for _, _, of in seen} == {4}


@pytest.mark.parametrize(("arguments", "word"), [(("fp32",), "fp16 or bf16"), (("fp16", 49), "at least 50")])
def test_bad_conditions(arguments, word):
    with pytest.raises(UserError, match=word):
        Procedure(*arguments)


def test_percentiles():
    samples = Samples(tuple(float(n) for n in range(1, 102)), "cold")
    assert (samples.p10_us, samples.median_us, samples.p90_us) == (11, 51, 91)


def test_yardsticks_by_arithmetic():
    """With a clock that says 10 us for everything: 2 x 1e6 bytes / 10 us = 200 GB/s; 2 x 100^3 / 10 us = 0.2 TFLOPS."""
    found = yardsticks(FakeClock(), "cpu", copy_bytes=1_000_000, size=100)
    assert found["copy_gbps"] == 200.0
    assert found["matrix_tflops"] == {"fp16": 0.2, "bf16": 0.2}


def test_numbers_of_nvidia_smi():
    assert number("1755 MHz") == 1755
    assert number("[N/A]") != number("[N/A]")
    assert number("") != number("")


def test_compile_passes_through(monkeypatch):
    compiled = []

    def fake(call, dynamic):
        compiled.append(dynamic)
        return call

    monkeypatch.setattr(torch, "compile", fake)
    row = case(machine(), Problem(32, 32, 2, "fp16"), k.Dense(), Procedure("fp16", compile=True))
    assert row["compiled"] == "torch.compile"
    assert compiled == [False]
