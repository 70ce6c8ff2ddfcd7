"""What runs on CUDA, as far as it can be followed without a card: tensors without data give every call its shapes and
types by PyTorch's own meta registrations, which also hold the arguments to its signatures. They are on the meta device,
which takes the paths of CUDA; and fake ones on a "cuda" device, for what a build without CUDA can do with these.

What has none, cuSPARSELt's compression and searches, is bound to its schema and answered by its documentation:
compressed weights keep the rows, and 9/16 of the bytes in 16 bits, 10/16 in 8 (torch/sparse/semi_structured.py).
"""

import inspect
import math
import subprocess

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from measurement import blocks, environment
from measurement import kernels as k
from measurement.measure import Device, Procedure, case, cuda_device
from measurement.problem import Operands, Problem
from tests.measurement.stand_ins import FakeClock
from tests.measurement.test_blocks import CONFIG
from workloads.errors import UserError

H100 = (9, 0)


def bound(name: str, args, kwargs) -> None:
    """Raises AssertionError for what the operator's schema does not take."""
    arguments = getattr(torch.ops.aten, name).default._schema.arguments
    assert len(args) <= len(arguments)
    assert set(kwargs) <= {each.name for each in arguments[len(args) :]}
    needed = [each.name for each in arguments if not each.has_default_value()]
    assert set(needed) <= {each.name for each in arguments[: len(args)]} | set(kwargs)


