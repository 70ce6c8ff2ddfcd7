"""The CPU as a device: kernels against the dense product, turns of a clock of our own, noise, rows and break-even."""

import io
import json
import os

import numpy as np
import pandas as pd
import pytest
import torch

from measurement.break_even import density_by_bytes, density_by_times
from measurement.cpu import host
from measurement.cpu import kernels as k
from measurement.cpu.clock import HostClock, pinned
from measurement.cpu.measure import CpuProcedure, group_rows, groups, measure
from measurement.kernels import reference_error
from measurement.problem import Operands, Problem, draw_whole
from measurement.records import Record, read_record, to_frame, write_record
from measurement.rows import RecordTarget
from measurement.shapes import ANY, Shape
from measurement.timing import Samples
from studies import measure as glue
from studies.measuring import USUAL, Wanted, shares
from tests.measurement.test_verb import refused, run
from workloads import BundleHeader, BundleWriter, Layer, PackedMask
from workloads.errors import UserError
from workloads.rows import to_frame as result_frame

FP32 = CpuProcedure(rounds=5)


class Turns:
    """A stand-in for HostClock: each call is made once and takes what `us` says of its place; the median of `noisy`
    places is twice the least, in `situations`."""

    def __init__(self, us=lambda place: 10.0 + place, noisy=(), situations=("cold", "warm")):
        self.us, self.noisy, self.timed, self.situations = us, noisy, 0, situations

    def _samples(self, calls, rounds, factor, situation):
        self.timed += 1
        found = []
        for place, call in enumerate(calls):
            call()
            least = self.us(place) * factor
            others = least * (2.0 if place in self.noisy and situation in self.situations else 1.1)
            found.append(Samples((least, *[others] * (rounds - 1)), "stand-in"))
        return found

    def cold(self, calls, rounds):
        return self._samples(calls, rounds, 1.0, "cold")

    def warm(self, calls, rounds):
        return self._samples(calls, rounds, 0.5, "warm")


def prepared(name: str, tokens: int, dtype: str = "fp32", pattern: str = "unstructured", density: float = 0.25):
    (_, *others) = k.find_kernels([name])
    kernel = others[0] if others else k.Dense()
    problem = Problem(64, 256, tokens, dtype, pattern, density)
    assert kernel.refuses(problem) == ""
    weight, inputs = draw_whole(problem, "cpu")
    with torch.inference_mode():  # as they are measured
        return kernel.prepare(problem, Operands(inputs, weight, weight)), weight, inputs


@pytest.mark.parametrize("tokens", [1, 7])
@pytest.mark.parametrize("name", [name for name in k.NAMES if name != "sparse24" and not name.startswith("openvino")])
def test_kernels_meet_the_dense_product_of_what_they_stand_for(name, tokens):
    (found, weight, inputs) = prepared(name, tokens)
    with torch.inference_mode():
        assert reference_error(found, found.call()) <= found.tolerance
    assert (found.inputs.float() - inputs).abs().max() < 0.02
    kept = {"csr": 0.25, "bsr": 0.25, "smaller": 1.0}.get(name, 1.0)
    assert float((found.weight != 0).float().mean()) == pytest.approx(kept, abs=0.02)
    assert len(found.weight) == (16 if name == "smaller" else 64)
    there = found.weight != 0
    step = {"int4-weights": 0.35, "bf16": 0.02}.get(name, 0.03)
    assert (found.weight.float() - weight[: len(there)])[there].abs().max() < step


@pytest.mark.parametrize("name", ["csr", "bsr", "int8-x86"])
def test_a_wrong_product_is_found(name):
    (found, _, _) = prepared(name, 3)
    with torch.inference_mode():
        assert reference_error(found, found.call() * 1.5) > found.tolerance


def test_the_largest_weights_are_kept():
    (found, weight, _) = prepared("csr", 1)
    kept = found.weight != 0
    assert weight[kept].abs().min() >= weight[~kept].abs().max()
    (found, weight, _) = prepared("csr", 1, pattern="2:4")
    assert ((found.weight.reshape(-1, 4) != 0).sum(1) == 2).all()
    (found, weight, _) = prepared("bsr", 1)
    blocks = (found.weight.reshape(4, 16, 16, 16) != 0).sum((1, 3))
    assert sorted(blocks.flatten().tolist()) == [0] * 48 + [256] * 16


