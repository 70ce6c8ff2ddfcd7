"""OpenVINO's kernels: against the dense product where it is installed; what it is asked, by a stand-in, everywhere."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from measurement.cpu import openvino_kernels as o
from measurement.cpu.kernels import find_kernels, pattern_of
from measurement.cpu.measure import CpuProcedure, group_rows, groups
from measurement.kernels import reference_error
from measurement.problem import Operands, Problem, draw_whole
from measurement.shapes import ANY, Shape
from studies.measuring import USUAL
from tests.measurement.test_cpu import Turns
from tests.measurement.test_verb import refused
from workloads.errors import UserError

INSTALLED = importlib.util.find_spec("openvino") is not None
DENSE = ("openvino", "openvino-bf16", "openvino-int8")


class Value:
    """A node of the stand-in: what it computes of the inputs it is given later."""

    def __init__(self, of):
        self.of = of


class Operations(ModuleType):
    """The operations that are used, in numpy."""

    parameter = staticmethod(lambda shape: Value(lambda x: x))
    constant = staticmethod(lambda array: Value(lambda x: np.asarray(array)))
    convert = staticmethod(lambda value, dtype: Value(lambda x: value.of(x).astype(np.float32)))
    multiply = staticmethod(lambda a, b: Value(lambda x: a.of(x) * b.of(x)))

    @staticmethod
    def matmul(a, b, first, second):
        assert (first, second) == (False, True)
        return Value(lambda x: a.of(x) @ b.of(x).T)

    @staticmethod
    def fake_quantize(value, low, high, _low, _high, levels):
        def of(x):
            least, most = low.of(x), high.of(x)
            step = (most - least) / (levels - 1)
            return np.clip(np.round((value.of(x) - least) / step), 0, levels - 1) * step + least

        return Value(of)


class StandIn(ModuleType):
    """`asked`: the properties of every model. `ran`: the primitive that it says of one with these properties."""

    __version__ = "2026.4.1-of-a-test"

    def __init__(self, ran, threads=None):
        super().__init__("openvino")
        self.asked, self.ran, self.threads = [], ran, threads
        self.opset13 = Operations("openvino.opset13")

    Tensor = staticmethod(lambda array, shared_memory: array)
    Model = staticmethod(lambda products, given: products[0])

    def Core(self):
        return SimpleNamespace(compile_model=self.compile)

    def compile(self, product, device, properties):
        self.asked.append(properties)
        held = {}
        info = {"layerType": SimpleNamespace(value=o.LAYER), o.PRIMITIVE: SimpleNamespace(value=self.ran(properties))}
        request = SimpleNamespace(
            set_input_tensor=lambda array: held.update(given=array),
            set_output_tensor=lambda array: held.update(output=array),
            infer=lambda share_outputs: held["output"].__setitem__(..., product.of(held["given"])),
        )
        return SimpleNamespace(
            get_property=lambda name: self.threads or properties[name],
            create_infer_request=lambda: request,
            get_runtime_model=lambda: SimpleNamespace(
                get_ordered_ops=lambda: [SimpleNamespace(get_rt_info=lambda: info)]
            ),
        )


@pytest.fixture
def stand_in(monkeypatch):
    def put(ran=lambda asked: "brgemm_avx512_amx_sparse_i8" if o.PACKED in asked else "brgemm", threads=None):
        found = StandIn(ran, threads)
        monkeypatch.setitem(sys.modules, "openvino", found)
        monkeypatch.setattr(o, "cpu_flags", lambda: ["amx_int8"])
        return found

    return put


def prepared(name, tokens=3, rows=64, cols=128, density=0.25):
    kernel = find_kernels([name])[1]
    problem = Problem(rows, cols, tokens, "fp32", "unstructured", density)
    weight, inputs = draw_whole(problem, "cpu")
    with torch.inference_mode():
        return kernel.prepare(problem, Operands(inputs, weight, weight))


@pytest.mark.skipif(not INSTALLED, reason="openvino is not installed")
@pytest.mark.parametrize("name", DENSE)
def test_kernels_meet_the_dense_product(name):
    found = prepared(name, tokens=7, rows=48, cols=80)
    with torch.inference_mode():
        assert reference_error(found, found.call()) <= found.tolerance
        assert reference_error(found, found.call() * 1.5) > found.tolerance
    assert "OpenVINO 20" in found.variant


@pytest.mark.skipif(not INSTALLED, reason="openvino is not installed")
def test_a_mask_that_it_runs_dense_is_told_and_not_timed(monkeypatch):
    if "amx_int8" in o.cpu_flags():
        assert "sparse" in prepared("openvino-sparse").variant
        return
    monkeypatch.setattr(o, "cpu_flags", lambda: ["amx_int8"])  # which OpenVINO itself finds not to be there
    with pytest.raises(RuntimeError, match="ran these weights dense"):
        prepared("openvino-sparse")


@pytest.mark.parametrize("name", [*DENSE, "openvino-sparse"])
def test_what_it_is_asked(stand_in, name):
    library, threads = stand_in(), torch.get_num_threads()
    found = prepared(name)
    with torch.inference_mode():
        assert reference_error(found, found.call()) <= found.tolerance
    (asked,) = library.asked
    assert (asked["INFERENCE_NUM_THREADS"], asked["NUM_STREAMS"]) == (threads, 1)
    assert asked.get("INFERENCE_PRECISION_HINT") == {"openvino": "f32", "openvino-bf16": "bf16"}.get(name)
    assert (o.PACKED in asked) == (name == "openvino-sparse")
    kept = (found.weight != 0).float().mean()
    assert kept == pytest.approx(0.25 if name == "openvino-sparse" else 1.0, abs=0.02)


def test_other_threads_than_asked_for_are_no_time(stand_in):
    stand_in(threads=torch.get_num_threads() + 1)
    with pytest.raises(RuntimeError, match="threads"):
        prepared("openvino")


def test_sparse_weights_without_their_conditions(stand_in, monkeypatch):
    stand_in(ran=lambda asked: "brgemm_avx512_i8")
    shape = Shape(64, 128, ANY, 0.25)
    dense, sparse = group_rows(Turns(), groups([(shape, [1])], find_kernels(["openvino-sparse"]), "fp32")[0],
                               CpuProcedure(rounds=5))  # fmt: skip
    assert dense["feasible"]
    assert not sparse["feasible"]
    assert "ran these weights dense: float32 in and out" in sparse["reason"]
    (_, kernel) = find_kernels(["openvino-sparse"])
    assert "multiples of 64" in kernel.refuses(Problem(96, 128, 1, "fp32", "unstructured", 0.5))
    monkeypatch.setattr(o, "cpu_flags", lambda: ["avx512f"])
    assert "AMX" in kernel.refuses(Problem(64, 128, 1, "fp32", "unstructured", 0.5))
    assert [pattern_of(kernel, pattern) for pattern in ("2:4", "unstructured", "16x16")] == ["2:4", "unstructured", ""]


def test_asked_for_where_it_is_not_installed(monkeypatch, capsys, tmp_path):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else there(name))
    line = refused(capsys, "--shapes", "1,64,64", "--on", "cpu", "--kernels", "openvino-int8", "--out", tmp_path / "o")
    assert "openvino-int8 needs openvino" in line
    assert "pip install 'prunesim[openvino]'" in line
    assert not (tmp_path / "o").exists()
    with pytest.raises(UserError, match="did you mean 'openvino-int8'"):
        USUAL["cpu"].check_kernels(["openvino-int9"])