def empty(rows: int, cols: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty((rows, cols), dtype=dtype, device="meta")


@pytest.fixture
def cuda(monkeypatch):
    """What stands in for operators without a meta registration; which of them were called."""
    called = []

    def compress(*args, **kwargs):
        bound("_cslt_compress", args, kwargs)
        called.append("_cslt_compress")
        (weight,) = args
        return empty(weight.shape[0], weight.shape[1] * (9 if weight.itemsize == 2 else 10) // 16, weight.dtype)

    def search(*args, **kwargs):
        bound("_cslt_sparse_mm_search", args, kwargs)
        called.append("_cslt_sparse_mm_search")
        return 3

    def int4(*args, **kwargs):
        """Its registration is for fake tensors alone (below)."""
        bound("_weight_int4pack_mm", args, kwargs)
        x, packed, group, scales_zeros = args
        assert packed.shape == (scales_zeros.shape[1] // 8, x.shape[1] // (8 * 16), 32, 4)
        assert scales_zeros.shape == (x.shape[1] // group, scales_zeros.shape[1], 2)
        return empty(len(x), scales_zeros.shape[1], x.dtype)

    def from_dense(weight):
        """Of CUTLASS: half of the values, and a 16-bit word of metadata for 16 (8 bits: 32) of them."""
        packed = empty(weight.shape[0], weight.shape[1] // 2, weight.dtype)
        meta = empty(weight.shape[0], weight.shape[1] // 16, torch.int16)
        return type("Packed", (), {"packed": packed, "meta": meta})

    monkeypatch.setattr(torch, "_cslt_compress", compress)
    monkeypatch.setattr(torch, "_cslt_sparse_mm_search", search)
    monkeypatch.setattr(torch, "_weight_int4pack_mm", int4)
    monkeypatch.setattr(torch.backends.cusparselt, "is_available", lambda: True)
    monkeypatch.setattr(torch.sparse.SparseSemiStructuredTensorCUTLASS, "from_dense", from_dense)
    return called


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("tokens", [1, 16, 40])
@pytest.mark.parametrize("name", k.NAMES)
def test_shapes_and_types_of_every_kernel(cuda, name, tokens, dtype):
    (kernel,) = k.find_kernels([name])
    problem = Problem(128, 256, tokens, dtype)
    if reason := kernel.refuses(problem, H100):
        assert (name, dtype) == ("int4", "fp16"), reason
        return
    inputs = torch.empty((tokens, 256), device="meta")
    weight = torch.empty((128, 256), device="meta")
    prepared = kernel.prepare(problem, Operands(inputs, weight, weight))
    for call in (prepared.call, *(call for _, call in prepared.alternatives)):
        output = prepared.result(call())
        assert output.device.type == "meta"
        assert output.shape == (prepared.inputs.shape[0], 128)
        assert output.dtype == (torch.int32 if name.startswith("int8") else problem.torch_dtype)
    assert prepared.inputs.device.type == prepared.weight.device.type == "meta"
    assert ("_cslt_compress" in cuda) == (name in ("cusparselt24", "int8-24", "fp8-24"))
    if name == "cusparselt24":
        assert [each for each, _ in prepared.alternatives] == ["alg_id=0", "alg_id=3"]


@pytest.mark.parametrize(("name", "tokens"), [("dense", 16), ("fp8", 16), ("int8", 40)])
def test_fake_tensors_on_cuda(name, tokens):
    with FakeTensorMode():
        (kernel,) = k.find_kernels([name])
        weight = torch.empty((128, 256), device="cuda")
        operands = Operands(torch.empty((tokens, 256), device="cuda"), weight, weight)
        prepared = kernel.prepare(Problem(128, 256, tokens, "bf16"), operands)
        output = prepared.call()
        assert (output.device.type, tuple(output.shape)) == ("cuda", (tokens, 128))


def test_fake_weights_of_four_bits_on_cuda():
    with FakeTensorMode():
        codes = torch.empty((256, 128), dtype=torch.uint8, device="cuda")
        packed = torch._convert_weight_to_int4pack(codes, k.Int4.tiles)
        assert packed.shape == (32, 2, 32, 4)
        both = torch.empty((2, 256, 2), dtype=torch.bfloat16, device="cuda")
        x = torch.empty((40, 256), dtype=torch.bfloat16, device="cuda")
        assert torch._weight_int4pack_mm(x, packed, 128, both).shape == (40, 256)


def test_the_search_of_builds_with_cusparselt_is_asked_as_they_define_it(cuda, monkeypatch):
    """torch/csrc/cuda/shared/cusparselt.cpp: mm_search(compressed_A, dense_B, bias, alpha, out_dtype, transpose_result)
    -> (alg_id, split_k, split_k_mode, max_alg_id)."""

    class Library:
        @staticmethod
        def mm_search(compressed, dense, bias, alpha, out_dtype, transpose_result):
            assert bias is alpha is None
            assert transpose_result is True
            return 4, 2, 1, 9

    monkeypatch.setattr(torch._C, "_cusparselt", Library, raising=False)
    weight = torch.empty((128, 256), device="meta", dtype=torch.float16)
    library = k.CuSparseLtLibrary()
    found = library.search(library.compress(weight), torch.empty((256, 16), device="meta", dtype=torch.float16), None)
    assert found == (4, 2, 1)


@pytest.mark.parametrize("newer", [True, False])
def test_a_library_that_cannot_search_runs_its_default(cuda, monkeypatch, newer):
    """Whichever of the two calls a build has."""

    def fails(*args, **kwargs):
        raise RuntimeError("cuSPARSELt not supported on your machine.")

    library = type("Library", (), {"mm_search": staticmethod(fails)} if newer else {})
    monkeypatch.setattr(torch._C, "_cusparselt", library, raising=False)
    monkeypatch.setattr(torch, "_cslt_sparse_mm_search", fails)
    weight = empty(128, 256, torch.float16)
    assert k.CuSparseLtLibrary().search(weight, empty(256, 16, torch.float16), None) == (0, 1, -1)


def test_the_device_of_a_card(monkeypatch):
    properties = type("P", (), {"L2_cache_size": 100 << 20})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: H100)
    with FakeTensorMode():
        device = cuda_device()
        buffer = device.clock._buffer
    assert (device.name, device.capability) == ("cuda", H100)
    assert (buffer.device.type, buffer.numel() * buffer.itemsize) == ("cuda", 400 << 20)  # four times the cache


@pytest.mark.parametrize("broken", [False, True])
def test_a_kernel_that_fails_on_a_card_is_a_row_unless_the_card_fails(cuda, monkeypatch, broken):
    import measurement.measure as loop

    asked = []

    def synchronize():
        asked.append("synchronize")
        if broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def fails(output):
        raise RuntimeError("no such kernel")

    shapes = ((16, 256), (128, 256), (128, 256))
    monkeypatch.setattr(loop, "draw", lambda problem, device, seed: Operands(*(empty(*shape) for shape in shapes)))
    monkeypatch.setattr(loop, "reference_error", lambda prepared, output: 0.0)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: asked.append("empty_cache"))
    device = Device("cuda", H100, FakeClock(fails), lambda: {"sm_mhz": 1.0})
    (dense,) = k.find_kernels(["dense"])
    problem = Problem(128, 256, 16, "bf16")
    if broken:
        with pytest.raises(UserError, match=r"dense, .*: the GPU failed"):
            case(device, problem, dense, Procedure("bf16"))
    else:
        row = case(device, problem, dense, Procedure("bf16"))
        assert (row["feasible"], row["reason"]) == (False, "does not run: no such kernel")
    assert "synchronize" in asked
    assert asked[-1] == "empty_cache"


def test_a_model_that_the_card_has_no_room_for(monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_config", full)
    with pytest.raises(UserError, match=r"does not fit the GPU .*; measure a block"):
        blocks.build(CONFIG, blocks.Scenario("bf16", "prefill", 1, 8), "meta")


@pytest.mark.parametrize("failure", [OSError(), subprocess.TimeoutExpired("nvidia-smi", 20)])
def test_a_card_whose_tool_does_not_answer_has_no_telemetry(monkeypatch, failure):
    def fails(*args, **settings):
        raise failure

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: type("P", (), {}))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(environment.subprocess, "run", fails)
    assert all(math.isnan(value) for value in environment.telemetry().values())


def test_the_loop_on_a_device_without_data(cuda, monkeypatch):
    """All of a case but the numbers: operands, algorithms, clock, row."""
    import measurement.measure as loop

    empty = Operands(*(torch.empty(shape, device="meta") for shape in ((16, 256), (128, 256), (128, 256))))
    monkeypatch.setattr(loop, "draw", lambda problem, device, seed: empty)
    monkeypatch.setattr(loop, "reference_error", lambda prepared, output: 0.0)
    device = Device("meta", H100, FakeClock(lambda output: float(output.shape[0])), lambda: {"sm_mhz": 1.0})
    for kernel in k.find_kernels(k.NAMES):
        row = case(device, Problem(128, 256, 16, "bf16"), kernel, Procedure("bf16"))
        assert row["feasible"], row["reason"]
        assert row["cold_us"] == (32.0 if kernel.name == "int8" else 16.0)  # as many tokens as it pads to


def test_a_block_on_a_device_without_data(cuda, monkeypatch):
    """Decode, behind the prefill that fills the cache; a prefill without a cache asks its data for the mask."""
    shapes = []
    clock = FakeClock(lambda output: shapes.append((tuple(output.shape), output.device.type)) or 5.0)
    monkeypatch.setattr(blocks, "linear_error", lambda linear, weight: 0.0)
    monkeypatch.setattr(blocks, "keep_of_four", lambda weight, kept: weight)
    scenario = blocks.Scenario("bf16", "decode", 2, 16)
    rows = list(blocks.end_to_end(Device("meta", H100, clock, dict), CONFIG, scenario, {"same": lambda weight: weight}))
    assert [row["feasible"] for row in rows] == [True, True], rows[-1]["reason"]
    assert set(shapes) == {((2, 1, 64), "meta")}


def test_what_is_asked_of_torch_cuda_is_there():
    """Names and arguments of this PyTorch, by their signatures."""
    inspect.signature(torch.cuda.Event.__new__).bind(torch.cuda.Event, enable_timing=True)
    inspect.signature(torch.cuda.Event.elapsed_time).bind(None, None)
    inspect.signature(torch.cuda.graph.__init__).bind(None, None)
    inspect.signature(torch.cuda.Stream.wait_stream).bind(None, None)
    for name in ("CUDAGraph", "current_stream", "stream", "synchronize", "get_device_properties", "current_device"):
        assert hasattr(torch.cuda, name)
    assert callable(torch.cuda.CUDAGraph.replay)
    assert callable(torch.backends.cusparselt.version)


def test_a_card_is_described(monkeypatch):
    """With what a card would answer in place of it."""
    properties = type("P", (), {
        "name": "NVIDIA H100 PCIe", "major": 9, "minor": 0, "multi_processor_count": 114, "total_memory": 1 << 36,
        "L2_cache_size": 50 << 20, "uuid": "ab-cd",
    })  # fmt: skip
    asked = []

    def answer(command, **settings):
        asked.append(command)
        fields = command[1].partition("=")[2].split(",")
        return type("Done", (), {"stdout": ", ".join(f"{number} MHz" for number, _ in enumerate(fields)) + "\n"})

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(environment.subprocess, "run", answer)
    monkeypatch.setattr(environment, "yardsticks", lambda clock: {"copy_gbps": 1.0})
    found = environment.describe(FakeClock())
    assert (found["gpu"], found["compute_capability"], found["l2_bytes"]) == ("NVIDIA H100 PCIe", "9.0", 50 << 20)
    assert found["smi"]["driver_version"] == "1 MHz"
    assert asked[0][-1] == "--id=GPU-ab-cd"
    assert environment.telemetry() == {"sm_mhz": 0.0, "power_w": 1.0, "temperature_c": 2.0}