def test_what_does_not_run_says_why():
    (_, sparse24) = k.find_kernels(["sparse24"])
    assert "no CPU kernel for 2:4" in sparse24.refuses(Problem(64, 64, 1, "fp32", "2:4", 0.5))
    assert "16 x 16" in k.Bsr().refuses(Problem(40, 64, 1, "fp32"))
    assert "multiple of 16" in k.Int4Weights().refuses(Problem(64, 64, 1, "fp32"))
    assert "multiple of 16" in k.Int8Weights().refuses(Problem(256, 493, 1, "fp32"))
    assert "bf16 already" in k.Bf16().refuses(Problem(64, 64, 1, "bf16"))
    with pytest.raises(UserError, match="did you mean 'int8-x86'"):
        k.find_kernels(["int8-x68"])


def test_a_group_holds_every_kernel_once_and_masked_ones_for_each_density():
    shapes = [(Shape(64, 64, ANY, density), [1, 4]) for density in (0.5, 0.1)]
    found = groups(shapes, k.find_kernels(USUAL["cpu"].kernels.split(",")), "fp32")
    assert [cases[0].problem.tokens for cases in found] == [1, 4]
    names = [(case.kernel.name, case.problem.pattern, case.problem.density) for case in found[0]]
    assert names[0] == ("dense", "dense", 1.0)
    assert len(names) == len(set(names)) == 6 + 1 + 2 * 3
    assert {name for name in names if name[0] == "csr"} == {("csr", "unstructured", 0.5), ("csr", "unstructured", 0.1)}
    assert ("sparse24", "2:4", 0.5) in names
    of_bundle = groups(
        [(Shape(64, 64, "1:4", 0.25), [1])], [k.Dense(), k.Csr(), k.Bsr(), k.Smaller(), k.None24()], "fp32"
    )
    assert [(case.kernel.name, case.problem.pattern) for case in of_bundle[0]] == [
        ("dense", "dense"), ("csr", "1:4"), ("sparse24", "1:4"),
    ]  # fmt: skip


def rows_of(clock, densities=(0.5, 0.1), names="csr,sparse24"):
    shapes = [(Shape(64, 64, ANY, density), [2]) for density in densities]
    return [row for some in measure(clock, shapes, k.find_kernels(names.split(",")), FP32) for row in some]


def test_rows_hold_the_samples_and_what_does_not_run():
    frame = to_frame(rows_of(Turns()))
    assert frame["kernel"].tolist() == ["dense", "csr", "sparse24", "csr"]
    assert frame["feasible"].tolist() == [True, True, False, True]
    assert frame["cold_samples_us"].iloc[1].split()[0] == "11.000"
    assert frame["density"].tolist() == [1.0, 0.5, 0.5, 0.1]


def test_noise_refuses_a_kernel_and_that_of_the_dense_one_its_whole_group():
    (dense, csr, _, other) = rows_of(Turns(noisy=[1]))
    assert dense["feasible"]
    assert other["feasible"]
    assert csr["reason"].startswith("noisy: half of the cold times are 2.00x the least or more, allowed 1.5x")
    assert "`spread`" in csr["reason"]
    rows = rows_of(Turns(noisy=[0]))
    assert not any(row["feasible"] for row in rows)
    assert "the dense kernel beside it" in rows[1]["reason"]
    cases = groups([(Shape(64, 64, ANY, 0.5), [2])], k.find_kernels(["csr"]), "fp32")[0]
    assert all(row["feasible"] for row in group_rows(Turns(noisy=[0]), cases, CpuProcedure(spread=2.5)))


