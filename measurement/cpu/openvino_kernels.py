"""OpenVINO's kernels for one linear layer on a CPU (the extra `openvino`): dense in fp32, bf16 and int8, and int8
weights whose zeros are packed away.

Sources: OpenVINO 2026.4's Python interface and its documentation of the CPU plugin. With
CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE the non-zero weights are packed when a model is compiled and unpacked in front of
the dense kernel, so that fewer bytes come from memory; every product is still made. That takes AMX, weights and inputs
in 8 bits, and rows and columns that are multiples of 64; elsewhere the plugin runs dense and says so only in the name
of the primitive that ran, which is therefore read and is part of a row's `variant`.

A model is one FullyConnected with operands that are there; 8-bit kernels quantize their inputs in it, at every call,
over the range of these very inputs, and bf16 rounds them. A call from Python takes about 11 us on top.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from measurement.cpu.clock import stay_together
from measurement.cpu.host import cpu_flags
from measurement.cpu.masks import kept_by_pattern
from measurement.cpu.numbers import FP32_TOLERANCE, QUANTIZED_INPUTS, to_int8_rows
from measurement.kernels import Prepared, float_tolerance
from measurement.problem import Operands, Problem
from workloads.patterns import DENSE, UNSTRUCTURED

LAYER, PRIMITIVE = "FullyConnected", "primitiveType"  # what the plugin calls a layer, and where it names its kernel
MULTIPLE = 64
PACKED = "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE"
NO_AMX = (
    "OpenVINO unpacks sparse weights with AMX, and this CPU has no amx_int8 or its system does not tell; it would run "
    "them dense, as openvino-int8 does"
)


class OpenVino:
    """Dense, in the type of the problem."""

    name: ClassVar[str] = "openvino"
    masks: ClassVar[str] = DENSE

    def refuses(self, problem: Problem) -> str:
        return ""

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        return in_float(operands, problem.torch_dtype)


class OpenVinoBf16(OpenVino):
    """The same in bf16, beside a dense layer of fp32."""

    name: ClassVar[str] = "openvino-bf16"

    def refuses(self, problem: Problem) -> str:
        return "the kernel openvino is in bf16 already" if problem.dtype == "bf16" else ""

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        return in_float(operands, torch.bfloat16)


class OpenVinoInt8(OpenVino):
    """Weights in 8 bits with a scale a row, inputs in 8 bits with one scale."""

    name: ClassVar[str] = "openvino-int8"

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        return in_int8(operands.inputs, operands.weight, {})


class OpenVinoSparse(OpenVino):
    """The same with a mask on the weights, whose zeros are packed away."""

    name: ClassVar[str] = "openvino-sparse"
    masks: ClassVar[str] = UNSTRUCTURED

    def refuses(self, problem: Problem) -> str:
        if "amx_int8" not in cpu_flags():
            return NO_AMX
        if problem.out_features % MULTIPLE or problem.in_features % MULTIPLE:
            shape = f"{problem.out_features}x{problem.in_features}"
            return f"OpenVINO packs weights whose rows and columns are multiples of {MULTIPLE}, the layer is {shape}"
        return ""

    def prepare(self, problem: Problem, operands: Operands) -> Prepared:
        weight = kept_by_pattern(operands.weight, problem.pattern, problem.density)
        prepared = in_int8(operands.inputs, weight, {PACKED: 0.0})  # from a share of zeros of 0 on: always
        if "sparse" not in prepared.variant:
            raise RuntimeError(f"OpenVINO ran these weights dense: {prepared.variant}")
        return prepared


KERNELS = (OpenVino, OpenVinoBf16, OpenVinoInt8, OpenVinoSparse)


def in_float(operands: Operands, dtype: torch.dtype) -> Prepared:
    from openvino import opset13 as ops

    short = {torch.float32: "f32", torch.bfloat16: "bf16"}[dtype]
    inputs, weight = operands.inputs.to(dtype), operands.weight.to(dtype)
    given = ops.parameter(list(inputs.shape))
    product = ops.matmul(given, ops.constant(weight.float().numpy()), False, True)
    call, ran = compiled(given, product, operands.inputs, len(weight), {"INFERENCE_PRECISION_HINT": short})
    tolerance = FP32_TOLERANCE if dtype == torch.float32 else float_tolerance(dtype)
    return Prepared(call, inputs, weight, tolerance, f"float32 in and out, {ran}")


def in_int8(inputs: Tensor, weight: Tensor, properties: dict[str, Any]) -> Prepared:
    """(tokens, cols) and (rows, cols) float32; the range of `inputs` is that of their quantization."""
    import numpy as np
    from openvino import opset13 as ops

    codes, scales = to_int8_rows(weight)
    given = ops.parameter(list(inputs.shape))
    most = float(inputs.abs().max())
    low, high = (ops.constant(np.float32(end)) for end in (-most * 128 / 127, most))
    quantized = ops.fake_quantize(given, low, high, low, high, 256)
    stored = ops.convert(ops.constant(codes.numpy()), "f32")
    product = ops.matmul(quantized, ops.multiply(stored, ops.constant(scales[:, None].numpy())), False, True)
    call, ran = compiled(given, product, inputs, len(weight), properties)
    variant = f"float32 in and out, inputs quantized in the call, {ran}"
    return Prepared(call, inputs, codes * scales[:, None], QUANTIZED_INPUTS, variant)


def compiled(given: Any, product: Any, inputs: Tensor, rows: int, properties: dict[str, Any]) -> tuple[Any, str]:
    """(what runs it, which version and primitive did), with as many threads as PyTorch has, on the cores that this
    process may use. Raises RuntimeError where OpenVINO took another number."""
    import openvino as ov

    threads = torch.get_num_threads()
    how = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads,
           "ENABLE_CPU_PINNING": False, "CPU_DENORMALS_OPTIMIZATION": True}  # fmt: skip
    model = ov.Core().compile_model(ov.Model([product], [given]), "CPU", {**how, **properties})
    if (took := model.get_property("INFERENCE_NUM_THREADS")) != threads:
        raise RuntimeError(f"OpenVINO takes {took} threads, {threads} are asked for")
    request = model.create_infer_request()
    memory = (inputs, torch.empty(len(inputs), rows))  # a request shares it and does not keep it
    request.set_input_tensor(ov.Tensor(memory[0].numpy(), shared_memory=True))
    request.set_output_tensor(ov.Tensor(memory[1].numpy(), shared_memory=True))

    def call() -> Tensor:
        request.infer(share_outputs=True)
        return memory[1]

    call()
    stay_together()  # its threads begin with the first call
    nodes = [node.get_rt_info() for node in model.get_runtime_model().get_ordered_ops()]
    (ran,) = (node[PRIMITIVE].value for node in nodes if node["layerType"].value == LAYER)
    return call, f"{ran} of OpenVINO {ov.__version__.partition('-')[0]}"