def test_cold_and_warm_times_are_refused_each_by_their_own_spread(tmp_path):
    """Of one situation alone the other's times stand, in the record and in rows; the dense kernel's noise takes the
    others' times of that situation away."""
    layers = [dict(name="a", role="q", block=0, out_features=64, in_features=64, pattern=ANY, model="toy")]

    def latencies(noisy, situation):
        record = record_of(rows_of(Turns(noisy=noisy, situations=("cold",))), layers)
        write_record(tmp_path / "r.csv", record)
        target = RecordTarget(read_record(tmp_path / "r.csv"), situation)
        frame = result_frame(target.every_row(), extra=target.columns)
        ran = frame[frame["kernel"] != "sparse24"]
        return ran["latency_us"].fillna(0).tolist(), ran["reason"].tolist()

    assert latencies([1], "warm") == ([5.0, 5.5, 6.0], ["", "", ""])
    times, reasons = latencies([1], "cold")
    assert times == [10.0, 0.0, 12.0]
    assert reasons[1].startswith("noisy: half of the cold times are 2.00x the least or more, allowed 1.5x; repeat")
    assert latencies([0], "warm")[0] == [5.0, 5.5, 6.0]
    times, reasons = latencies([0], "cold")
    assert times == [0.0, 0.0, 0.0]
    assert "those of the dense kernel beside it" in reasons[1]


def test_a_wrong_or_failing_kernel_is_not_timed():
    class Wrong(k.Csr):
        def prepare(self, problem, operands):
            found = super().prepare(problem, operands)
            return type(found)(lambda: found.call() * 2, found.inputs, found.weight, found.tolerance, "", found.result)

    class Fails(k.Bsr):
        def prepare(self, problem, operands):
            raise RuntimeError("not built\nfor this")

    cases = groups([(Shape(64, 64, ANY, 0.5), [2])], [k.Dense(), Wrong(), Fails()], "fp32")[0]
    rows = group_rows(Turns(), cases, FP32)
    assert rows[1]["reason"].startswith("wrong result, not timed")
    assert rows[2]["reason"] == "does not run: not built for this"
    assert "cold_us" not in rows[1]


def test_the_clock_takes_turns_and_counts_its_own_time():
    """A clock that calls advance by their cost: 7 us and 300 us; warm samples are of 100 us and more."""
    now, order = [0], []

    def call(us):
        def one():
            now[0] += us * 1000
            order.append(us)

        return one

    clock = HostClock(1 << 10, now=lambda: now[0])
    calls = [call(7), call(300)]
    cold = clock.cold(calls, 3)
    assert order == [7, 300] * 4
    assert [set(each.times_us) for each in cold] == [{7.0}, {300.0}]
    warm = clock.warm(calls, 5)
    assert [each.how for each in warm] == ["14 in a row", "1 in a row"]
    assert [each.least_us for each in warm] == [7.0, 300.0]
    assert warm[0].spread == 1


def test_pinning_is_undone():
    threads = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    with pinned(1) as where:
        assert torch.get_num_threads() == 1
        assert not cores or os.sched_getaffinity(0) == {int(where)}
    assert torch.get_num_threads() == threads
    assert not cores or os.sched_getaffinity(0) == cores


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (dict(dtype="fp16"), "fp32 or bf16"), (dict(rounds=4), "at least 5"), (dict(threads=0), "`threads`"),
        (dict(spread=0.9), "`spread`"), (dict(spread=float("nan")), "`spread`"),
    ],
)  # fmt: skip
def test_bad_conditions(arguments, word):
    with pytest.raises(UserError, match=word):
        CpuProcedure(**arguments)


def test_break_even_by_bytes_is_that_of_the_formats():
    """Closed forms: 4 bytes a dense fp32 weight, 8 a kept one: half, but for a pointer of 4 bytes a row."""
    assert density_by_bytes("csr", 4096, 4096, "fp32") == pytest.approx(0.5, abs=1e-3)
    assert density_by_bytes("csr", 4096, 4096, "bf16") == pytest.approx(0.25, abs=1e-3)
    assert density_by_bytes("csr", 4096, 4096, "int8") == pytest.approx(0.125, abs=1e-3)
    assert density_by_bytes("csr", 3, 4, "fp32") == pytest.approx((4 * 12 - 4 * 4) / (8 * 12))
    assert density_by_bytes("bsr", 32, 32, "fp32") == pytest.approx((4 * 1024 - 12) / (4 * 1028))
    assert density_by_bytes("smaller", 4, 4, "fp32") == 1
    assert density_by_bytes("int8-x86", 4, 4, "fp32") is None


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([(0.1, 2.0), (0.5, 18.0)], "0.30 (between 0.1 and 0.5)"),
        ([(0.5, 18.0), (0.1, 12.0)], "below 0.1"),
        ([(0.1, 2.0), (0.5, 8.0)], "above 0.5"),
        ([(0.1, 12.0), (0.5, 8.0)], "above 0.5"),
        ([], ""),
    ],
)
def test_break_even_by_times(points, said):
    assert density_by_times(points, 10.0) == said


def extended(path, job, kernels, clock) -> Record:
    return glue.extend_record(
        path, job, {}, {"cpu": "Pretend CPU"}, lambda done: measure(clock, job.shapes, kernels, FP32, done)
    )


def record_of(rows, layers, **environment) -> Record:
    header = {
        "source": {},
        "environment": {"cpu": "Pretend CPU", "threads": 2, **environment},
        "model": "toy",
        "layers": layers,
    }
    return Record({**header, "conditions": {"rounds": 5}}, to_frame(rows))


def test_result_rows_take_the_least_time_and_each_kernels_own_mask(tmp_path):
    layers = [dict(name="a", role="q", block=0, out_features=64, in_features=64, pattern=ANY, model="toy")]
    record = record_of(rows_of(Turns(lambda place: [40.0, 30.0, 20.0][place])), layers)
    write_record(tmp_path / "r.csv", record)
    target = RecordTarget(read_record(tmp_path / "r.csv"), "cold")
    frame = result_frame(target.every_row(), extra=target.columns)
    assert set(frame["target"]) == {"Pretend CPU"}
    assert frame["pattern"].tolist() == ["dense", "unstructured", "2:4", "unstructured"]
    assert frame["latency_us"].dropna().tolist() == [40.0, 30.0, 20.0]
    assert frame["speedup"].dropna().tolist() == [1.0, 40 / 30, 2.0]
    assert frame["sparsity"].tolist() == [0.0, 0.5, 0.5, pytest.approx(0.9, abs=0.001)]
    assert frame["spread"].dropna().tolist() == pytest.approx([1.1] * 3)
    assert frame["measured_break_even"].tolist() == ["", "above 0.5", "", "above 0.5"]
    assert set(frame["settings"]) == {f"kernel={n} dtype=fp32 l2=cold threads=2" for n in ("dense", "csr", "sparse24")}
    assert frame.loc[0, "weight_bits"] == 32


def test_a_bundle_is_measured_at_its_own_densities_and_smaller_layers_against_what_they_were(tmp_path):
    writer = BundleWriter(tmp_path / "b", BundleHeader("m", "wanda"))
    mask = np.random.default_rng(0).random((64, 64)) < 0.3
    writer.add(Layer("a", "q", 0, 64, 64), PackedMask.from_dense(mask), "unstructured")
    writer.finish()
    job = glue.open_job(tmp_path / "b", None, [], ANY, "2", [])
    assert [(shape.pattern, shape.density) for shape, _ in job.shapes] == [("unstructured", round(mask.mean(), 2))]
    kernels = k.find_kernels(["csr", "bsr", "smaller", "sparse24"])

    def frame_of(job):
        return glue.rows_of(extended(tmp_path / "r.csv", job, kernels, Turns()), "warm")

    frame = frame_of(job)
    assert frame["kernel"].tolist() == ["dense", "csr"]
    assert set(frame["pattern"]) == {"unstructured"}
    assert frame["latency_us"].tolist() == [5.0, 5.5]
    left = dict(job.layers[0], name="s", out_features=32, pattern="smaller", nnz=32 * 64, unpruned=[64, 64])
    smaller = glue._job("m", [left], [2], [])
    assert [(s.out_features, s.pattern) for s, _ in smaller.shapes] == [(32, "smaller"), (64, "dense")]
    rows = frame_of(smaller).query("layer == 's'")
    assert rows["kernel"].tolist() == ["dense"]
    assert rows["unpruned_out_features"].tolist() == [64]
    assert rows["sparsity"].tolist() == [0.5]
    assert rows["dense_latency_us"].tolist() == [5.0]


def test_what_was_noisy_is_measured_again_and_nothing_else(tmp_path):
    job = glue.open_job(None, None, ["2,64,64", "3,64,64"], ANY, "1", [0.5])
    kernels = k.find_kernels(["csr"])

    def grown(clock):
        return extended(tmp_path / "r.csv", job, kernels, clock).frame

    assert grown(Turns(noisy=[1], situations=("cold",)))["feasible"].all()
    assert not grown(Turns(noisy=[1]))["feasible"].all()
    again = Turns()
    frame = grown(again)
    assert frame["feasible"].all()
    assert len(frame) == 4
    assert again.timed == 2 * 2
    nothing = Turns()
    grown(nothing)
    assert nothing.timed == 0


CPUINFO = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu avx2 avx512f amx_int8 sse\n"


def test_the_machine_is_described(tmp_path):
    assert host.cpu_name(CPUINFO) == "Some CPU @ 2 GHz"
    assert host.cpu_flags(CPUINFO) == ["avx2", "avx512f", "amx_int8"]
    assert host.cpu_name("processor\t: 0\n")
    assert host.cpu_flags("") == []
    for number, size in enumerate(("32K", "1024K", "32768K")):
        (tmp_path / f"index{number}").mkdir()
        (tmp_path / f"index{number}" / "size").write_text(f"{size}\n")
    assert host.last_cache_bytes(tmp_path) == 32 << 20
    assert host.last_cache_bytes(tmp_path / "none") == 32 << 20
    found = host.yardsticks(Turns(lambda place: 10.0), copy_bytes=1_000_000, size=100)
    assert found["copy_gbps"] == 200.0  # 2 x 1e6 bytes in 10 us
    assert found["matrix_gflops"] == {"fp32": 400.0, "bf16": 400.0}  # 2 x 100^3 in 5 us


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setattr("measurement.cpu.clock.HostClock", lambda cache_bytes: Turns())
    monkeypatch.setattr(host, "yardsticks", lambda clock: {})


def test_the_command(stand_in, tmp_path, capsys):
    asked = ("--shapes", "2,64,64", "--on", "cpu", "--kernels", "csr,sparse24", "--density", "0.5", "--runs", "5")
    assert run(*asked, "--out", tmp_path / "o", "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["kernel"] for row in rows] == ["dense", "csr", "sparse24"]
    assert {row["source"] for row in rows} == {"measured"}
    written = pd.read_csv(io.StringIO((tmp_path / "o" / "rows.csv").read_text()))
    assert written["bytes_break_even"].dropna().between(0.45, 0.5).all()
    environment = read_record(tmp_path / "o" / "record.csv").header["environment"]
    assert environment["cpu"]
    assert environment["threads"] == 1
    assert run("--replay", tmp_path / "o" / "record.csv", "--format", "csv") == 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--on", "cpux"), "cpu"),
        (("--on", "cpu", "--dtype", "fp16"), "fp32 or bf16"),
        (("--on", "cpu", "--pattern", "2:4"), "--density"),
        (("--on", "cpu", "--density", "0"), "0.01 to 1"),
        (("--on", "cpu", "--density", "x"), "0.01 to 1"),
        (("--on", "cpu", "--runs", "2"), "at least 5"),
        (("--on", "cpu", "--threads", "999"), "cores"),
        (("--on", "cpu", "--kernels", "int8"), "kernel of the CPU"),
        (("--on", "cpu", "--compile"), "GPU"),
        (("--density", "0.5"), "--on"),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, arguments, word):
    assert word in refused(capsys, "--shapes", "2,64,64", *arguments, "--out", tmp_path / "o")


def test_shares():
    assert shares("0.5, 0.1,0.5", "`density`") == [0.5, 0.1]


def test_names_are_those_of_the_kernels():
    assert tuple(f"{USUAL['cpu'].kernels},{USUAL['cpu'].named}".split(",")) == k.NAMES
    assert Wanted(on="cpu").usual.pattern == ANY
